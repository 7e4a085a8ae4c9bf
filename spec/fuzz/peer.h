/* SPDX-License-Identifier: MIT
 *
 * The other end of the engine's connections: a socketpair in this process,
 * whose bytes the input decides. No thread and no network, so that each run is
 * the same.
 */
#ifndef PEER_H
#define PEER_H

#include "../../src/csms_transfer.h"

#include "fuzz.h"

struct peer {
    struct csms_span answer; /* what libcurl is sent, in pieces, then the end */
    size_t piece;            /* bytes of one write, at least 1 */
    void (*prepare)(CURL *); /* of a handle, before libcurl works; or NULL */
    /* From here on zero at the start. */
    struct fuzz_text request; /* what libcurl has sent */
    size_t sent;
    int fd;
    bool opened; /* a second connection is refused */
    bool ended;
};

/* A channel without the environment's proxies. */
struct csms_channel *peer_channel(void);

/* Drives the engine until the transfer, which was just submitted, is done. */
void peer_run(struct peer *peer, struct csms_channel *channel,
              struct csms_transfer *transfer);

void peer_free(struct peer *peer);

#endif
