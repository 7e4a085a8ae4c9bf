/* SPDX-License-Identifier: MIT
 *
 * Request signing: SDK-HMAC-SHA256, SDK-HMAC-SM3 and V11-HMAC-SHA256.
 *
 * Each stage of the signing guide ("API Request Signing Guide", Huawei Cloud)
 * is one pure function that appends its text to a buffer; csms_sign() runs
 * them in order. No stage reads a clock. Stages return 0, or -1 with `err`.
 */
#ifndef CSMS_SIGN_H
#define CSMS_SIGN_H

#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

#include "csms_buf.h"
#include "csms_err.h"

#define CSMS_SIGN_MAX_HEADERS 32
#define CSMS_SIGN_MAX_QUERY 64
#define CSMS_SIGN_MAX_TEXT (1024 * 1024)
#define CSMS_SIGN_DATE_LEN 16 /* YYYYMMDDTHHMMSSZ */

struct csms_header {
    struct csms_span name;
    struct csms_span value;
};

enum csms_algorithm {
    CSMS_SDK_HMAC_SHA256,
    CSMS_SDK_HMAC_SM3,
    CSMS_V11_HMAC_SHA256
};

/* Returns 0 and sets `algorithm`, or -1 for a name that is none. */
int csms_algorithm_parse(const char *name, enum csms_algorithm *algorithm);

/* What is signed. All of it is borrowed. `path` and `query` are in the form
 * they have on the wire, without the question mark between them. */
struct csms_sign_request {
    struct csms_span method;
    struct csms_span path;
    struct csms_span query;
    struct csms_header headers[CSMS_SIGN_MAX_HEADERS]; /* those that count */
    size_t header_count;
    struct csms_span body;
    const char *date;    /* the X-Sdk-Date header's value */
    const char *region;  /* V11 only, else ignored */
    const char *service; /* V11 only, else ignored */
};

/* One algorithm's digest and keyed HMAC, made once and used for many
 * requests. Not to be used from two threads at a time. */
struct csms_signer {
    enum csms_algorithm algorithm;
    EVP_MD *md;
    EVP_MD_CTX *digest;
    EVP_MAC *mac;
    EVP_MAC_CTX *hmac; /* keyed for `scope` */
    bool keyed;
    struct csms_buf no_body;   /* the digest of an empty one, in hex */
    struct csms_buf scope;     /* V11: date/region/service of the key */
    struct csms_buf canonical; /* scratch of csms_sign() */
    struct csms_buf to_sign;
};

/* `signer` may be uninitialised; after a failure it can be freed. */
int csms_signer_init(struct csms_signer *signer, enum csms_algorithm algorithm,
                     struct csms_err *err);
/* Wipes the key. Accepts a zeroed signer. */
void csms_signer_free(struct csms_signer *signer);

/* Path split at "/", each segment percent-decoded and encoded again, and a
 * closing "/". Decoding per segment keeps "%2F" inside its segment. */
int csms_sign_canonical_uri(struct csms_span path, struct csms_buf *out,
                            struct csms_err *err);

/* "name=value" pairs, decoded, sorted by name and value, encoded, "&". */
int csms_sign_canonical_query(struct csms_span query, struct csms_buf *out,
                              struct csms_err *err);

/* Orders the headers by lower-case name, as the next two stages need them. */
void csms_sign_sort_headers(struct csms_header *headers, size_t count);

/* "name:value\n" each, names in lower case, values trimmed. */
int csms_sign_canonical_headers(const struct csms_header *headers, size_t count,
                                struct csms_buf *out, struct csms_err *err);

/* The names alone, joined by ";". */
int csms_sign_signed_headers(const struct csms_header *headers, size_t count,
                             struct csms_buf *out, struct csms_err *err);

/* Hex digest of the body, or the value of X-Sdk-Content-Sha256 (-Sm3) where
 * such a header is there ("UNSIGNED-PAYLOAD"). */
int csms_sign_payload_hash(struct csms_signer *signer,
                           const struct csms_sign_request *request,
                           struct csms_buf *out, struct csms_err *err);

/* All of the above joined by "\n". The headers must be sorted. */
int csms_sign_canonical_request(struct csms_signer *signer,
                                const struct csms_sign_request *request,
                                struct csms_buf *out, struct csms_err *err);

/* V11's credential scope "YYYYMMDD/region/service"; empty for the others. */
int csms_sign_scope(enum csms_algorithm algorithm,
                    const struct csms_sign_request *request,
                    struct csms_buf *out, struct csms_err *err);

/* Algorithm, date, scope (V11) and the hex digest of the canonical request. */
int csms_sign_string_to_sign(struct csms_signer *signer,
                             const struct csms_sign_request *request,
                             struct csms_span canonical_request,
                             struct csms_buf *out, struct csms_err *err);

/* The HMAC's key: the secret key itself, or for V11 the hex text that HKDF
 * derives from it for the scope. `out` then holds a secret. */
int csms_sign_key(enum csms_algorithm algorithm, const char *ak, const char *sk,
                  struct csms_span scope, struct csms_buf *out,
                  struct csms_err *err);

/* Gives the signer the key that it uses until the next one. */
int csms_signer_set_key(struct csms_signer *signer, struct csms_span key,
                        struct csms_err *err);

/* Hex HMAC of the string to sign. */
int csms_sign_signature(struct csms_signer *signer,
                        struct csms_span string_to_sign, struct csms_buf *out,
                        struct csms_err *err);

/* Runs all stages and appends the Authorization header's value. Sorts
 * `request`'s headers. The key is derived again only when the scope changes,
 * so a signer belongs to one pair of keys. */
int csms_sign(struct csms_signer *signer, const char *ak, const char *sk,
              struct csms_sign_request *request, struct csms_buf *authorization,
              struct csms_err *err);

#endif
