/* SPDX-License-Identifier: MIT
 *
 * Source of the rules: Huawei Cloud, "API Request Signing Guide"; for V11 the
 * official SDKs' signers. Where the official signers differ among themselves
 * (an already encoded path), this one recovers what the server sees.
 */
#include "csms_sign.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "csms_encode.h"

static const struct rules {
    const char *name;
    const char *digest;
    const char *payload_header; /* its value replaces the body's digest */
    const char *credential;     /* the field of Authorization */
    bool derived;
} all_rules[] = {
    [CSMS_SDK_HMAC_SHA256] = {"SDK-HMAC-SHA256", "SHA256",
                              "x-sdk-content-sha256", "Access", false},
    [CSMS_SDK_HMAC_SM3] = {"SDK-HMAC-SM3", "SM3", "x-sdk-content-sm3", "Access",
                           false},
    [CSMS_V11_HMAC_SHA256] = {"V11-HMAC-SHA256", "SHA256",
                              "x-sdk-content-sha256", "Credential", true},
};

int csms_algorithm_parse(const char *name, enum csms_algorithm *algorithm)
{
    for (int i = CSMS_SDK_HMAC_SHA256; i <= CSMS_V11_HMAC_SHA256; i++) {
        if (strcmp(name, all_rules[i].name) == 0) {
            *algorithm = (enum csms_algorithm)i;
            return 0;
        }
    }
    return -1;
}

static int crypto_failed(struct csms_err *err, const char *what)
{
    return csms_err_set(err, CSMS_CONFIG,
                        "OpenSSL cannot compute %s; is its default provider "
                        "with this digest available?",
                        what);
}

static int digest_hex(struct csms_signer *signer, struct csms_span text,
                      struct csms_buf *out, struct csms_err *err)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (!EVP_DigestInit_ex2(signer->digest, signer->md, NULL) ||
        !EVP_DigestUpdate(signer->digest, text.data, text.len) ||
        !EVP_DigestFinal_ex(signer->digest, bytes, &len))
        return crypto_failed(err, "a digest");
    csms_encode_hex(out, bytes, len);
    return csms_buf_check(out, "the signed text", err);
}

int csms_signer_init(struct csms_signer *signer, enum csms_algorithm algorithm,
                     struct csms_err *err)
{
    memset(signer, 0, sizeof *signer);
    signer->algorithm = algorithm;
    csms_buf_init(&signer->no_body, 2 * EVP_MAX_MD_SIZE);
    csms_buf_init(&signer->scope, 256);
    csms_buf_init(&signer->canonical, CSMS_SIGN_MAX_TEXT);
    csms_buf_init(&signer->to_sign, CSMS_SIGN_MAX_TEXT);
    /* Fetched once: an implicit fetch a call costs more than the digest. */
    signer->md = EVP_MD_fetch(NULL, all_rules[algorithm].digest, NULL);
    signer->digest = EVP_MD_CTX_new();
    signer->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    signer->hmac = signer->mac ? EVP_MAC_CTX_new(signer->mac) : NULL;
    if (!signer->md || !signer->digest || !signer->hmac)
        return crypto_failed(err, all_rules[algorithm].digest);
    return digest_hex(signer, csms_span_of(""), &signer->no_body, err);
}

void csms_signer_free(struct csms_signer *signer)
{
    EVP_MAC_CTX_free(signer->hmac);
    EVP_MAC_free(signer->mac);
    EVP_MD_CTX_free(signer->digest);
    EVP_MD_free(signer->md);
    csms_buf_free(&signer->no_body);
    csms_buf_free(&signer->scope);
    csms_buf_free(&signer->canonical);
    csms_buf_free(&signer->to_sign);
    memset(signer, 0, sizeof *signer);
}

/* Cuts the text before the first `separator` off `rest` and returns it. */
static struct csms_span cut(struct csms_span *rest, char separator)
{
    const char *at = memchr(rest->data, separator, rest->len);
    struct csms_span head = *rest;

    if (at) {
        head.len = (size_t)(at - rest->data);
        rest->data = at + 1;
        rest->len -= head.len + 1;
    } else {
        rest->data += rest->len;
        rest->len = 0;
    }
    return head;
}

/* ---- the stages of the guide ------------------------------------------ */

int csms_sign_canonical_uri(struct csms_span path, struct csms_buf *out,
                            struct csms_err *err)
{
    struct csms_span rest = path;
    struct csms_buf segment;
    int result = -1;

