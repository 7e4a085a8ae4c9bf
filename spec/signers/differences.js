'use strict';
// Where the official Node signer goes its own way, one input each.
//
// given: what the Node signer gets, beside the defaults of generate.js: endpoint (with the path),
//     query, headers, data, derived.
// wire: the same request as it is sent, where this is not what the signer's answer says:
//     path, query, headers, body.
// differs: the stages of the canonical request (uri, query, headers, names, hash) that differ;
//     `node` is what Node signs, `ours` what the guide and the Python signer sign, or where the
//     two differ, as for "%2F", what the server sees. No stage: both agree.
// refused: what our error says where we sign nothing.

const crypto = require('crypto');

const host = 'https://csms.example';
const hex = (text) => [...Buffer.from(text)]
    .map((byte) => '%' + (byte < 16 ? '0' : '') + byte.toString(16).toUpperCase()).join('');
const printed = (text) => JSON.stringify(text).slice(1, -1)
    .replace(/[\x7f-\uffff]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));

const date = 'x-sdk-date:20260102T030405Z\n';
const fixed = 'host:csms.example\n' + date;
const sha256 = (text) => crypto.createHash('sha256').update(text).digest('hex');

function path(name, given, wire, node, ours) {
    return { name, given: { endpoint: host + given }, wire: { path: wire },
        differs: { uri: { node, ours } } };
}

// `wire` are the headers, null where they are sent as Node's signer answers them.
function header(name, headers, wire, node, ours) {
    const names = (text) => text.match(/^[^:]+/gm).sort().join(';');
    const differs = { headers: { node, ours } };
    if (names(node) !== names(ours)) differs.names = { node: names(node), ours: names(ours) };
    return { name, given: { headers }, wire: wire ? { headers: wire } : {}, differs };
}

