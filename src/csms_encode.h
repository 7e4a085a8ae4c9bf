/* SPDX-License-Identifier: MIT
 *
 * Encodings that signing needs. Each appends to a buffer, whose failure sticks.
 */
#ifndef CSMS_ENCODE_H
#define CSMS_ENCODE_H

#include "csms_buf.h"

/* Lower-case hex; at most EVP_MAX_MD_SIZE bytes. */
void csms_encode_hex(struct csms_buf *out, const unsigned char *bytes,
                     size_t len);

/* RFC 3986 percent-encoding, upper-case hex. */
void csms_encode_percent(struct csms_buf *out, struct csms_span text);

/* A "%" that starts no escape stands for itself. */
void csms_decode_percent(struct csms_buf *out, struct csms_span text);

#endif