    csms_buf_init(&segment, CSMS_SIGN_MAX_TEXT);
    while (rest.len > 0) {
        struct csms_span raw = cut(&rest, '/');

        csms_buf_reset(&segment);
        if (memchr(raw.data, '%', raw.len)) {
            csms_decode_percent(&segment, raw);
            if (csms_buf_check(&segment, "the path", err))
                goto out;
            raw = csms_buf_view(&segment);
        }
        csms_encode_percent(out, raw);
        csms_buf_char(out, '/');
    }
    if (path.len == 0)
        csms_buf_char(out, '/');
    result = csms_buf_check(out, "the signed text", err);
out:
    csms_buf_free(&segment);
    return result;
}

struct parameter {
    size_t name; /* offset into the decoded text */
    size_t name_len;
    size_t value;
    size_t value_len;
};

static int compare_spans(struct csms_span a, struct csms_span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static struct csms_span name_of(const struct parameter *parameter,
                                const char *text)
{
    return (struct csms_span){text + parameter->name, parameter->name_len};
}

static struct csms_span value_of(const struct parameter *parameter,
                                 const char *text)
{
    return (struct csms_span){text + parameter->value, parameter->value_len};
}

static int compare_parameters(const struct parameter *a,
                              const struct parameter *b, const char *text)
{
    int order = compare_spans(name_of(a, text), name_of(b, text));

    if (order != 0)
        return order;
    return compare_spans(value_of(a, text), value_of(b, text));
}

static void insert_sorted(struct parameter *list, size_t count,
                          struct parameter parameter, const char *text)
{
    size_t at = count;

    while (at > 0 && compare_parameters(&parameter, &list[at - 1], text) < 0) {
        list[at] = list[at - 1];
        at--;
    }
    list[at] = parameter;
}

/* Decodes "name=value" into `decoded` and says where the two lie there. */
static struct parameter decode_parameter(struct csms_span pair,
                                         struct csms_buf *decoded)
{
    struct csms_span value = pair;
    struct csms_span name = cut(&value, '=');
    struct parameter parameter;

    parameter.name = decoded->len;
    csms_decode_percent(decoded, name);
    parameter.name_len = decoded->len - parameter.name;
    parameter.value = decoded->len;
    csms_decode_percent(decoded, value);
    parameter.value_len = decoded->len - parameter.value;
    return parameter;
}

int csms_sign_canonical_query(struct csms_span query, struct csms_buf *out,
                              struct csms_err *err)
{
    struct parameter list[CSMS_SIGN_MAX_QUERY];
    size_t count = 0;
    struct csms_span rest = query;
    struct csms_buf decoded;
    const char *text = NULL;
    int result = -1;

    csms_buf_init(&decoded, CSMS_SIGN_MAX_TEXT);
    while (rest.len > 0) {
        struct csms_span pair = cut(&rest, '&');
        struct parameter parameter;

        if (pair.len == 0)
            continue;
        if (count == CSMS_SIGN_MAX_QUERY) {
            csms_err_set(err, CSMS_ARGUMENT,
                         "a query of more than %d parameters cannot be signed",
                         CSMS_SIGN_MAX_QUERY);
            goto out;
        }
        parameter = decode_parameter(pair, &decoded);
        if (csms_buf_check(&decoded, "the query", err))
            goto out;
        insert_sorted(list, count++, parameter, csms_buf_view(&decoded).data);
    }
    text = csms_buf_view(&decoded).data;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            csms_buf_char(out, '&');
        csms_encode_percent(out, name_of(&list[i], text));
        csms_buf_char(out, '=');
        csms_encode_percent(out, value_of(&list[i], text));
    }
    result = csms_buf_check(out, "the signed text", err);
out:
    csms_buf_free(&decoded);
    return result;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static int compare_names(struct csms_span a, struct csms_span b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        int order =
            (unsigned char)lower(a.data[i]) - (unsigned char)lower(b.data[i]);

        if (order != 0)
            return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

void csms_sign_sort_headers(struct csms_header *headers, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct csms_header header = headers[i];
        size_t at = i;

        while (at > 0 && compare_names(header.name, headers[at - 1].name) < 0) {
            headers[at] = headers[at - 1];
            at--;
        }
        headers[at] = header;
    }
}

static void append_lower(struct csms_buf *out, struct csms_span text)
{
    size_t at = out->len;

    if (csms_buf_span(out, text))
        for (; at < out->len; at++)
            out->data[at] = lower(out->data[at]);
}

int csms_sign_canonical_headers(const struct csms_header *headers, size_t count,
                                struct csms_buf *out, struct csms_err *err)
{
    for (size_t i = 0; i < count; i++) {
        append_lower(out, headers[i].name);
        csms_buf_char(out, ':');
        csms_buf_span(out, csms_span_trim(headers[i].value));
        csms_buf_char(out, '\n');
    }
    return csms_buf_check(out, "the signed text", err);
}

int csms_sign_signed_headers(const struct csms_header *headers, size_t count,
                             struct csms_buf *out, struct csms_err *err)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            csms_buf_char(out, ';');
        append_lower(out, headers[i].name);
    }
    return csms_buf_check(out, "the signed text", err);
}

