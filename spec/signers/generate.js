'use strict';
// Signs requests with the official Node signer and writes a line of JSON for each, for compare.lua:
//
//     node generate.js SEED COUNT
//
// COUNT random requests on which all signers agree; COUNT / 8 more that are made so that Node's
// signer differs in one known way each; and the named cases of differences.js.

const { execFileSync } = require('child_process');
const { BasicCredentials } = require('@huaweicloud/huaweicloud-sdk-core');
const { AKSKSigner } = require('@huaweicloud/huaweicloud-sdk-core/auth/AKSKSigner');
const { DerivedAKSKSigner } = require('@huaweicloud/huaweicloud-sdk-core/auth/DerivedAKSKSigner');
const differences = require('./differences.js');

// ---- signing --------------------------------------------------------------------------------

const seen = {}; // what the signers last made on their way
function watch(signer, method, name) {
    const original = signer[method];
    signer[method] = function (...args) {
        return (seen[name] = original.apply(this, args));
    };
}
watch(AKSKSigner, 'buildCanonicalRequest', 'canonical_request');
watch(AKSKSigner, 'getStringToSign', 'string_to_sign');
watch(DerivedAKSKSigner, 'getStringToSignByInfo', 'string_to_sign');

// The record of a signed request; `wire` are the parts of it that are not as the signer has them.
function sign(given, wire, label) {
    const { region, service } = given.derived || {};
    const credential = new BasicCredentials({ ak: given.ak, sk: given.sk,
        regionId: region, derivedAuthServiceName: service });
    Date.now = () => given.now;
    const { Authorization, ...headers } = (given.derived ? DerivedAKSKSigner : AKSKSigner).sign(
        { method: given.method, endpoint: given.endpoint, queryParams: given.query,
            headers: given.headers, data: given.data }, credential);
    return {
        ...label, algorithm: given.derived ? 'V11-HMAC-SHA256' : 'SDK-HMAC-SHA256',
        method: given.method, path: '/', query: '', headers: Object.entries(headers).flat(),
        body: given.data ? JSON.stringify(given.data) : '', ...wire,
        date: seen.string_to_sign.split('\n')[1], region, service, ak: given.ak, sk: given.sk,
        authorization: Authorization, ...seen,
    };
}

// ---- random values --------------------------------------------------------------------------

let state = 0;
function random() { // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = (n) => Math.floor(random() * n);
const between = (from, to) => from + below(to - from + 1);
const chance = (p) => random() < p;
const pick = (list) => list[below(list.length)];
const times = (n, make) => Array.from({ length: n }, make);
function until(make, accept) {
    for (;;) {
        const value = make();
        if (accept(value)) return value;
    }
}
function shuffle(list) {
    for (let i = list.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
}

const alphanumeric = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const word = (length) => times(length, () => pick(alphanumeric)).join('');
const odd = ['%', '%20', '%2F', '%zz', '+', '&', '=', '"', "'", ' ', ';', '/', '?', '#', '\\', '..',
    '\0', '\x7f', '\u00a0', '\u0130', '\u0301', '\u2028', '\ufdd0', '\ufeff', '\ufffd', '\ufffe',
    '\uffff', '\u{1f511}', '\u{1fffe}', '\u{10ffff}'];
const characters = [
    () => String.fromCharCode(between(0x20, 0x7e)),
    () => String.fromCharCode(between(0x20, 0x7e)),
    () => pick(odd),
    () => String.fromCharCode(below(0x80)),
    () => String.fromCharCode(between(0x80, 0x7ff)),
    () => String.fromCharCode(between(0x800, 0xd7ff)),
    () => String.fromCharCode(between(0xe000, 0xffff)),
    () => String.fromCodePoint(between(0x10000, 0x10ffff)),
];
const text = (max) => (chance(0.3) ? word(below(max)) : times(below(max), () => pick(characters)())
    .join(''));

// Text as it may stand on the wire: all must be encoded but the unreserved and `safe`, all may be.
function encode(string, safe) {
    return [...Buffer.from(string)].map((byte) => {
        const c = String.fromCharCode(byte);
        if (byte < 0x80 && /[\w.~-]/.test(c) && !chance(0.03)) return c;
        if (byte < 0x80 && safe.includes(c) && chance(0.5)) return c;
        const digits = byte.toString(16).padStart(2, '0');
        return '%' + (chance(0.8) ? digits.toUpperCase() : digits);
    }).join('');
}

// ---- the order of the guide -----------------------------------------------------------------

const by_bytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));
const by_units = (a, b) => (a < b ? -1 : Number(a > b));
const by_locale = (a, b) => a.localeCompare(b);
const by = (order) => (a, b) => order(a[0], b[0]) || order(a[1], b[1]);
const by_name = (order) => (a, b) => order(a[0].toLowerCase(), b[0].toLowerCase());
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function canonical_query(parameters) {
    return [...parameters].sort(by(by_bytes))
        .map((pair) => pair.map((part) => AKSKSigner.urlEncode(part)).join('=')).join('&');
}

