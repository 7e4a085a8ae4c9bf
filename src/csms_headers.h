/* SPDX-License-Identifier: MIT
 *
 * The header lines that a request goes out with: checked, signed, wiped.
 */
#ifndef CSMS_HEADERS_H
#define CSMS_HEADERS_H

#include <curl/curl.h>

#include "csms_http.h"

/* The request's own headers and those that authenticate it. Returns 0, or -1
 * with `err`; the caller frees the list in both cases. */
int csms_headers_build(const struct csms_origin *origin,
                       const struct csms_request *request,
                       struct csms_cred *cred, struct curl_slist **headers,
                       struct csms_err *err);

/* Wipes tokens and signatures; accepts NULL. */
void csms_headers_free(struct curl_slist *headers);

#endif
