/* SPDX-License-Identifier: MIT
 *
 * The sockets of libcurl's connections: a child after a fork closes them, a
 * connection that has something to say between two answers is not used again,
 * and the requests that go out at once over HTTP/2 share packets, which is a
 * tenth of a batch's time.
 */
#ifndef CSMS_SOCKETS_H
#define CSMS_SOCKETS_H

#include <stdbool.h>

#include <curl/curl.h>

/* Sets the callbacks, on a new handle. `*sent` turns true when libcurl is about
 * to send the request: its times do not tell (of a connection that failed 8.21
 * says that it was ready to send). */
CURLcode csms_sockets_set(CURL *easy, bool *sent);

/* Before the handle leaves libcurl's multi handle, which knows its connection:
 * remembers of an answer's connection whether it speaks HTTP/1. Where one of
 * HTTP/1 has something to say before the next request is sent on it, that
 * transfer ends with CURLE_ABORTED_BY_CALLBACK and nothing was sent. */
void csms_sockets_note_answer(CURL *easy);

/* Several requests start in the next curl_multi_perform(): over HTTP/2 they are
 * held back until push, which follows it. One alone would only be late. */
void csms_sockets_hold(void);
void csms_sockets_push(void);

/* After a fork, in the child: closes its copies of all connections. */
void csms_sockets_close(void);

#endif