function canonical_headers(list) {
    return [...list].sort(by_name(by_units)).map(([name, value]) =>
        name.toLowerCase() + ':' + value.replace(/^[ \t]+|[ \t]+$/g, '') + '\n').join('');
}

// ---- random requests ------------------------------------------------------------------------

const escaped = /[\t\n\r "'<>^`{|}]/g; // by Node's url.parse
const hosts = ['csms.cn-north-4.myhuaweicloud.com', 'CSMS.EU-West-101.myhuaweicloud.eu',
    '127.0.0.1:8443', '[::1]:443', 'h', 'csms.example:443', '\u00fcml\u00e4ut.example'];

// A path that Node's signer takes for what it is, but for the characters `escaped`.
function random_path(with_escaped) {
    return until(() => {
        const segments = times(below(7), () => (chance(0.15) ? pick(['', '.', '..', 'v1'])
            : text(9).replace(/[/\\?#]/g, '')));
        const path = segments.map((segment) => '/' + segment).join('') + (chance(0.3) ? '/' : '');
        return (with_escaped ? path : path.replace(escaped, '')).replace(/[\0- \xa0\ufeff]+$/, '');
    }, (path) => !with_escaped || path.search(escaped) >= 0);
}

// [name, value], in no order.
function random_parameters() {
    const names = [];
    times(pick([0, 1, 3, 8]), () => {
        const name = names.length && chance(0.3) ? pick(names) + text(3) : text(8);
        if (!names.includes(name)) names.push(name);
    });
    return names.flatMap((name) => times(chance(0.7) ? 1 : between(2, 5), () => [name,
        chance(0.2) ? '' : chance(0.1) ? String(pick([0, -1.5, 1e21, true, false])) : text(12)]));
}

function query_object(parameters) {
    const query = Object.create(null); // for "__proto__"
    for (const [name, value] of parameters) {
        if (Array.isArray(query[name])) query[name].push(value);
        else if (name in query) query[name] = [query[name], value];
        else query[name] = chance(0.2) ? [value] : value;
    }
    return chance(0.02) && parameters.length === 0 ? undefined : query;
}

function wire_query(parameters) {
    const safe = "!$'()*+,;:@/?";
    return shuffle([...parameters]).map(([name, value]) => {
        const pair = encode(name, safe) + '=' + encode(value, safe + '=');
        const short = value === '' && name !== '' && chance(0.3) ? pair.slice(0, -1) : pair;
        return (chance(0.03) ? '&' : '') + short;
    }).join('&') + (chance(0.03) ? '&' : '');
}

const random_case = (name) => [...name].map((c) => (chance(0.5) ? c.toUpperCase() : c)).join('');
const known = ['accept', 'content-type', 'user-agent', 'x-project-id', 'x-domain-id',
    'x-request-id', 'x-sdk-date-2', 'x-sdk', 'hos', 'hosts'];
const special = ['host', 'x-sdk-date', 'x-sdk-content-sha256', '__proto__'];
const blankable = ([name]) => ![...special, 'content-type'].includes(name.toLowerCase());

function random_name(names, signs) {
    const alphabet = alphanumeric + signs;
    if (chance(0.3)) return chance(0.5) ? pick(known) : random_case(pick(known));
    const tail = times(between(1, 6), () => pick(chance(0.3) ? signs : alphabet)).join('');
    return (names.length && chance(0.4) ? pick(names) : pick(['x-', 'X-', ''])) + tail;
}

function random_value(name) {
    if (name === 'content-type') {
        return pick(['application/json', 'application/json;charset=UTF-8', 'text/plain',
            'multipart/form-data', 'multipart/form-data; boundary=' + word(9)]);
    }
    return chance(0.4) ? word(between(1, 40))
        : text(20).replace(/[\0-\x08\x0a-\x1f\x7f]/g, '').replace(/^[ \t]+|[ \t]+$/g, '');
}

// [name, value]; besides these Node's signer adds a host and maybe a date.
function random_headers() {
    const names = [];
    const signs = chance(0.7) ? '-' : "-_.!#$%&'*+^`|~";
    times(pick([0, 2, 5, 14]), () => {
        const name = random_name(names, signs);
        if (!names.includes(name) && !special.includes(name.toLowerCase())) names.push(name);
    });
    const list = names.map((name) => [name, random_value(name)]);
    if (chance(0.2)) list.push(['X-Security-Token', word(between(100, 2000))]);
    if (chance(0.2)) {
        list.push(['X-Sdk-Content-Sha256', pick(['UNSIGNED-PAYLOAD', word(64), 'a b'])]);
    }
    if (chance(0.2)) list.push(['host', pick(hosts)]);
    return shuffle(list);
}

function random_date(now) {
    const iso = new Date(now).toISOString().slice(0, 19);
    return chance(0.9) ? iso.replace(/[-:]/g, '') + 'Z' : iso + pick(['Z', '+00:00', '-09:30']);
}

function random_data(depth = 0) {
    const string = () => (chance(0.1) ? '\ud800' : '') + text(chance(0.05) ? 5000 : 30);
    const nested = [
        () => times(below(4), () => random_data(depth + 1)),
        () => Object.fromEntries(times(below(5), () => [text(8), random_data(depth + 1)])),
    ];
    if (depth === 0 && chance(0.4)) return undefined;
    if (depth === 0 && chance(0.9)) return pick(nested)();
    return pick([string, () => random() * 1e9, () => true, () => null,
        ...(depth < 4 ? nested : [])])();
}

const visible = (max) =>
    times(between(1, max), () => String.fromCharCode(between(0x21, 0x7e))).join('');
const key_pairs = () => times(8, (_, i) => (i < 6
    ? { ak: word(20), sk: word(pick([40, 64, 65, 100])) }
    : { ak: visible(30), sk: visible(90) }));

const no_nul = (string) => string.replace(/\0/g, '');
const ways = ['path', 'blanks', 'header order', 'query order'];

// A request on which all signers agree, or one where Node's differs in the given way.
function random_request(pairs, way, label) {
    const path = random_path(way === 'path');
    const parameters = until(random_parameters, (list) => (way === 'query order') !== same(
        [...list].sort(by(by_units)), [...list].sort(by(by_bytes))));
    const headers = until(random_headers, (list) => {
        const all = [...list, ['host', ''], ['X-Sdk-Date', '']];
        return (way !== 'blanks' || list.some(blankable)) && (way === 'header order') !== same(
            [...all].sort(by_name(by_locale)), [...all].sort(by_name(by_units)));
    });
    const now = Date.UTC(2000, 0, 1) + below(100 * 365 * 86400) * 1000;
    if (chance(0.9)) headers.push(['X-Sdk-Date', random_date(now)]);
    if (way === 'blanks') {
        const header = pick(headers.filter(blankable));
        header[1] = pick(['', ' ', '\t', ' \t ']) + header[1] + pick([' ', '\t', '\t  ']);
    }
    const wire = {
        path: path.split('/').map((segment) => encode(segment, "!$&'()*+,;=:@")).join('/'),
        query: wire_query(parameters),
    };
    const record = sign({
        method: pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'get']),
        endpoint: pick(['http', 'https']) + '://' + pick(hosts) + path,
        query: query_object(parameters), headers: Object.fromEntries(headers), data: random_data(),
        derived: chance(0.3) && { region: pick(['cn-north-4', 'globe', no_nul(text(9)) + 'r']),
            service: pick(['csms', 'kms', no_nul(text(9)) + 's']) }, now, ...pick(pairs),
    }, wire, label);
    const signed = record.headers.flatMap((name, i, list) => (i % 2 ? [] : [[name, list[i + 1]]]));
    const encoded = path.replace(escaped, (c) =>
        '%' + c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0'));
    const differs = {
        'path': { uri: { node: AKSKSigner.CanonicalURI(encoded),
            ours: AKSKSigner.CanonicalURI(path) } },
        'blanks': { headers: { ours: canonical_headers(signed) } },
        'header order': { headers: { ours: canonical_headers(signed) } },
        'query order': { query: { ours: canonical_query(parameters) } },
    };
    return { ...record, differs: differs[way] };
}

// The order shows only in what is signed: not between two headers whose names differ in case.
function differing_request(pairs, way, label) {
    return until(() => random_request(pairs, way, label), (record) => way !== 'header order'
        || !record.canonical_request.includes('\n' + record.differs.headers.ours));
}

// ---- all of it ------------------------------------------------------------------------------

const write = (record) => process.stdout.write(JSON.stringify(record) + '\n');

function sign_case({ name, given, wire, differs, refused }) {
    const now = Date.UTC(2026, 0, 2, 3, 4, 5);
    const headers = { 'X-Sdk-Date': '20260102T030405Z', ...given.headers };
    write(sign({ method: 'POST', endpoint: 'https://csms.example', ak: 'AK', sk: 'SK', now,
        ...given, headers }, wire, { name, differs, refused }));
}

function main(seed, count) {
    state = Number(seed) | 0;
    const pairs = key_pairs();
    for (let index = 0; index < count; index++) {
        write(random_request(pairs, undefined, { seed, index }));
    }
    for (let i = 0; i < Math.floor(count / 8); i++) {
        const way = ways[i % ways.length];
        write(differing_request(pairs, way, { seed, index: Number(count) + i, way }));
    }
    for (const difference of differences) {
        if (!difference.locale) sign_case(difference);
        else process.stdout.write(execFileSync(process.execPath, [__filename, difference.name],
            { env: { ...process.env, LC_ALL: difference.locale } }));
    }
}

if (process.argv.length === 4) main(process.argv[2], process.argv[3]);
else sign_case(differences.find(({ name }) => name === process.argv[2]));
