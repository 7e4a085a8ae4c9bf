/* SPDX-License-Identifier: MIT
 *
 * How libcurl is used: every option that is set, and the callbacks.
 */
#ifndef CSMS_OPTIONS_H
#define CSMS_OPTIONS_H

#include "csms_transfer.h"

/* Sets up the transfer's easy handle, which must be new or reset; its headers
 * and its body are there already. The first failure ends it. */
CURLcode csms_options_set(struct csms_transfer *transfer,
                          const struct csms_request *request, const char *url);

/* Before the handle leaves libcurl's multi handle, which knows its connection:
 * remembers of an answer's connection whether it speaks HTTP/1. Where such a
 * connection has something to say before the next request is sent on it, that
 * transfer ends with CURLE_ABORTED_BY_CALLBACK and nothing was sent. */
void csms_options_note_answer(CURL *easy);

/* After a fork, in the child: closes its copies of all connections. */
void csms_options_close_sockets(void);

#endif
