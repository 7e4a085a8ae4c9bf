/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_ROUNDS 5000 /* of a millisecond: the engine is stuck then */

static struct peer *current;

/* ---- in place of the C library's, so that there is no network ----------- */

int socket(int family, int type, int protocol)
{
    int ends[2];

    (void)family;
    (void)protocol;
    if (!current || current->opened || (type & 0xf) != SOCK_STREAM) {
        errno = EMFILE;
        return -1;
    }
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    current->fd = ends[1];
    current->opened = true;
    return ends[0];
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    (void)fd;
    (void)address;
    (void)len;
    return 0;
}

/* In front of libcurl's. */
CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
    CURLMcode (*add)(CURLM *, CURL *) =
        (CURLMcode(*)(CURLM *, CURL *))dlsym(RTLD_NEXT, __func__);

    CHECK(add);
    if (current && current->prepare)
        current->prepare(easy);
    return add(multi, easy);
}

/* ---- what the peer does ------------------------------------------------- */

/* Returns whether anything came. */
static bool receive(struct peer *peer)
{
    char chunk[16384];
    ssize_t count = 0;
    bool any = false;

    while ((count = recv(peer->fd, chunk, sizeof chunk, 0)) > 0) {
        fuzz_put(&peer->request, chunk, (size_t)count);
        any = true;
    }
    return any;
}

/* One piece, or the end. Returns whether anything was done. */
static bool answer(struct peer *peer)
{
    size_t left = peer->answer.len - peer->sent;
    size_t len = left < peer->piece ? left : peer->piece;
    ssize_t count = 0;

    if (peer->ended)
        return false;
    if (len == 0) {
        peer->ended = true;
        (void)shutdown(peer->fd, SHUT_WR);
        return true;
    }
    count = send(peer->fd, peer->answer.data + peer->sent, len, MSG_NOSIGNAL);
    if (count < 0 && errno != EAGAIN)
        peer->ended = true; /* libcurl has had enough */
    if (count > 0)
        peer->sent += (size_t)count;
    return count > 0;
}

/* Nothing is answered before libcurl has asked. */
static bool serve(struct peer *peer)
{
    bool any = false;

    if (!peer->opened)
        return false;
    any = receive(peer);
    if (peer->request.len > 0 && answer(peer))
        any = true;
    return any;
}

/* ---- the engine --------------------------------------------------------- */

struct csms_channel *peer_channel(void)
{
    static const char *const variables[] = {
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    struct csms_channel *channel = NULL;
    struct csms_err err;

    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        CHECK(unsetenv(variables[i]) == 0);
    channel = csms_channel_new(&err);
    CHECK(channel);
    return channel;
}

void peer_run(struct peer *peer, struct csms_channel *channel,
              struct csms_transfer *transfer)
{
    struct csms_transfer *drained = NULL;
    uint64_t seen = 0;
    int idle = 0;

    current = peer;
    while (!csms_transfer_done(transfer)) {
        csms_http_step(idle > 1 ? 0.001 : 0, &seen);
        idle = serve(peer) ? 0 : idle + 1;
        CHECK(idle < IDLE_ROUNDS);
    }
    current = NULL;
    if (peer->opened)
        (void)receive(peer);
    drained = csms_http_drain(channel);
    CHECK(drained == transfer);
    CHECK(!csms_http_drain(channel) && csms_channel_in_flight(channel) == 0);
    csms_transfer_unref(drained);
}

void peer_free(struct peer *peer)
{
    if (peer->opened)
        (void)close(peer->fd);
    free(peer->request.data);
}
