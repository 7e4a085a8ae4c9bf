/* SPDX-License-Identifier: MIT */
#include "csms_engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "csms_flood.h"
#include "csms_sigpipe.h"
#include "csms_sockets.h"
#include "csms_thread.h"

#define MAX_CONNECTIONS 256L /* kept open; the default shrinks with use */
#define MAX_STREAMS 1000L    /* on one connection; the server's limit decides */
#define LINGER 0.5       /* seconds of idleness after which loops are told */
#define LONG_WAIT 60.0   /* seconds; news wake the driver earlier */
#define SHARED_WAIT 0.05 /* seconds a step waits for the thread's news */

TAILQ_HEAD(channel_list, csms_channel);

/* The process's one engine. All of it changes with `lock` held, but that the
 * driver clears `cancel_asked`; what is atomic is read without it too. */
static struct engine {
    pthread_mutex_t lock;
    pthread_mutex_t driving; /* held by whoever runs libcurl on `multi` */
    pthread_mutex_t waking;  /* held while `multi` is woken, or freed */
    CURLM *_Atomic multi;    /* NULL: no engine; freed with all three held */
    uint64_t generation;     /* counts engines: a fork starts another */
    struct channel_list channels;
    bool waiting;         /* the driver is in curl_multi_poll: wake it */
    atomic_bool threaded; /* a thread has claimed the driving */
    atomic_bool stopping; /* and is asked to end */
    atomic_bool told_idle;
    uint64_t ended; /* transfers, so far; changes with `driving` held too */
    pthread_cond_t delivered;
    atomic_bool cancel_asked;
    struct csms_transfer_list pending; /* submitted, libcurl has not seen it */
    struct csms_transfer_list active;  /* libcurl works on it */
} engine = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .driving = PTHREAD_MUTEX_INITIALIZER,
    .waking = PTHREAD_MUTEX_INITIALIZER,
    .generation = 1,
    .channels = TAILQ_HEAD_INITIALIZER(engine.channels),
    .pending = TAILQ_HEAD_INITIALIZER(engine.pending),
    .active = TAILQ_HEAD_INITIALIZER(engine.active),
};

void csms_engine_lock(void)
{
    (void)pthread_mutex_lock(&engine.lock);
}

void csms_engine_unlock(void)
{
    (void)pthread_mutex_unlock(&engine.lock);
}

/* ---- once a process, and after a fork --------------------------------- */

/* Its waits go by a clock that nobody sets. Returns 0, or an error number. */
static int init_delivered(void)
{
    pthread_condattr_t attributes;
    int code = pthread_condattr_init(&attributes);

    if (code)
        return code;
    code = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (code == 0)
        code = pthread_cond_init(&engine.delivered, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return code;
}

static void end_in_child(struct csms_transfer_list *list)
{
    struct csms_transfer *transfer = NULL;

    while ((transfer = TAILQ_FIRST(list))) {
        TAILQ_REMOVE(list, transfer, link);
        csms_transfer_forget(transfer);
        transfer->failed = true;
        csms_err_set(&transfer->err, CSMS_CANCELLED,
                     "the process forked while the call was in flight");
        TAILQ_INSERT_TAIL(&transfer->channel->finished, transfer, link);
        atomic_store(&transfer->done, true);
    }
}

static void lock_all(void)
{
    csms_thread_lock();
    csms_engine_lock();
}

static void unlock_all(void)
{
    csms_engine_unlock();
    csms_thread_unlock();
}

/* The child must not touch the parent's connections, and has no thread: it
 * forgets the engine, leaks what hangs in it, and starts another at its first
 * request. nginx forks its workers, and itself to become a daemon, after
 * init_by_lua may have made a request. */
static void forget_engine(void)
{
    struct csms_channel *channel = NULL;

    end_in_child(&engine.pending);
    end_in_child(&engine.active);
    while ((channel = TAILQ_FIRST(&engine.channels))) {
        TAILQ_REMOVE(&engine.channels, channel, link);
        channel->in_flight = 0;
        channel->threaded = false;
        csms_wake_forget(&channel->wake);
    }
    csms_thread_forget();
    (void)pthread_mutex_init(&engine.lock, NULL);
    (void)pthread_mutex_init(&engine.driving, NULL);
    (void)pthread_mutex_init(&engine.waking, NULL);
    (void)init_delivered();
    csms_sockets_close();
    engine.multi = NULL;
    engine.generation++;
    engine.waiting = false;
    engine.threaded = false;
    engine.stopping = false;
}

static CURLcode init_code = CURLE_FAILED_INIT;

static void init_process(void)
{
    init_code = curl_global_init(CURL_GLOBAL_DEFAULT);
    csms_flood_init();
    if (init_code == CURLE_OK && init_delivered())
        init_code = CURLE_OUT_OF_MEMORY;
    if (init_code == CURLE_OK &&
        (pthread_atfork(lock_all, unlock_all, forget_engine) ||
         atexit(csms_thread_end)))
        init_code = CURLE_OUT_OF_MEMORY;
}

int csms_engine_init_process(struct csms_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, init_process);
    if (init_code == CURLE_OK)
        return 0;
    csms_err_set(err, CSMS_CONFIG, "libcurl cannot start");
    csms_err_cause(err, curl_easy_strerror(init_code));
    return -1;
}

