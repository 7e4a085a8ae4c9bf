/* SPDX-License-Identifier: MIT */
#include "csms_http.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "csms_transfer.h"

#define MAX_CONNECTIONS 256L /* kept open; the default shrinks with use */
#define MAX_IDLE 256         /* easy handles kept for reuse */

struct csms_channel {
    atomic_int refs; /* its owner, and each transfer in the engine */
    bool closed;
    uint64_t generation; /* of the engine that it joined */
    uint64_t last_id;
    struct csms_transfer_list finished;
};

/* The process's one engine. */
static struct engine {
    pthread_mutex_t lock;    /* guards all but what libcurl does with multi */
    pthread_mutex_t driving; /* held by whoever runs libcurl on `multi` */
    CURLM *multi;            /* NULL: no engine */
    uint64_t generation;     /* counts engines: a fork starts another */
    size_t channels;
    bool waiting; /* the driver is in curl_multi_poll: wake it */
    atomic_bool cancel_asked;
    struct csms_transfer_list pending; /* submitted, libcurl has not seen it */
    struct csms_transfer_list active;  /* libcurl works on it */
    size_t idle_count;
    CURL *idle[MAX_IDLE];
} engine = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .driving = PTHREAD_MUTEX_INITIALIZER,
    .generation = 1,
    .pending = TAILQ_HEAD_INITIALIZER(engine.pending),
    .active = TAILQ_HEAD_INITIALIZER(engine.active),
};

static void lock(void)
{
    (void)pthread_mutex_lock(&engine.lock);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&engine.lock);
}

/* ---- once a process, and after a fork --------------------------------- */

static void end_in_child(struct csms_transfer_list *list)
{
    struct csms_transfer *transfer = NULL;

    while ((transfer = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, transfer, link);
        transfer->easy = NULL; /* it hangs in the parent's multi handle */
        transfer->failed = true;
        csms_err_set(&transfer->err, CSMS_CANCELLED,
                     "the process forked while the call was in flight");
        atomic_store(&transfer->done, true);
    }
}

/* The child must not touch the parent's connections: it forgets the engine,
 * leaks what hangs in it, and starts another at its first request. */
static void forget_engine(void)
{
    end_in_child(&engine.pending);
    end_in_child(&engine.active);
    (void)pthread_mutex_init(&engine.lock, NULL);
    (void)pthread_mutex_init(&engine.driving, NULL);
    engine.multi = NULL;
    engine.generation++;
    engine.channels = 0;
    engine.waiting = false;
    engine.idle_count = 0;
}

static CURLcode init_code = CURLE_FAILED_INIT;

static void init_process(void)
{
    init_code = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (init_code == CURLE_OK && pthread_atfork(lock, unlock, forget_engine))
        init_code = CURLE_OUT_OF_MEMORY;
}

/* ---- the engine's life, with `lock` held ------------------------------ */

static int join_engine(struct csms_channel *channel, struct csms_err *err)
{
    if (!engine.multi) {
        engine.multi = curl_multi_init();
        if (!engine.multi)
            return csms_err_memory(err);
        if (curl_multi_setopt(engine.multi, CURLMOPT_MAXCONNECTS,
                              MAX_CONNECTIONS) != CURLM_OK) {
            (void)curl_multi_cleanup(engine.multi);
            engine.multi = NULL;
            return csms_err_memory(err);
        }
    }
    engine.channels++;
    channel->generation = engine.generation;
    return 0;
}

static void leave_engine(const struct csms_channel *channel)
{
    if (channel->generation != engine.generation || --engine.channels > 0)
        return;
    while (engine.idle_count > 0)
        curl_easy_cleanup(engine.idle[--engine.idle_count]);
    (void)curl_multi_cleanup(engine.multi);
    engine.multi = NULL;
}

/* ---- channels --------------------------------------------------------- */

struct csms_channel *csms_channel_new(struct csms_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct csms_channel *channel = NULL;
    int joined = -1;

    (void)pthread_once(&once, init_process);
    if (init_code != CURLE_OK) {
        csms_err_set(err, CSMS_CONFIG, "libcurl cannot start");
        csms_err_cause(err, curl_easy_strerror(init_code));
        return NULL;
    }
    channel = OPENSSL_zalloc(sizeof *channel);
    if (!channel) {
        csms_err_memory(err);
        return NULL;
    }
    atomic_init(&channel->refs, 1);
    TAILQ_INIT(&channel->finished);
    lock();
    joined = join_engine(channel, err);
    unlock();
    if (joined != 0) {
        OPENSSL_free(channel);
        return NULL;
    }
    return channel;
}

