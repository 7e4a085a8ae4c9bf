/* SPDX-License-Identifier: MIT
 *
 * The HTTP engine: one libcurl multi handle a process, shared by channels (one
 * a Lua state). A request is signed and copied in csms_http_submit(); from
 * then on only whoever drives the engine touches libcurl, until the transfer
 * is done and belongs to its owner alone. The callers drive it with
 * csms_http_step(), unless csms_http_start() gave it a thread of its own.
 */
#ifndef CSMS_HTTP_H
#define CSMS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csms_cred.h"
#include "csms_origin.h"

struct csms_channel;
struct csms_transfer;

/* All of it is borrowed for the time of csms_http_submit(). */
struct csms_request {
    const char *method;
    struct csms_span target;           /* "/path?query" as it goes out */
    const struct csms_header *headers; /* at most CSMS_SIGN_MAX_HEADERS - 8 */
    size_t header_count;
    struct csms_span body;
    const char *project; /* X-Project-Id of a signed request, or NULL */
    double timeout;      /* seconds, from submit to the last byte */
    int64_t time;        /* seconds since 1970, the signature's date */
    bool fresh;          /* a new connection, so that nothing is sent twice */
};

/* Joins the engine and makes it where there is none yet. NULL on failure. */
struct csms_channel *csms_channel_new(struct csms_err *err);

/* Cancels what is in flight and leaves the engine; the last channel to leave
 * closes the connections. Accepts NULL. */
void csms_channel_close(struct csms_channel *channel);

/* Starts a request; `cred` NULL sends it unauthenticated. The caller owns one
 * reference to the result and gives it back with csms_transfer_unref(). NULL
 * with `err` set where nothing was sent. */
struct csms_transfer *csms_http_submit(struct csms_channel *channel,
                                       struct csms_origin *origin,
                                       const struct csms_request *request,
                                       struct csms_cred *cred,
                                       struct csms_err *err);

/* Works on all transfers; waits at most `timeout` seconds, and returns as soon
 * as one of any channel is done. Safe from several threads: `seen`, which is
 * the caller's and 0 at first, keeps how many had ended when its last step
 * returned. What has ended since, as others drove or the collector closed a
 * channel, is not waited for. */
void csms_http_step(double timeout, uint64_t *seen);

/* Gives the engine a thread of its own, which drives it until each channel that
 * asked for it has stopped or closed. Returns 0, or -1 with `err`. */
int csms_http_start(struct csms_channel *channel, struct csms_err *err);
void csms_http_stop(struct csms_channel *channel);

/* Submitted and not yet ended. */
size_t csms_channel_in_flight(struct csms_channel *channel);

/* How the thread wakes an event loop: a byte can be read when a transfer of the
 * channel has ended, or when nothing has been in flight for half a second. Then
 * drain until NULL, which also clears the descriptor of csms_channel_fd(). */

/* The descriptor to poll, owned by the channel; -1 with `err` on failure. */
int csms_channel_fd(struct csms_channel *channel, struct csms_err *err);

/* For nginx: a unix socket for exactly one connection, which accept() takes.
 * `path` needs no more than 108 bytes. Both return 0, or -1 with `err`. */
int csms_channel_listen(struct csms_channel *channel, char *path, size_t size,
                        struct csms_err *err);
int csms_channel_accept(struct csms_channel *channel, struct csms_err *err);

/* The loop has gone; what ends from now on ends silently. */
void csms_channel_detach(struct csms_channel *channel);

/* The next finished transfer of the channel, or NULL. The caller owns one
 * reference to it. Every transfer comes here once, cancelled ones too. */
struct csms_transfer *csms_http_drain(struct csms_channel *channel);

/* Ends it with kind cancelled, unless it is done already. */
void csms_http_cancel(struct csms_transfer *transfer);

/* The reference that submit or drain gave; cancels nothing. Accepts NULL. */
void csms_transfer_unref(struct csms_transfer *transfer);

uint64_t csms_transfer_id(const struct csms_transfer *transfer);
bool csms_transfer_done(const struct csms_transfer *transfer);

/* What follows is for transfers that are done. */

/* NULL where an answer came; else why none did. */
const struct csms_err *
csms_transfer_error(const struct csms_transfer *transfer);
long csms_transfer_status(const struct csms_transfer *transfer);
struct csms_span csms_transfer_body(const struct csms_transfer *transfer);
/* An answer's header by its name in any case; false where there is none. */
bool csms_transfer_header(const struct csms_transfer *transfer,
                          const char *name, struct csms_span *value);
/* Whether any of the request may have reached the service. */
bool csms_transfer_sent(const struct csms_transfer *transfer);
/* The local port: tells connections apart; 0 where there was none. */
long csms_transfer_port(const struct csms_transfer *transfer);

#endif
