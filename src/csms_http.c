/* SPDX-License-Identifier: MIT */
#include "csms_http.h"

#include <stdlib.h>

#include <openssl/crypto.h>

#include "csms_engine.h"
#include "csms_thread.h"

struct csms_channel *csms_channel_new(struct csms_err *err)
{
    struct csms_channel *channel = NULL;

    if (csms_engine_init_process(err))
        return NULL;
    channel = OPENSSL_zalloc(sizeof *channel);
    if (!channel || csms_wake_init(&channel->wake)) {
        OPENSSL_free(channel);
        csms_err_memory(err);
        return NULL;
    }
    atomic_init(&channel->refs, 1);
    TAILQ_INIT(&channel->finished);
    if (csms_engine_join(channel, err)) {
        csms_channel_unref(channel);
        return NULL;
    }
    return channel;
}

void csms_channel_unref(struct csms_channel *channel)
{
    if (atomic_fetch_sub(&channel->refs, 1) > 1)
        return;
    csms_wake_end(&channel->wake);
    OPENSSL_free(channel);
}

void csms_channel_close(struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;
    uint64_t seen = 0;

    if (!channel)
        return;
    csms_engine_lock();
    channel->closed = true;
    csms_engine_unlock();
    csms_wake_close(&channel->wake);
    csms_engine_flag_all(channel);
    csms_engine_cancel();
    csms_engine_step(0, &seen);
    while ((transfer = csms_http_drain(channel)))
        csms_transfer_unref(transfer);
    csms_engine_leave(channel);
    csms_channel_unref(channel);
}

struct csms_transfer *csms_http_submit(struct csms_channel *channel,
                                       struct csms_origin *origin,
                                       const struct csms_request *request,
                                       struct csms_cred *cred,
                                       struct csms_err *err)
{
    struct csms_transfer *transfer = NULL;

    if (csms_engine_join(channel, err))
        return NULL;
    transfer = csms_transfer_new(origin, request, cred, err);
    if (!transfer)
        return NULL;
    transfer->channel = channel;
    transfer->id = ++channel->last_id;
    atomic_fetch_add(&channel->refs, 1);
    atomic_fetch_add(&transfer->refs, 1);
    csms_engine_submit(transfer);
    return transfer;
}

void csms_http_step(double timeout, uint64_t *seen)
{
    csms_engine_step(timeout, seen);
}

int csms_http_start(struct csms_channel *channel, struct csms_err *err)
{
    if (csms_engine_join(channel, err))
        return -1;
    return csms_thread_start(channel, err);
}

void csms_http_stop(struct csms_channel *channel)
{
    csms_thread_stop(channel);
}

static struct csms_transfer *take_finished(struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;

    csms_engine_lock();
    transfer = TAILQ_FIRST(&channel->finished);
    if (transfer)
        TAILQ_REMOVE(&channel->finished, transfer, link);
    csms_engine_unlock();
    return transfer;
}

struct csms_transfer *csms_http_drain(struct csms_channel *channel)
{
    struct csms_transfer *transfer = take_finished(channel);

    /* What ended before its byte was cleared would never be heard of again. */
    if (!transfer && csms_wake_clear(&channel->wake))
        transfer = take_finished(channel);
    return transfer;
}

size_t csms_channel_in_flight(struct csms_channel *channel)
{
    size_t count = 0;

    csms_engine_lock();
    count = channel->in_flight;
    csms_engine_unlock();
    return count;
}

int csms_channel_fd(struct csms_channel *channel, struct csms_err *err)
{
    bool attached = channel->wake.reader >= 0;

    if (csms_wake_pair(&channel->wake, err))
        return -1;
    if (!attached)
        csms_engine_attached(channel);
    return channel->wake.reader;
}

int csms_channel_listen(struct csms_channel *channel, char *path, size_t size,
                        struct csms_err *err)
{
    const char *base = getenv("TMPDIR");

    return csms_wake_listen(&channel->wake, base && *base ? base : "/tmp", path,
                            size, err);
}

int csms_channel_accept(struct csms_channel *channel, struct csms_err *err)
{
    if (csms_wake_accept(&channel->wake, err))
        return -1;
    csms_engine_attached(channel);
    return 0;
}

void csms_channel_detach(struct csms_channel *channel)
{
    csms_wake_close(&channel->wake);
}

void csms_http_cancel(struct csms_transfer *transfer)
{
    if (csms_transfer_done(transfer))
        return;
    atomic_store(&transfer->cancelled, true);
    csms_engine_cancel();
}

void csms_transfer_unref(struct csms_transfer *transfer)
{
    if (transfer && atomic_fetch_sub(&transfer->refs, 1) == 1)
        csms_transfer_free(transfer);
}