int csms_sign_payload_hash(struct csms_signer *signer,
                           const struct csms_sign_request *request,
                           struct csms_buf *out, struct csms_err *err)
{
    struct csms_span stated =
        csms_span_of(all_rules[signer->algorithm].payload_header);

    for (size_t i = 0; i < request->header_count; i++) {
        if (compare_names(request->headers[i].name, stated) == 0) {
            csms_buf_span(out, csms_span_trim(request->headers[i].value));
            return csms_buf_check(out, "the signed text", err);
        }
    }
    if (request->body.len == 0) {
        csms_buf_span(out, csms_buf_view(&signer->no_body));
        return csms_buf_check(out, "the signed text", err);
    }
    return digest_hex(signer, request->body, out, err);
}

int csms_sign_canonical_request(struct csms_signer *signer,
                                const struct csms_sign_request *request,
                                struct csms_buf *out, struct csms_err *err)
{
    csms_buf_span(out, request->method);
    csms_buf_char(out, '\n');
    if (csms_sign_canonical_uri(request->path, out, err))
        return -1;
    csms_buf_char(out, '\n');
    if (csms_sign_canonical_query(request->query, out, err))
        return -1;
    csms_buf_char(out, '\n');
    if (csms_sign_canonical_headers(request->headers, request->header_count,
                                    out, err))
        return -1;
    csms_buf_char(out, '\n');
    if (csms_sign_signed_headers(request->headers, request->header_count, out,
                                 err))
        return -1;
    csms_buf_char(out, '\n');
    return csms_sign_payload_hash(signer, request, out, err);
}

int csms_sign_scope(enum csms_algorithm algorithm,
                    const struct csms_sign_request *request,
                    struct csms_buf *out, struct csms_err *err)
{
    if (!all_rules[algorithm].derived)
        return 0;
    if (!request->region || !*request->region || !request->service ||
        !*request->service)
        return csms_err_set(err, CSMS_CONFIG,
                            "%s needs `region` and `signing_service`",
                            all_rules[algorithm].name);
    csms_buf_append(out, request->date, strlen("YYYYMMDD"));
    csms_buf_char(out, '/');
    csms_buf_text(out, request->region);
    csms_buf_char(out, '/');
    csms_buf_text(out, request->service);
    return csms_buf_check(out, "the credential scope", err);
}

int csms_sign_string_to_sign(struct csms_signer *signer,
                             const struct csms_sign_request *request,
                             struct csms_span canonical_request,
                             struct csms_buf *out, struct csms_err *err)
{
    csms_buf_text(out, all_rules[signer->algorithm].name);
    csms_buf_char(out, '\n');
    csms_buf_text(out, request->date);
    csms_buf_char(out, '\n');
    if (all_rules[signer->algorithm].derived) {
        if (csms_sign_scope(signer->algorithm, request, out, err))
            return -1;
        csms_buf_char(out, '\n');
    }
    return digest_hex(signer, canonical_request, out, err);
}

/* HKDF-SHA256 (RFC 5869): salt = access key, keying material = secret key,
 * info = scope, 32 bytes. */
static int hkdf(const char *ak, const char *sk, struct csms_span scope,
                unsigned char *key, size_t key_len)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)ak,
                                          strlen(ak)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)sk,
                                          strlen(sk)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                          (void *)scope.data, scope.len),
        OSSL_PARAM_construct_end(),
    };
    int result = -1;

    if (ctx && EVP_KDF_derive(ctx, key, key_len, params) == 1)
        result = 0;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return result;
}

int csms_sign_key(enum csms_algorithm algorithm, const char *ak, const char *sk,
                  struct csms_span scope, struct csms_buf *out,
                  struct csms_err *err)
{
    unsigned char derived[32];

