/* SPDX-License-Identifier: MIT
 *
 * A credential: access key pair (perhaps temporary, with a security token) or
 * X-Auth-Token. It is the only place that keeps keys, and wipes them.
 */
#ifndef CSMS_CRED_H
#define CSMS_CRED_H

#include <stdbool.h>

#include "csms_buf.h"
#include "csms_err.h"
#include "csms_sign.h"

struct csms_cred;

/* Copies the key pair; `security_token` may be empty. The error names a
 * missing part or one that cannot stand in a header. NULL on failure. */
struct csms_cred *csms_cred_keys(struct csms_span ak, struct csms_span sk,
                                 struct csms_span security_token,
                                 struct csms_err *err);

/* Copies an X-Auth-Token. NULL on failure. */
struct csms_cred *csms_cred_token(struct csms_span token, struct csms_err *err);

/* Wipes and frees; accepts NULL. */
void csms_cred_free(struct csms_cred *cred);

/* The header values; NULL where the credential has none. Borrowed. */
const char *csms_cred_auth_token(const struct csms_cred *cred);
const char *csms_cred_security_token(const struct csms_cred *cred);

/* Appends the Authorization header's value for `request` (csms_sign.h). Only
 * for key pairs. */
int csms_cred_sign(struct csms_cred *cred, enum csms_algorithm algorithm,
                   struct csms_sign_request *request, struct csms_buf *out,
                   struct csms_err *err);

/* Whether a key or token of this credential stands in `text`. */
bool csms_cred_occurs(const struct csms_cred *cred, struct csms_span text);

/* Appends `text` with every occurrence of a key or token of this credential
 * replaced; the access key keeps its first four characters. */
int csms_cred_redact(const struct csms_cred *cred, struct csms_span text,
                     struct csms_buf *out, struct csms_err *err);

/* Whether both hold the same keys or the same token. */
bool csms_cred_same(const struct csms_cred *a, const struct csms_cred *b);

/* A description for people: "AKID****" or "token". At most 4 characters of it
 * come from the credential. */
void csms_cred_describe(const struct csms_cred *cred, char *out, size_t size);

#endif
