/* SPDX-License-Identifier: MIT
 *
 * Easy handles that are used again: a new one costs libcurl as much as a short
 * answer does.
 */
#ifndef CSMS_HANDLES_H
#define CSMS_HANDLES_H

#include <stdbool.h>

#include <curl/curl.h>

#include "csms_origin.h"

/* Once a process. */
void csms_handles_init(void);

/* A handle that is new or reset; NULL without memory. fresh: a new one.
 * `http2_only` says whether an answer over HTTP/1 is dangerous on it: such a
 * transfer must be given up at the status line. */
CURL *csms_handles_take(const struct csms_origin *origin, bool fresh,
                        bool *http2_only);

/* Takes a handle back that is in no multi handle any more. http2: whether its
 * answer came over HTTP/2. */
void csms_handles_give(CURL *easy, bool http2);

/* Frees them all; after a fork, in the child, forgets them. */
void csms_handles_free(void);
void csms_handles_forget(void);

#endif
