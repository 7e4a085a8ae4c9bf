/* SPDX-License-Identifier: MIT
 *
 * Easy handles that are used again, where libcurl allows it: a new one costs it
 * as much as a short answer does. Only whoever drives the engine asks for them.
 */
#ifndef CSMS_HANDLES_H
#define CSMS_HANDLES_H

#include <curl/curl.h>

/* Once a process. */
void csms_handles_init(void);

/* A handle that is new or reset; NULL without memory. */
CURL *csms_handles_take(void);

/* Takes a handle back that is in no multi handle any more; accepts NULL. */
void csms_handles_give(CURL *easy);

/* Frees them all; after a fork, in the child, forgets them. */
void csms_handles_free(void);
void csms_handles_forget(void);

#endif
