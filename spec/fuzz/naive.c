/* SPDX-License-Identifier: MIT */
#include "naive.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

typedef struct fuzz_text text;

static bool is_v11(const char *algorithm)
{
    return strcmp(algorithm, "V11-HMAC-SHA256") == 0;
}

static bool is_sm3(const char *algorithm)
{
    return strcmp(algorithm, "SDK-HMAC-SM3") == 0;
}

/* ---- percent-encoding --------------------------------------------------- */

/* The byte that stands at `at`, of which `taken` characters are used. */
static unsigned char decode_one(struct csms_span from, size_t at, size_t *taken)
{
    char digits[3] = {0, 0, 0};

    *taken = 1;
    if (from.data[at] != '%' || at + 2 >= from.len ||
        !isxdigit((unsigned char)from.data[at + 1]) ||
        !isxdigit((unsigned char)from.data[at + 2]))
        return (unsigned char)from.data[at];
    memcpy(digits, from.data + at + 1, 2);
    *taken = 3;
    return (unsigned char)strtol(digits, NULL, 16);
}

static void encode_one(text *out, unsigned char byte)
{
    char encoded[4];

    if (byte < 0x80 && (isalnum(byte) || (byte != 0 && strchr("-_.~", byte)))) {
        fuzz_put(out, &byte, 1);
    } else {
        (void)snprintf(encoded, sizeof encoded, "%%%02X", byte);
        fuzz_puts(out, encoded);
    }
}

static text decode(struct csms_span from)
{
    text out = {NULL, 0, 0};
    size_t taken = 0;

    for (size_t at = 0; at < from.len; at += taken) {
        unsigned char byte = decode_one(from, at, &taken);

        fuzz_put(&out, &byte, 1);
    }
    return out;
}

static void encode(text *out, const text *from)
{
    for (size_t i = 0; i < from->len; i++)
        encode_one(out, (unsigned char)from->data[i]);
}

text naive_uri(struct csms_span path)
{
    text out = {NULL, 0, 0};
    size_t taken = 0;

    for (size_t at = 0; at < path.len; at += taken) {
        if (path.data[at] == '/') {
            fuzz_puts(&out, "/");
            taken = 1;
        } else {
            encode_one(&out, decode_one(path, at, &taken));
        }
    }
    if (out.len == 0 || out.data[out.len - 1] != '/')
        fuzz_puts(&out, "/");
    return out;
}

/* ---- the query ---------------------------------------------------------- */

struct pair {
    text name;
    text value;
};

static int compare_text(const text *a, const text *b)
{
    size_t shorter = a->len < b->len ? a->len : b->len;
    int order = shorter > 0 ? memcmp(a->data, b->data, shorter) : 0;

    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a;
    const struct pair *y = b;
    int order = compare_text(&x->name, &y->name);

    return order != 0 ? order : compare_text(&x->value, &y->value);
}

static struct pair read_pair(struct csms_span from)
{
    size_t split = 0;
    struct pair pair;

    while (split < from.len && from.data[split] != '=')
        split++;
    pair.name = decode((struct csms_span){from.data, split});
    if (split < from.len)
        split++;
    pair.value =
        decode((struct csms_span){from.data + split, from.len - split});
    return pair;
}

static struct pair *read_pairs(struct csms_span query, size_t *count)
{
    struct pair *pairs = calloc(query.len + 1, sizeof *pairs);
    size_t start = 0;

    CHECK(pairs);
    *count = 0;
    for (size_t at = 0; at <= query.len; at++) {
        if (at < query.len && query.data[at] != '&')
            continue;
        if (at > start)
            pairs[(*count)++] =
                read_pair((struct csms_span){query.data + start, at - start});
        start = at + 1;
    }
    return pairs;
}

