/* SPDX-License-Identifier: MIT */
#include "csms_cred.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

/* Generous: a token scoped to a project with many services is about 16 KiB. */
#define MAX_PART (64 * 1024)
#define SHOWN_LEN 4

struct csms_cred {
    struct csms_buf ak;
    struct csms_buf sk;
    struct csms_buf security_token;
    struct csms_buf token;
    struct csms_signer signer; /* holds the key schedule between calls */
    bool has_signer;
};

/* Keys and tokens travel in headers: no control characters, no NUL. */
static int copy_part(struct csms_buf *part, const char *what,
                     struct csms_span text, struct csms_err *err)
{
    if (text.len > MAX_PART)
        return csms_err_set(err, CSMS_CONFIG, "%s is over %d bytes", what,
                            MAX_PART);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c <= ' ' || c >= 0x7f)
            return csms_err_set(err, CSMS_CONFIG,
                                "%s holds a blank, control or non-ASCII "
                                "character at position %zu; check for a "
                                "stray newline",
                                what, i + 1);
    }
    csms_buf_init(part, MAX_PART);
    csms_buf_span(part, text);
    if (csms_buf_check(part, what, err))
        return -1;
    return 0;
}

static int require_part(struct csms_buf *part, const char *what,
                        struct csms_span text, struct csms_err *err)
{
    if (text.len == 0)
        return csms_err_set(err, CSMS_CONFIG, "%s is empty", what);
    return copy_part(part, what, text, err);
}

struct csms_cred *csms_cred_keys(struct csms_span ak, struct csms_span sk,
                                 struct csms_span security_token,
                                 struct csms_err *err)
{
    struct csms_cred *cred = OPENSSL_zalloc(sizeof *cred);

    if (!cred) {
        csms_err_memory(err);
        return NULL;
    }
    if (require_part(&cred->ak, "the access key (ak)", ak, err) ||
        require_part(&cred->sk, "the secret key (sk)", sk, err) ||
        copy_part(&cred->security_token, "the security token", security_token,
                  err)) {
        csms_cred_free(cred);
        return NULL;
    }
    return cred;
}

struct csms_cred *csms_cred_token(struct csms_span token, struct csms_err *err)
{
    struct csms_cred *cred = OPENSSL_zalloc(sizeof *cred);

    if (!cred) {
        csms_err_memory(err);
        return NULL;
    }
    if (require_part(&cred->token, "the X-Auth-Token", token, err)) {
        csms_cred_free(cred);
        return NULL;
    }
    return cred;
}

void csms_cred_free(struct csms_cred *cred)
{
    if (!cred)
        return;
    csms_buf_free(&cred->ak);
    csms_buf_free(&cred->sk);
    csms_buf_free(&cred->security_token);
    csms_buf_free(&cred->token);
    if (cred->has_signer)
        csms_signer_free(&cred->signer);
    OPENSSL_clear_free(cred, sizeof *cred);
}

const char *csms_cred_auth_token(const struct csms_cred *cred)
{
    return cred->token.len > 0 ? cred->token.data : NULL;
}

const char *csms_cred_security_token(const struct csms_cred *cred)
{
    return cred->security_token.len > 0 ? cred->security_token.data : NULL;
}

static int use_algorithm(struct csms_cred *cred, enum csms_algorithm algorithm,
                         struct csms_err *err)
{
    if (cred->has_signer && cred->signer.algorithm == algorithm)
        return 0;
    if (cred->has_signer)
        csms_signer_free(&cred->signer);
    cred->has_signer = false;
    if (csms_signer_init(&cred->signer, algorithm, err)) {
        csms_signer_free(&cred->signer);
        return -1;
    }
    cred->has_signer = true;
    return 0;
}

int csms_cred_sign(struct csms_cred *cred, enum csms_algorithm algorithm,
                   struct csms_sign_request *request, struct csms_buf *out,
                   struct csms_err *err)
{
    if (use_algorithm(cred, algorithm, err))
        return -1;
    return csms_sign(&cred->signer, cred->ak.data, cred->sk.data, request, out,
                     err);
}

static bool starts_with(struct csms_span text, struct csms_span prefix)
{
    return prefix.len > 0 && text.len >= prefix.len &&
           memcmp(text.data, prefix.data, prefix.len) == 0;
}

/* The length of the secret that `text` starts with, or 0; `shown` is how much
 * of it may stay. */
static size_t match_secret(const struct csms_cred *cred, struct csms_span text,
                           size_t *shown)
{
    struct csms_span secrets[] = {csms_buf_view(&cred->sk),
                                  csms_buf_view(&cred->security_token),
                                  csms_buf_view(&cred->token)};
    struct csms_span ak = csms_buf_view(&cred->ak);

    *shown = 0;
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (starts_with(text, secrets[i]))
            return secrets[i].len;
    if (!starts_with(text, ak))
        return 0;
    *shown = ak.len > 2 * SHOWN_LEN ? SHOWN_LEN : 0;
    return ak.len;
}

bool csms_cred_occurs(const struct csms_cred *cred, struct csms_span text)
{
    size_t shown = 0;

    for (; text.len > 0; text.data++, text.len--)
        if (match_secret(cred, text, &shown) > 0)
            return true;
    return false;
}

int csms_cred_redact(const struct csms_cred *cred, struct csms_span text,
                     struct csms_buf *out, struct csms_err *err)
{
    while (text.len > 0) {
        size_t shown = 0;
        size_t len = match_secret(cred, text, &shown);

        if (len > 0) {
            csms_buf_append(out, text.data, shown);
            csms_buf_text(out, "****");
        } else {
            len = 1;
            csms_buf_append(out, text.data, len);
        }
        text.data += len;
        text.len -= len;
    }
    return csms_buf_check(out, "the text", err);
}

static bool same_part(const struct csms_buf *a, const struct csms_buf *b)
{
    return a->len == b->len &&
           (a->len == 0 || CRYPTO_memcmp(a->data, b->data, a->len) == 0);
}

bool csms_cred_same(const struct csms_cred *a, const struct csms_cred *b)
{
    return same_part(&a->ak, &b->ak) && same_part(&a->sk, &b->sk) &&
           same_part(&a->security_token, &b->security_token) &&
           same_part(&a->token, &b->token);
}

void csms_cred_describe(const struct csms_cred *cred, char *out, size_t size)
{
    if (cred->token.len > 0)
        (void)snprintf(out, size, "token");
    else if (cred->ak.len > 2 * SHOWN_LEN)
        (void)snprintf(out, size, "%.*s****", SHOWN_LEN, cred->ak.data);
    else
        (void)snprintf(out, size, "****");
}
