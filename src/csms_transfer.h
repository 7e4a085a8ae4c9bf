/* SPDX-License-Identifier: MIT
 *
 * One request and its answer, as the engine's own files see it: csms_http.c
 * moves transfers through the engine, csms_transfer.c fills and reads them.
 */
#ifndef CSMS_TRANSFER_H
#define CSMS_TRANSFER_H

#include <stdatomic.h>
#include <sys/queue.h>

#include <curl/curl.h>

#include "csms_http.h"

#define CSMS_MAX_METHOD 8 /* and its NUL */

struct csms_transfer {
    atomic_int refs; /* its owner, and the engine or the finished list */
    atomic_bool cancelled;
    atomic_bool done;
    uint64_t id;
    struct csms_channel *channel;
    struct csms_origin *origin;
    TAILQ_ENTRY(csms_transfer) link; /* pending, active or finished */

    CURL *easy;                 /* while libcurl works on it */
    CURLU *parsed_url;          /* made from url, */
    struct curl_slist *headers; /* and from header_lines */
    struct csms_buf header_lines;
    struct csms_buf url;
    struct csms_buf request_body;
    char method[CSMS_MAX_METHOD];
    bool fresh;
    long timeout_ms;
    char curl_error[CURL_ERROR_SIZE];

    struct csms_buf head; /* header lines; of the last answer from `answer` */
    size_t answer;
    bool head_whole; /* the empty line after it has come */
    struct csms_buf body;
    long status;
    long port;
    bool sent; /* set by csms_sockets.c */
    bool late; /* beyond its time, where libcurl did not look at the clock */
    bool failed;
    struct csms_err err;
};

TAILQ_HEAD(csms_transfer_list, csms_transfer);

/* Builds and signs everything that goes out. */
struct csms_transfer *csms_transfer_new(struct csms_origin *origin,
                                        const struct csms_request *request,
                                        struct csms_cred *cred,
                                        struct csms_err *err);

/* Whoever drives the engine sets it all up on a handle of libcurl's: what is
 * allocated and freed by one thread is cheap, and an event loop has better to
 * do. Returns 0, or -1 where that has failed the transfer. */
int csms_transfer_prepare(struct csms_transfer *transfer);

/* Reads the outcome off the easy handle and frees the handle. */
void csms_transfer_finish(struct csms_transfer *transfer, CURLcode code);

/* Ends it without an answer; as above. */
void csms_transfer_abort(struct csms_transfer *transfer);

/* In a forked child: leaks what the driver may have been in the middle of
 * changing or freeing, and libcurl's handle, which hangs in the parent's. */
void csms_transfer_forget(struct csms_transfer *transfer);

/* Wipes and frees; accepts NULL. */
void csms_transfer_free(struct csms_transfer *transfer);

#endif
