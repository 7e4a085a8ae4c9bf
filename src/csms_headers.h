/* SPDX-License-Identifier: MIT
 *
 * The header lines that a request goes out with: checked, signed, wiped.
 */
#ifndef CSMS_HEADERS_H
#define CSMS_HEADERS_H

#include <curl/curl.h>

#include "csms_http.h"

/* The request's own headers and those that authenticate it, a NUL after each.
 * `lines` may be zeroed; the caller frees it in any case. Returns 0, or -1 with
 * `err`. */
int csms_headers_build(struct csms_buf *lines, const struct csms_origin *origin,
                       const struct csms_request *request,
                       struct csms_cred *cred, struct csms_err *err);

/* Appends copies of them to libcurl's list, which the caller frees in any case.
 * Returns 0, or -1 without memory. */
int csms_headers_list(const struct csms_buf *lines, struct curl_slist **list);

/* Wipes tokens and signatures; accepts NULL. */
void csms_headers_free(struct curl_slist *list);

#endif