text naive_query(struct csms_span query, size_t *count)
{
    struct pair *pairs = read_pairs(query, count);
    text out = {NULL, 0, 0};

    qsort(pairs, *count, sizeof *pairs, compare_pairs);
    for (size_t i = 0; i < *count; i++) {
        if (i > 0)
            fuzz_puts(&out, "&");
        encode(&out, &pairs[i].name);
        fuzz_puts(&out, "=");
        encode(&out, &pairs[i].value);
        free(pairs[i].name.data);
        free(pairs[i].value.data);
    }
    free(pairs);
    return out;
}

/* ---- headers ------------------------------------------------------------ */

struct line {
    text name; /* in lower case */
    text value;
    size_t position;
};

static int compare_lines(const void *a, const void *b)
{
    const struct line *x = a;
    const struct line *y = b;
    int order = compare_text(&x->name, &y->name);

    return order != 0
               ? order
               : (x->position > y->position) - (x->position < y->position);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct line read_line(const struct csms_header *header, size_t position)
{
    struct line line = {{NULL, 0, 0}, {NULL, 0, 0}, position};
    struct csms_span value = header->value;

    for (size_t i = 0; i < header->name.len; i++) {
        unsigned char c = (unsigned char)header->name.data[i];

        if (c < 0x80)
            c = (unsigned char)tolower(c);
        fuzz_put(&line.name, &c, 1);
    }
    while (value.len > 0 && is_blank(value.data[value.len - 1]))
        value.len--;
    while (value.len > 0 && is_blank(value.data[0])) {
        value.data++;
        value.len--;
    }
    fuzz_put(&line.value, value.data, value.len);
    return line;
}

static struct line *read_lines(const struct csms_sign_request *request)
{
    struct line *lines = calloc(request->header_count + 1, sizeof *lines);

    CHECK(lines);
    for (size_t i = 0; i < request->header_count; i++)
        lines[i] = read_line(&request->headers[i], i);
    qsort(lines, request->header_count, sizeof *lines, compare_lines);
    return lines;
}

static void free_lines(struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(lines[i].name.data);
        free(lines[i].value.data);
    }
    free(lines);
}

static void put_names(text *out, const struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            fuzz_puts(out, ";");
        fuzz_put(out, lines[i].name.data, lines[i].name.len);
    }
}

/* ---- digests ------------------------------------------------------------ */

static void put_hex(text *out, const unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char hex[3];

        (void)snprintf(hex, sizeof hex, "%02x", bytes[i]);
        fuzz_puts(out, hex);
    }
}

static void put_digest(text *out, const char *algorithm, struct csms_span from)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    CHECK(EVP_Digest(from.data, from.len, bytes, &len,
                     is_sm3(algorithm) ? EVP_sm3() : EVP_sha256(), NULL));
    put_hex(out, bytes, len);
}

static size_t hmac(const char *algorithm, struct csms_span key,
                   struct csms_span from, unsigned char *bytes)
{
    unsigned int len = 0;

    CHECK(HMAC(is_sm3(algorithm) ? EVP_sm3() : EVP_sha256(), key.data,
               (int)key.len, (const unsigned char *)from.data, from.len, bytes,
               &len));
    return len;
}

static void put_payload(text *out, const char *algorithm,
                        const struct csms_sign_request *request,
                        const struct line *lines)
{
    const char *name =
        is_sm3(algorithm) ? "x-sdk-content-sm3" : "x-sdk-content-sha256";

    for (size_t i = 0; i < request->header_count; i++) {
        if (lines[i].name.len == strlen(name) &&
            memcmp(lines[i].name.data, name, strlen(name)) == 0) {
            fuzz_put(out, lines[i].value.data, lines[i].value.len);
            return;
        }
    }
    put_digest(out, algorithm, request->body);
}

/* ---- the whole ---------------------------------------------------------- */

