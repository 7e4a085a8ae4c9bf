'use strict';
// node_sdk.js CONCURRENCY COUNT: the same backups with the official Node SDK's core, its HTTP
// client and signer; connections warm. Prints seconds and CPU seconds.

const sdk = '@huaweicloud/huaweicloud-sdk-core';
const { BasicCredentials } = require(sdk);
const { HcClient } = require(sdk + '/HcClient');
const { DefaultHttpClient } = require(sdk + '/http/DefaultHttpClient');

const WARM = 512;
const [concurrency, count] = process.argv.slice(2).map(Number);
const { CSMS_ENDPOINT: endpoint, HUAWEICLOUD_SDK_PROJECT_ID: project, HUAWEICLOUD_SDK_AK: ak,
    HUAWEICLOUD_SDK_SK: sk } = process.env;

const client = new HcClient(new DefaultHttpClient({}, [endpoint]), {})
    .withEndpoints([endpoint])
    .withCredential(new BasicCredentials({ ak, sk, projectId: project }));

async function backup(name) {
    const response = await client.sendRequest({
        method: 'POST', url: '/v1/{project_id}/secrets/{secret_name}/backup',
        contentType: 'application/json', queryParams: {}, headers: {}, data: '',
        pathParams: { project_id: project, secret_name: name },
    });
    if (!response.secret_blob) throw new Error('no blob');
    return response.secret_blob;
}

async function run(total) {
    const blobs = {};
    let next = 0;
    async function work() {
        while (next < total) {
            const name = 'secret-' + String(next++).padStart(4, '0');
            blobs[name] = await backup(name);
        }
    }
    await Promise.all(Array.from({ length: concurrency }, work));
}

const cpu = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
};

(async () => {
    await run(WARM);
    const wall = process.hrtime.bigint();
    const used = cpu();
    await run(count);
    const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
    console.log(seconds.toFixed(6), (cpu() - used).toFixed(6));
})();
