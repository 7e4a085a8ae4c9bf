/* SPDX-License-Identifier: MIT
 *
 * Encodings that signing needs. Each appends to a buffer, whose failure sticks.
 */
#ifndef CSMS_ENCODE_H
#define CSMS_ENCODE_H

#include <stdbool.h>

#include "csms_buf.h"

/* Lower-case hex; at most EVP_MAX_MD_SIZE bytes. */
void csms_encode_hex(struct csms_buf *out, const unsigned char *bytes,
                     size_t len);

/* Whether percent-encoding leaves the text as it is (RFC 3986, 2.3). */
bool csms_encode_is_unreserved(struct csms_span text);

/* RFC 3986 percent-encoding, upper-case hex. */
void csms_encode_percent(struct csms_buf *out, struct csms_span text);

/* A "%" that starts no escape stands for itself. */
void csms_decode_percent(struct csms_buf *out, struct csms_span text);

#endif