/* ---- waking ----------------------------------------------------------- */

/* Ends what changed the state under the lock: the driver either sees it before
 * it waits or is woken while it does. Not before the lock is free, because the
 * driver takes it next; `waking` keeps the multi handle until then. */
static void unlock_and_wake(void)
{
    bool waiting = engine.waiting;

    engine.waiting = false; /* once is enough */
    if (waiting)
        (void)pthread_mutex_lock(&engine.waking);
    csms_engine_unlock();
    if (!waiting)
        return;
    (void)curl_multi_wakeup(engine.multi);
    (void)pthread_mutex_unlock(&engine.waking);
}

static bool start_waiting(void)
{
    bool waiting = false;

    csms_engine_lock();
    engine.waiting = TAILQ_EMPTY(&engine.pending) && !engine.stopping &&
                     !atomic_load(&engine.cancel_asked);
    waiting = engine.waiting;
    csms_engine_unlock();
    return waiting;
}

/* Sleeps until a transfer, a wake-up or the time ends it. */
static void wait_for_news(double timeout)
{
    if (!start_waiting())
        return;
    (void)curl_multi_poll(engine.multi, NULL, 0,
                          (int)csms_milliseconds(timeout), NULL);
    csms_engine_lock();
    engine.waiting = false;
    csms_engine_unlock();
}

/* ---- what the driver does, with `driving` held ------------------------ */

/* Hands a transfer that is out of libcurl to its channel. A byte wakes the loop
 * that reads there when the list stops being empty, and no sooner again.
 * Whoever waits is told after the lock is free, because all of them take it
 * next. */
static void deliver(struct csms_transfer *transfer)
{
    struct csms_channel *channel = transfer->channel;
    bool closed = false;
    bool first = false;

    csms_engine_lock();
    TAILQ_REMOVE(&engine.active, transfer, link);
    channel->in_flight--;
    closed = channel->closed;
    atomic_store(&transfer->done, true); /* before anybody hears of it */
    if (!closed) {
        first = TAILQ_EMPTY(&channel->finished);
        TAILQ_INSERT_TAIL(&channel->finished, transfer, link);
    }
    engine.ended++;
    csms_engine_unlock();
    (void)pthread_cond_broadcast(&engine.delivered);
    if (first)
        csms_wake_signal(&channel->wake, CSMS_WAKE_DONE);
    if (closed)
        csms_transfer_unref(transfer);
    csms_channel_unref(channel);
}

static void finish(struct csms_transfer *transfer, CURLcode code)
{
    csms_sockets_note_answer(transfer->easy);
    (void)curl_multi_remove_handle(engine.multi, transfer->easy);
    csms_transfer_finish(transfer, code);
    deliver(transfer);
}

/* Returns how many it added. */
static size_t add_pending(void)
{
    struct csms_transfer *transfer = NULL;

    for (size_t count = 0;; count++) {
        csms_engine_lock();
        transfer = TAILQ_FIRST(&engine.pending);
        if (transfer) {
            TAILQ_REMOVE(&engine.pending, transfer, link);
            TAILQ_INSERT_TAIL(&engine.active, transfer, link);
        }
        csms_engine_unlock();
        if (!transfer)
            return count;
        if (csms_transfer_prepare(transfer))
            deliver(transfer);
        else if (curl_multi_add_handle(engine.multi, transfer->easy) !=
                 CURLM_OK)
            finish(transfer, CURLE_OUT_OF_MEMORY);
    }
}

/* Returns how many ended. */
static size_t remove_cancelled(void)
{
    size_t count = 0;
    struct csms_transfer *transfer = NULL;
    struct csms_transfer *next = NULL;

    /* Only the driver takes from the active list, so no lock to walk it. */
    for (transfer = TAILQ_FIRST(&engine.active); transfer; transfer = next) {
        next = TAILQ_NEXT(transfer, link);
        if (!atomic_load(&transfer->cancelled))
            continue;
        (void)curl_multi_remove_handle(engine.multi, transfer->easy);
        csms_transfer_abort(transfer);
        deliver(transfer);
        count++;
    }
    return count;
}