static void unref_channel(struct csms_channel *channel)
{
    if (atomic_fetch_sub(&channel->refs, 1) == 1)
        OPENSSL_free(channel);
}

void csms_transfer_unref(struct csms_transfer *transfer)
{
    if (transfer && atomic_fetch_sub(&transfer->refs, 1) == 1)
        csms_transfer_free(transfer);
}

/* ---- what the driver does, with `driving` held ------------------------ */

static void keep_easy(CURL *easy)
{
    lock();
    if (engine.idle_count < MAX_IDLE) {
        engine.idle[engine.idle_count++] = easy;
        easy = NULL;
    }
    unlock();
    curl_easy_cleanup(easy);
}

/* Hands a transfer that is out of libcurl to its channel. */
static void deliver(struct csms_transfer *transfer,
                    struct csms_transfer_list *from)
{
    struct csms_channel *channel = transfer->channel;
    bool closed = false;

    lock();
    TAILQ_REMOVE(from, transfer, link);
    closed = channel->closed;
    if (!closed)
        TAILQ_INSERT_TAIL(&channel->finished, transfer, link);
    atomic_store(&transfer->done, true);
    unlock();
    if (closed)
        csms_transfer_unref(transfer);
    unref_channel(channel);
}

static void finish(struct csms_transfer *transfer, CURLcode code)
{
    (void)curl_multi_remove_handle(engine.multi, transfer->easy);
    keep_easy(csms_transfer_finish(transfer, code));
    deliver(transfer, &engine.active);
}

static void add_pending(void)
{
    struct csms_transfer *transfer = NULL;

    for (;;) {
        lock();
        transfer = TAILQ_FIRST(&engine.pending);
        if (transfer) {
            TAILQ_REMOVE(&engine.pending, transfer, link);
            TAILQ_INSERT_TAIL(&engine.active, transfer, link);
        }
        unlock();
        if (!transfer)
            return;
        if (curl_multi_add_handle(engine.multi, transfer->easy) != CURLM_OK)
            finish(transfer, CURLE_OUT_OF_MEMORY);
    }
}

/* Returns how many ended. */
static size_t remove_cancelled(void)
{
    size_t count = 0;
    struct csms_transfer *transfer = NULL;
    struct csms_transfer *next = NULL;

    if (!atomic_exchange(&engine.cancel_asked, false))
        return 0;
    /* Only the driver takes from the active list, so no lock to walk it. */
    for (transfer = TAILQ_FIRST(&engine.active); transfer; transfer = next) {
        next = TAILQ_NEXT(transfer, link);
        if (!atomic_load(&transfer->cancelled))
            continue;
        (void)curl_multi_remove_handle(engine.multi, transfer->easy);
        keep_easy(csms_transfer_abort(transfer));
        deliver(transfer, &engine.active);
        count++;
    }
    return count;
}

/* Returns how many ended. */
static size_t collect(void)
{
    size_t count = 0;
    int left = 0;
    CURLMsg *msg = NULL;

    while ((msg = curl_multi_info_read(engine.multi, &left))) {
        struct csms_transfer *transfer = NULL;
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE ||
            curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &transfer) !=
                CURLE_OK ||
            !transfer)
            continue;
        finish(transfer, code);
        count++;
    }
    return count;
}

/* libcurl's multi handle is broken: nothing in it will ever end by itself. */
static size_t fail_all(void)
{
    struct csms_transfer *transfer = NULL;
    size_t count = 0;

    while ((transfer = TAILQ_FIRST(&engine.active))) {
        finish(transfer, CURLE_OUT_OF_MEMORY);
        count++;
    }
    return count;
}

/* Returns how many ended. */
static size_t perform(void)
{
    size_t count = 0;
    int running = 0;

    add_pending();
    count = remove_cancelled();
    if (curl_multi_perform(engine.multi, &running) != CURLM_OK)
        count += fail_all();
    return count + collect();
}

/* ---- SIGPIPE ---------------------------------------------------------- */

/* Writing to a connection that the peer closed raises SIGPIPE, which ends a
 * program that does not ignore it. It is blocked while libcurl runs, and one
 * that libcurl caused is taken before it is let through again. */
struct pipe_guard {
    sigset_t mask;
    bool was_pending;
};

static void only_sigpipe(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGPIPE);
}

static bool sigpipe_pending(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
}