    if (!all_rules[algorithm].derived) {
        csms_buf_text(out, sk);
        return csms_buf_check(out, "the secret key", err);
    }
    if (hkdf(ak, sk, scope, derived, sizeof derived))
        return crypto_failed(err, "HKDF-SHA256");
    /* The key is the hex text, not the 32 bytes. */
    csms_encode_hex(out, derived, sizeof derived);
    OPENSSL_cleanse(derived, sizeof derived);
    return csms_buf_check(out, "the derived key", err);
}

int csms_signer_set_key(struct csms_signer *signer, struct csms_span key,
                        struct csms_err *err)
{
    char *digest = (char *)all_rules[signer->algorithm].digest;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    signer->keyed = false;
    if (!EVP_MAC_init(signer->hmac, (const unsigned char *)key.data, key.len,
                      params))
        return crypto_failed(err, "an HMAC");
    signer->keyed = true;
    return 0;
}

int csms_sign_signature(struct csms_signer *signer,
                        struct csms_span string_to_sign, struct csms_buf *out,
                        struct csms_err *err)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    size_t len = 0;

    /* Without a key, EVP_MAC_init starts again with the one it holds. */
    if (!EVP_MAC_init(signer->hmac, NULL, 0, NULL) ||
        !EVP_MAC_update(signer->hmac,
                        (const unsigned char *)string_to_sign.data,
                        string_to_sign.len) ||
        !EVP_MAC_final(signer->hmac, bytes, &len, sizeof bytes))
        return crypto_failed(err, "an HMAC");
    csms_encode_hex(out, bytes, len);
    return csms_buf_check(out, "the signature", err);
}

/* ---- the whole -------------------------------------------------------- */

/* Keys the signer for the request's scope, unless it is already. */
static int ensure_key(struct csms_signer *signer, const char *ak,
                      const char *sk, struct csms_span scope,
                      struct csms_err *err)
{
    struct csms_buf key;
    int result = -1;

    if (signer->keyed &&
        compare_spans(csms_buf_view(&signer->scope), scope) == 0)
        return 0;
    csms_buf_init(&key, CSMS_SIGN_MAX_TEXT);
    signer->keyed = false; /* until the key is this scope's */
    csms_buf_reset(&signer->scope);
    csms_buf_span(&signer->scope, scope);
    if (csms_buf_check(&signer->scope, "the credential scope", err) ||
        csms_sign_key(signer->algorithm, ak, sk, scope, &key, err) ||
        csms_signer_set_key(signer, csms_buf_view(&key), err))
        goto out;
    result = 0;
out:
    csms_buf_free(&key);
    return result;
}

static int append_authorization(struct csms_signer *signer, const char *ak,
                                const struct csms_sign_request *request,
                                struct csms_span scope, struct csms_buf *out,
                                struct csms_err *err)
{
    const struct rules *rules = &all_rules[signer->algorithm];

    csms_buf_text(out, rules->name);
    csms_buf_char(out, ' ');
    csms_buf_text(out, rules->credential);
    csms_buf_char(out, '=');
    csms_buf_text(out, ak);
    if (rules->derived) {
        csms_buf_char(out, '/');
        csms_buf_span(out, scope);
    }
    csms_buf_text(out, ", SignedHeaders=");
    if (csms_sign_signed_headers(request->headers, request->header_count, out,
                                 err))
        return -1;
    csms_buf_text(out, ", Signature=");
    return csms_sign_signature(signer, csms_buf_view(&signer->to_sign), out,
                               err);
}

int csms_sign(struct csms_signer *signer, const char *ak, const char *sk,
              struct csms_sign_request *request, struct csms_buf *authorization,
              struct csms_err *err)
{
    struct csms_buf scope;
    int result = -1;

    csms_buf_init(&scope, signer->scope.cap);
    csms_buf_reset(&signer->canonical);
    csms_buf_reset(&signer->to_sign);
    csms_sign_sort_headers(request->headers, request->header_count);
    if (csms_sign_canonical_request(signer, request, &signer->canonical, err) ||
        csms_sign_string_to_sign(signer, request,
                                 csms_buf_view(&signer->canonical),
                                 &signer->to_sign, err) ||
        csms_sign_scope(signer->algorithm, request, &scope, err) ||
        ensure_key(signer, ak, sk, csms_buf_view(&scope), err) ||
        append_authorization(signer, ak, request, csms_buf_view(&scope),
                             authorization, err))
        goto out;
    result = 0;
out:
    csms_buf_free(&scope);
    return result;
}