/* Nothing was sent (csms_sockets_note_answer): the same again, over a new
 * connection. */
static bool send_afresh(struct csms_transfer *transfer)
{
    (void)curl_multi_remove_handle(engine.multi, transfer->easy);
    return curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) ==
               CURLE_OK &&
           curl_multi_add_handle(engine.multi, transfer->easy) == CURLM_OK;
}

/* Not CURLINFO_PRIVATE, which may fail: the transfer would never end. */
static struct csms_transfer *find_active(const CURL *easy)
{
    struct csms_transfer *transfer = NULL;

    TAILQ_FOREACH (transfer, &engine.active, link)
        if (transfer->easy == easy)
            return transfer;
    return NULL;
}

/* Returns how many ended. */
static size_t collect(void)
{
    size_t count = 0;
    int left = 0;
    CURLMsg *msg = NULL;

    while ((msg = curl_multi_info_read(engine.multi, &left))) {
        struct csms_transfer *transfer = find_active(msg->easy_handle);
        CURLcode code = msg->data.result;

        if (msg->msg != CURLMSG_DONE || !transfer)
            continue;
        if (code == CURLE_ABORTED_BY_CALLBACK && transfer->late)
            code = CURLE_OPERATION_TIMEDOUT;
        else if (code == CURLE_ABORTED_BY_CALLBACK && send_afresh(transfer))
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
        finish(transfer, CURLE_RECV_ERROR);
        count++;
    }
    return count;
}

/* Returns how many ended. */
static size_t perform(void)
{
    size_t count = 0;
    int running = 0;
    /* Before the pending ones are taken: what is submitted and cancelled after
     * that asks again. */
    bool cancel = atomic_exchange(&engine.cancel_asked, false);

    if (add_pending() > 1)
        csms_sockets_hold();
    if (cancel)
        count = remove_cancelled();
    csms_flood_enter();
    if (curl_multi_perform(engine.multi, &running) != CURLM_OK)
        count += fail_all();
    csms_sockets_push();
    return count + collect();
}

/* ---- the two drivers -------------------------------------------------- */

/* Another drives; this only waits for what it delivers. */
static void wait_for_thread(double timeout, uint64_t *seen)
{
    struct timespec until;
    double wait = timeout < SHARED_WAIT ? timeout : SHARED_WAIT;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    csms_engine_lock();
    if (engine.ended == *seen && wait > 0)
        (void)pthread_cond_timedwait(&engine.delivered, &engine.lock, &until);
    if (timeout > 0) /* whoever waits looks at what has ended next */
        *seen = engine.ended;
    csms_engine_unlock();
}

/* Before the first request there is nothing to drive. */
static void just_sleep(double timeout)
{
    struct timespec time = {(time_t)timeout,
                            (long)((timeout - (double)(time_t)timeout) * 1e9)};

    if (timeout > 0)
        (void)nanosleep(&time, NULL);
}

static void drive_once(double timeout, uint64_t *seen)
{
    struct csms_sigpipe guard;
    bool idle = false;

    /* Another thread of the program drives: it will deliver ours too. */
    if (pthread_mutex_trylock(&engine.driving)) {
        wait_for_thread(timeout, seen);
        return;
    }
    idle = !engine.multi; /* another thread may make one just now */
    if (!idle) {
        csms_sigpipe_block(&guard);
        if (perform() == 0 && timeout > 0 && engine.ended == *seen) {
            wait_for_news(timeout);
            (void)perform();
        }
        if (timeout > 0)
            *seen = engine.ended;
        csms_sigpipe_release(&guard);
    }
    (void)pthread_mutex_unlock(&engine.driving);
    if (idle)
        just_sleep(timeout);
}

void csms_engine_step(double timeout, uint64_t *seen)
{
    if (engine.threaded)
        wait_for_thread(timeout, seen);
    else
        drive_once(timeout, seen);
}

/* Loops that find nothing in flight then stop to listen: nginx would wait for
 * the end of a read when its worker shuts down. */
static void tell_idle(void)
{
    struct csms_channel *channel = NULL;

    csms_engine_lock();
    if (TAILQ_EMPTY(&engine.pending) && TAILQ_EMPTY(&engine.active) &&
        !engine.told_idle) {
        TAILQ_FOREACH (channel, &engine.channels, link) {
            csms_wake_signal(&channel->wake, CSMS_WAKE_IDLE);
        }
        engine.told_idle = true;
    }
    csms_engine_unlock();
}

