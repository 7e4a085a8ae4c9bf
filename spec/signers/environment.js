'use strict';
// What the official Node SDK makes of an environment, for environment.lua. Each line of standard
// input is a JSON object of variables; for each it writes a line of JSON: what its first request
// would send (ak, security_token, project, domain), with which sk, where it would look a project up
// (iam_endpoint), or how it fails (error). Nothing is sent.

const readline = require('readline');
const sdk = '@huaweicloud/huaweicloud-sdk-core';
const { ClientBuilder } = require(sdk + '/ClientBuilder');
const { HttpRequestBuilder } = require(sdk + '/http/IHttpRequestBuilder');
const { Constants } = require(sdk + '/utils/constant');

const own = Object.fromEntries(Object.entries(process.env)
    .filter(([name]) => !name.startsWith('HUAWEICLOUD_')));

// As ClientBuilder.build() does for a client without credentials.
function credentialOf(variables) {
    process.env = { ...own, ...variables };
    try {
        const builder = new ClientBuilder(() => ({ getPath: () => __dirname }));
        return builder.getCredentialFromEnvironment();
    } finally {
        process.env = own;
    }
}

async function outcomeOf(variables) {
    const credential = credentialOf(variables);
    const request = new HttpRequestBuilder().withMethod('POST').withEndpoint('https://csms.example')
        .withUrl('/v1/{project_id}/secrets/name/backup')
        .addHeaders('content-type', 'application/json').build();
    const { headers } = await credential.processAuthRequest(null, request);
    return {
        ak: headers.Authorization.match(/Access=([^]*), SignedHeaders=/)[1],
        sk: credential.sk, security_token: headers['X-Security-Token'],
        project: headers['X-Project-Id'], domain: headers['X-Domain-Id'],
        iam_endpoint: credential.iamEndpoint || Constants.DEFAULT_IAM_ENDPOINT,
    };
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const outcome = await outcomeOf(JSON.parse(line))
            // the SDK's own errors have their text in `field`
            .catch((error) => ({ error: error.field || error.message }));
        console.log(JSON.stringify(outcome));
    }
})();