text naive_request(const char *algorithm,
                   const struct csms_sign_request *request)
{
    struct line *lines = read_lines(request);
    size_t pairs = 0;
    text uri = naive_uri(request->path);
    text query = naive_query(request->query, &pairs);
    text out = {NULL, 0, 0};

    fuzz_put(&out, request->method.data, request->method.len);
    fuzz_puts(&out, "\n");
    fuzz_put(&out, uri.data, uri.len);
    fuzz_puts(&out, "\n");
    fuzz_put(&out, query.data, query.len);
    fuzz_puts(&out, "\n");
    for (size_t i = 0; i < request->header_count; i++) {
        fuzz_put(&out, lines[i].name.data, lines[i].name.len);
        fuzz_puts(&out, ":");
        fuzz_put(&out, lines[i].value.data, lines[i].value.len);
        fuzz_puts(&out, "\n");
    }
    fuzz_puts(&out, "\n");
    put_names(&out, lines, request->header_count);
    fuzz_puts(&out, "\n");
    put_payload(&out, algorithm, request, lines);
    free(uri.data);
    free(query.data);
    free_lines(lines, request->header_count);
    return out;
}

text naive_scope(const char *algorithm, const struct csms_sign_request *request)
{
    text out = {NULL, 0, 0};

    if (!is_v11(algorithm))
        return out;
    fuzz_put(&out, request->date, 8);
    fuzz_puts(&out, "/");
    fuzz_puts(&out, request->region);
    fuzz_puts(&out, "/");
    fuzz_puts(&out, request->service);
    return out;
}

/* RFC 5869: extract, then one block of expand; the key is its hex text. */
static text derived_key(const char *ak, const char *sk, const text *scope)
{
    unsigned char extracted[EVP_MAX_MD_SIZE];
    unsigned char expanded[EVP_MAX_MD_SIZE];
    text info = {NULL, 0, 0};
    text out = {NULL, 0, 0};
    size_t len = hmac("", csms_span_of(ak), csms_span_of(sk), extracted);

    fuzz_put(&info, scope->data, scope->len);
    fuzz_put(&info, "\1", 1);
    len = hmac("", (struct csms_span){(const char *)extracted, len},
               fuzz_view(&info), expanded);
    put_hex(&out, expanded, len);
    free(info.data);
    return out;
}

static text signature(const char *algorithm, const char *ak, const char *sk,
                      const struct csms_sign_request *request,
                      const text *scope)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    text canonical = naive_request(algorithm, request);
    text to_sign = {NULL, 0, 0};
    text key = {NULL, 0, 0};
    text out = {NULL, 0, 0};
    size_t len = 0;

    fuzz_puts(&to_sign, algorithm);
    fuzz_puts(&to_sign, "\n");
    fuzz_puts(&to_sign, request->date);
    fuzz_puts(&to_sign, "\n");
    if (is_v11(algorithm)) {
        fuzz_put(&to_sign, scope->data, scope->len);
        fuzz_puts(&to_sign, "\n");
        key = derived_key(ak, sk, scope);
    } else {
        fuzz_puts(&key, sk);
    }
    put_digest(&to_sign, algorithm, fuzz_view(&canonical));
    len = hmac(algorithm, fuzz_view(&key), fuzz_view(&to_sign), bytes);
    put_hex(&out, bytes, len);
    free(canonical.data);
    free(to_sign.data);
    free(key.data);
    return out;
}

text naive_authorization(const char *algorithm, const char *ak, const char *sk,
                         const struct csms_sign_request *request)
{
    struct line *lines = read_lines(request);
    text scope = naive_scope(algorithm, request);
    text signed_text = signature(algorithm, ak, sk, request, &scope);
    text out = {NULL, 0, 0};

    fuzz_puts(&out, algorithm);
    fuzz_puts(&out, is_v11(algorithm) ? " Credential=" : " Access=");
    fuzz_puts(&out, ak);
    if (is_v11(algorithm)) {
        fuzz_puts(&out, "/");
        fuzz_put(&out, scope.data, scope.len);
    }
    fuzz_puts(&out, ", SignedHeaders=");
    put_names(&out, lines, request->header_count);
    fuzz_puts(&out, ", Signature=");
    fuzz_put(&out, signed_text.data, signed_text.len);
    free(scope.data);
    free(signed_text.data);
    free_lines(lines, request->header_count);
    return out;
}