void csms_engine_attached(struct csms_channel *channel)
{
    bool missed = false;

    csms_engine_lock();
    missed = !TAILQ_EMPTY(&channel->finished);
    engine.told_idle = false;
    unlock_and_wake();
    if (missed)
        csms_wake_signal(&channel->wake, CSMS_WAKE_DONE);
}

static double monotonic(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void wait_idle(void)
{
    double from = monotonic();

    if (engine.told_idle) {
        wait_for_news(LONG_WAIT);
        return;
    }
    wait_for_news(LINGER);
    if (monotonic() - from >= LINGER) /* and nothing woke it */
        tell_idle();
}

void csms_engine_drive(void)
{
    (void)pthread_mutex_lock(&engine.driving);
    while (!engine.stopping) {
        (void)perform();
        if (TAILQ_EMPTY(&engine.active))
            wait_idle();
        else
            wait_for_news(LONG_WAIT);
    }
    (void)pthread_mutex_unlock(&engine.driving);
}

void csms_engine_claim(void)
{
    csms_engine_lock();
    engine.threaded = true;
    engine.stopping = false;
    csms_engine_unlock();
}

void csms_engine_dismiss(void)
{
    csms_engine_lock();
    engine.stopping = true;
    unlock_and_wake();
}

void csms_engine_release(void)
{
    csms_engine_lock();
    engine.threaded = false;
    engine.stopping = false;
    csms_engine_unlock();
}

/* ---- joining and leaving ---------------------------------------------- */

/* Without free descriptors libcurl makes one that can never be woken. */
static bool is_usable(CURLM *multi)
{
    return multi && curl_multi_wakeup(multi) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, MAX_CONNECTIONS) ==
               CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS,
                             MAX_STREAMS) == CURLM_OK;
}

static int make_multi(struct csms_err *err)
{
    CURLM *multi = NULL;

    if (engine.multi)
        return 0;
    multi = curl_multi_init();
    if (!is_usable(multi)) {
        (void)curl_multi_cleanup(multi);
        return csms_err_set(err, CSMS_CONFIG,
                            "libcurl cannot start: has this process memory "
                            "and descriptors left (ulimit -n)?");
    }
    engine.multi = multi;
    return 0;
}

int csms_engine_join(struct csms_channel *channel, struct csms_err *err)
{
    int result = 0;

    /* No lock: it changes in a fork's child only, which has one thread. */
    if (channel->generation == engine.generation)
        return 0;
    csms_engine_lock();
    result = make_multi(err);
    if (result == 0) {
        TAILQ_INSERT_TAIL(&engine.channels, channel, link);
        channel->generation = engine.generation;
    }
    csms_engine_unlock();
    return result;
}

static bool remove_channel(struct csms_channel *channel)
{
    bool last = false;

    csms_engine_lock();
    if (channel->generation == engine.generation) {
        TAILQ_REMOVE(&engine.channels, channel, link);
        last = TAILQ_EMPTY(&engine.channels);
    }
    csms_engine_unlock();
    return last;
}

void csms_engine_leave(struct csms_channel *channel)
{
    struct csms_sigpipe guard;

    csms_thread_stop(channel);
    if (!remove_channel(channel))
        return;
    (void)pthread_mutex_lock(&engine.driving);
    csms_sigpipe_block(&guard);
    (void)perform(); /* ends what was cancelled */
    csms_engine_lock();
    if (TAILQ_EMPTY(&engine.channels)) {
        (void)pthread_mutex_lock(&engine.waking);
        (void)curl_multi_cleanup(engine.multi);
        engine.multi = NULL;
        (void)pthread_mutex_unlock(&engine.waking);
    }
    csms_engine_unlock();
    csms_sigpipe_release(&guard);
    (void)pthread_mutex_unlock(&engine.driving);
}

/* ---- transfers in and out --------------------------------------------- */

void csms_engine_submit(struct csms_transfer *transfer)
{
    csms_engine_lock();
    TAILQ_INSERT_TAIL(&engine.pending, transfer, link);
    transfer->channel->in_flight++;
    engine.told_idle = false;
    unlock_and_wake();
}

void csms_engine_cancel(void)
{
    csms_engine_lock();
    atomic_store(&engine.cancel_asked, true);
    unlock_and_wake();
}

static void flag_list(struct csms_transfer_list *list,
                      const struct csms_channel *channel)
{
    struct csms_transfer *transfer = NULL;

    TAILQ_FOREACH (transfer, list, link)
        if (transfer->channel == channel)
            atomic_store(&transfer->cancelled, true);
}

void csms_engine_flag_all(const struct csms_channel *channel)
{
    csms_engine_lock();
    flag_list(&engine.pending, channel);
    flag_list(&engine.active, channel);
    csms_engine_unlock();
}
