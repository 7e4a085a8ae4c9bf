/* SPDX-License-Identifier: MIT
 *
 * A second implementation of signing, to compare the core's with: written from
 * the signing guide alone, as plainly as can be, without a line of the core's.
 */
#ifndef NAIVE_H
#define NAIVE_H

#include "../../src/csms_sign.h"

#include "fuzz.h"

/* "SDK-HMAC-SHA256" and so on; the request's headers in the order they are
 * sent. Each result is the caller's to free. */

struct fuzz_text naive_uri(struct csms_span path);
/* `pairs` becomes the number of name=value pairs. */
struct fuzz_text naive_query(struct csms_span query, size_t *pairs);
struct fuzz_text naive_request(const char *algorithm,
                               const struct csms_sign_request *request);
/* Empty but for V11. */
struct fuzz_text naive_scope(const char *algorithm,
                             const struct csms_sign_request *request);
/* The whole value of the Authorization header. */
struct fuzz_text naive_authorization(const char *algorithm, const char *ak,
                                     const char *sk,
                                     const struct csms_sign_request *request);

#endif