static void guard_pipe(struct pipe_guard *guard)
{
    sigset_t set;

    guard->was_pending = sigpipe_pending();
    only_sigpipe(&set);
    (void)pthread_sigmask(SIG_BLOCK, &set, &guard->mask);
}

static void release_pipe(const struct pipe_guard *guard)
{
    static const struct timespec no_wait = {0, 0};
    sigset_t set;

    only_sigpipe(&set);
    if (!guard->was_pending && sigpipe_pending())
        while (sigtimedwait(&set, NULL, &no_wait) == -1 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
}

/* ---- waiting ---------------------------------------------------------- */

/* With `lock` held, so that the driver either sees the news before it waits or
 * is woken while it does; and the multi handle cannot go away meanwhile. */
static void wake_driver(void)
{
    if (engine.waiting)
        (void)curl_multi_wakeup(engine.multi);
}

static bool start_waiting(void)
{
    lock();
    engine.waiting =
        TAILQ_EMPTY(&engine.pending) && !atomic_load(&engine.cancel_asked);
    unlock();
    return engine.waiting;
}

static void stop_waiting(void)
{
    lock();
    engine.waiting = false;
    unlock();
}

/* ---- the public side -------------------------------------------------- */

static CURL *take_easy(void)
{
    CURL *easy = NULL;

    lock();
    if (engine.idle_count > 0)
        easy = engine.idle[--engine.idle_count];
    unlock();
    return easy ? easy : curl_easy_init();
}

static int rejoin_after_fork(struct csms_channel *channel, struct csms_err *err)
{
    int result = 0;

    lock();
    if (channel->generation != engine.generation)
        result = join_engine(channel, err);
    unlock();
    return result;
}

struct csms_transfer *csms_http_submit(struct csms_channel *channel,
                                       struct csms_origin *origin,
                                       const struct csms_request *request,
                                       struct csms_cred *cred,
                                       struct csms_err *err)
{
    struct csms_transfer *transfer = NULL;
    CURL *easy = NULL;

    if (rejoin_after_fork(channel, err))
        return NULL;
    easy = take_easy();
    if (!easy) {
        csms_err_memory(err);
        return NULL;
    }
    transfer = csms_transfer_new(easy, origin, request, cred, err);
    if (!transfer)
        return NULL;
    transfer->channel = channel;
    transfer->id = ++channel->last_id;
    atomic_fetch_add(&channel->refs, 1);
    atomic_fetch_add(&transfer->refs, 1);
    lock();
    TAILQ_INSERT_TAIL(&engine.pending, transfer, link);
    wake_driver();
    unlock();
    return transfer;
}

void csms_http_step(double timeout)
{
    struct pipe_guard guard;

    (void)pthread_mutex_lock(&engine.driving);
    if (engine.multi) {
        guard_pipe(&guard);
        if (perform() == 0 && timeout > 0 && start_waiting()) {
            (void)curl_multi_poll(engine.multi, NULL, 0,
                                  (int)csms_milliseconds(timeout), NULL);
            stop_waiting();
            (void)perform();
        }
        release_pipe(&guard);
    }
    (void)pthread_mutex_unlock(&engine.driving);
}

struct csms_transfer *csms_http_drain(struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;

    lock();
    transfer = TAILQ_FIRST(&channel->finished);
    if (transfer)
        TAILQ_REMOVE(&channel->finished, transfer, link);
    unlock();
    return transfer;
}

static void ask_driver_to_cancel(void)
{
    lock();
    atomic_store(&engine.cancel_asked, true);
    wake_driver();
    unlock();
}

void csms_http_cancel(struct csms_transfer *transfer)
{
    if (csms_transfer_done(transfer))
        return;
    atomic_store(&transfer->cancelled, true);
    ask_driver_to_cancel();
}

static void cancel_list(struct csms_transfer_list *list,
                        const struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;

    TAILQ_FOREACH (transfer, list, link)
        if (transfer->channel == channel)
            atomic_store(&transfer->cancelled, true);
}

void csms_channel_close(struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;

    if (!channel)
        return;
    lock();
    channel->closed = true;
    cancel_list(&engine.pending, channel);
    cancel_list(&engine.active, channel);
    unlock();
    ask_driver_to_cancel();
    csms_http_step(0);
    while ((transfer = csms_http_drain(channel)))
        csms_transfer_unref(transfer);
    (void)pthread_mutex_lock(&engine.driving);
    lock();
    leave_engine(channel);
    unlock();
    (void)pthread_mutex_unlock(&engine.driving);
    unref_channel(channel);
}