module.exports = [
    // A path is text to Node's signer: what is encoded already is encoded again.
    path('an encoded blank', '/a%20b', '/a%20b', '/a%2520b/', '/a%20b/'),
    path('encoded UTF-8', '/%C3%A9', '/%C3%A9', '/%25C3%25A9/', '/%C3%A9/'),
    path('an encoded letter', '/%41', '/%41', '/%2541/', '/A/'),
    // Python replaces such a byte with U+FFFD: "/%EF%BF%BD/".
    path('a byte that is no UTF-8', '/%FF', '/%FF', '/%25FF/', '/%FF/'),
    // Python's "/a/b/" makes a separator of it.
    path('an encoded slash', '/a%2Fb', '/a%2Fb', '/a%252Fb/', '/a%2Fb/'),

    // Node's url.parse encodes these by itself, and the signer encodes its "%" again.
    ...[...'\t\n\r "\'<>^`{|}'].map((c) => path('an unencoded ' + printed(c) + ' in the path',
        '/a' + c + 'b', '/a' + hex(c) + 'b', '/a%25' + hex(c).slice(1) + 'b/',
        '/a' + hex(c) + 'b/')),
    // It drops these at the end of a URL,
    ...[...Array(33).keys(), 0xa0, 0xfeff].map((code) => String.fromCharCode(code)).map((c) =>
        path('"' + printed(c) + '" at the end', '/a' + c, '/a' + hex(c), '/a/',
            '/a' + hex(c) + '/')),
    // takes a backslash for a slash, and cuts the path off here.
    path('a backslash', '/a\\b', '/a%5Cb', '/a/b/', '/a%5Cb/'),
    path('a question mark in the path', '/a?b', '/a%3Fb', '/a/', '/a%3Fb/'),
    path('a number sign in the path', '/a#b', '/a%23b', '/a/', '/a%23b/'),

    { name: 'a query that is part of the URL', given: { endpoint: host + '/a?b=c' },
        wire: { path: '/a', query: 'b=c' }, differs: { query: { node: '', ours: 'b=c' } } },
    // The names as UTF-16 units: D800 is before FFFF. As UTF-8: F0 is after EF.
    { name: 'U+10000 and U+FFFF as names', given: { query: { '\u{10000}': '1', '\uffff': '2' } },
        wire: { query: '%F0%90%80%80=1&%EF%BF%BF=2' },
        differs: { query: { node: '%F0%90%80%80=1&%EF%BF%BF=2',
            ours: '%EF%BF%BF=2&%F0%90%80%80=1' } } },
    { name: 'U+10000 and U+E000 as values', given: { query: { a: ['\u{10000}', '\ue000'] } },
        wire: { query: 'a=%F0%90%80%80&a=%EE%80%80' },
        differs: { query: { node: 'a=%F0%90%80%80&a=%EE%80%80',
            ours: 'a=%EE%80%80&a=%F0%90%80%80' } } },
    // What Node's querystring sends of these values is empty.
    ...[[null, 'null'], [undefined, 'undefined'], [{ b: 1 }, '%5Bobject%20Object%5D'],
        [NaN, 'NaN']].map(([value, node]) => (
        { name: 'a query value ' + node, given: { query: { a: value } }, wire: { query: 'a=' },
            differs: { query: { node: 'a=' + node, ours: 'a=' } } })),
    // Half a surrogate pair takes the next character for its other half, also on the wire.
    { name: 'U+D800 before an x', given: { query: { a: '\ud800x' } },
        wire: { query: 'a=%F0%90%81%B8' }, differs: {} },

    // Values are signed as they are given; on the wire they are trimmed.
    header('blanks around a value', { 'X-A': '  a  b ' }, null,
        'host:csms.example\nx-a:  a  b \n' + date, 'host:csms.example\nx-a:a  b\n' + date),
    header('tabs around a value', { 'X-A': '\ta\tb\t' }, null,
        'host:csms.example\nx-a:\ta\tb\t\n' + date, 'host:csms.example\nx-a:a\tb\n' + date),
    header('a value of blanks alone', { 'X-A': ' \t ' }, null,
        'host:csms.example\nx-a: \t \n' + date, 'host:csms.example\nx-a:\n' + date),
    { name: 'blanks around X-Sdk-Content-Sha256',
        given: { headers: { 'X-Sdk-Content-Sha256': ' UNSIGNED-PAYLOAD ' } }, wire: {},
        differs: {
            headers: { node: 'host:csms.example\nx-sdk-content-sha256: UNSIGNED-PAYLOAD \n' + date,
                ours: 'host:csms.example\nx-sdk-content-sha256:UNSIGNED-PAYLOAD\n' + date },
            hash: { node: ' UNSIGNED-PAYLOAD ', ours: 'UNSIGNED-PAYLOAD' } } },
    // Such values are not sent at all.
    ...[undefined, null, false].map((value) => header('a header value ' + value, { 'X-A': value },
        ['host', 'csms.example', 'X-Sdk-Date', '20260102T030405Z'],
        'host:csms.example\nx-a:' + value + '\n' + date, fixed)),
    // CanonicalHeaders is sorted with localeCompare, SignedHeaders is sorted by characters.
    header('names a_, a-, a1', { 'a1': '1', 'a-': '2', 'a_': '3' }, null,
        'a_:3\na-:2\na1:1\n' + fixed, 'a-:2\na1:1\na_:3\n' + fixed),
    header('names with every sign that a name may have',
        Object.fromEntries([..."!#$%&'*+-.^_`|~0a"].map((c) => ['z' + c, '1'])), null,
        fixed + [..."_-!.'*&#%`^+|~$0a"].map((c) => 'z' + c + ':1\n').join(''),
        fixed + [..."!#$%&'*+-.0^_`a|~"].map((c) => 'z' + c + ':1\n').join('')),
    // That order is the locale's: in Danish "aa" is after "z", in Czech "ch" is after "h".
    { ...header('names x-aa and x-b in Danish', { 'x-aa': '1', 'x-b': '2' }, null,
        'host:csms.example\nx-b:2\n' + date + 'x-aa:1\n',
        'host:csms.example\nx-aa:1\nx-b:2\n' + date), locale: 'da_DK' },
    { ...header('names x-ch and x-h in Czech', { 'x-ch': '1', 'x-h': '2' }, null,
        'host:csms.example\nx-h:2\nx-ch:1\n' + date,
        'host:csms.example\nx-ch:1\nx-h:2\n' + date), locale: 'cs_CZ' },
    // Some names are known in one spelling only: these are signed beside Node's own header,
    header('Host', { Host: 'other.example' },
        ['Host', 'other.example', 'X-Sdk-Date', '20260102T030405Z'],
        'host:other.example\nhost:csms.example\n' + date, 'host:other.example\n' + date),
    header('x-sdk-date', { 'x-sdk-date': '20200102T030405Z', 'X-Sdk-Date': undefined },
        ['host', 'csms.example', 'X-Sdk-Date', '20260102T030405Z'],
        fixed + 'x-sdk-date:20200102T030405Z\n', fixed),
    // and this one's value is not used.
    { name: 'x-sdk-content-sha256',
        given: { headers: { 'x-sdk-content-sha256': 'UNSIGNED-PAYLOAD' } }, wire: {},
        differs: { hash: { node: sha256(''), ours: 'UNSIGNED-PAYLOAD' } } },
    { name: 'an empty X-Sdk-Content-Sha256', given: { headers: { 'X-Sdk-Content-Sha256': '' } },
        wire: {}, differs: { hash: { node: sha256(''), ours: '' } } },
    // Never signed by Node, whose HTTP client sets the boundary later.
    header('content-type multipart/form-data',
        { 'content-type': 'multipart/form-data; boundary=b' },
        ['content-type', 'multipart/form-data; boundary=b', 'host', 'csms.example',
            'X-Sdk-Date', '20260102T030405Z'],
        fixed, 'content-type:multipart/form-data; boundary=b\n' + fixed),

    // A body that is no object is hashed as a JSON text of itself, but JSON text is sent as is,
    { name: 'a body of JSON text', given: { data: '{"a":1}' }, wire: { body: '{"a":1}' },
        differs: { hash: { node: sha256('"{\\"a\\":1}"'), ours: sha256('{"a":1}') } } },
    { name: 'a body of bytes', given: { data: Buffer.from('hi') }, wire: { body: 'hi' },
        differs: { hash: { node: sha256('{"type":"Buffer","data":[104,105]}'),
            ours: sha256('hi') } } },
    // and these are sent, but count as no body.
    { name: 'a body 0', given: { data: 0 }, wire: { body: '0' },
        differs: { hash: { node: sha256(''), ours: sha256('0') } } },
    { name: 'a body false', given: { data: false }, wire: { body: 'false' },
        differs: { hash: { node: sha256(''), ours: sha256('false') } } },

    // What Node signs and we refuse. Of the first date it makes "Invalid dateZ".
    { name: 'a 13th month', given: { headers: { 'X-Sdk-Date': '20261301T000000Z' } }, wire: {},
        refused: "field 'date' must be YYYYMMDDTHHMMSSZ" },
    { name: 'V11 without a region', given: { derived: { service: 'csms' } }, wire: {},
        refused: 'V11-HMAC-SHA256 needs `region`' },
    { name: '65 parameters', given: { query: { a: Array(65).fill('') } },
        wire: { query: Array(65).fill('a=').join('&') }, refused: 'more than 64 parameters' },
    { name: '33 headers', given: {
        headers: Object.fromEntries([...Array(31).keys()].map((i) => ['x-' + i, ''])) },
        wire: {}, refused: 'at most 32 headers' },
    { name: 'a secret key with a line end', given: { sk: 'SK\n' }, wire: {},
        refused: 'a blank, control or non-ASCII character' },
    { name: 'an access key that is not ASCII', given: { ak: '\u00c4K' }, wire: {},
        refused: 'a blank, control or non-ASCII character' },
];
