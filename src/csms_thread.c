/* SPDX-License-Identifier: MIT */
#include "csms_thread.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

/* The process's one thread. */
static struct {
    pthread_mutex_t lock; /* held while it starts or ends */
    size_t users;         /* channels that want it */
    pthread_t thread;
} io = {.lock = PTHREAD_MUTEX_INITIALIZER};

void csms_thread_lock(void)
{
    (void)pthread_mutex_lock(&io.lock);
}

void csms_thread_unlock(void)
{
    (void)pthread_mutex_unlock(&io.lock);
}

void csms_thread_forget(void)
{
    (void)pthread_mutex_init(&io.lock, NULL);
    io.users = 0;
}

static void *run(void *unused)
{
    (void)unused;
    csms_engine_drive();
    return NULL;
}

/* A signal that this thread took would not interrupt the program's own loop.
 * The resolver threads that libcurl starts inherit the mask. */
static int create(void)
{
    sigset_t blocked;
    sigset_t mask;
    int result = 0;

    (void)sigfillset(&blocked);
    (void)sigdelset(&blocked, SIGSEGV);
    (void)sigdelset(&blocked, SIGBUS);
    (void)sigdelset(&blocked, SIGFPE);
    (void)sigdelset(&blocked, SIGILL);
    (void)pthread_sigmask(SIG_SETMASK, &blocked, &mask);
    result = pthread_create(&io.thread, NULL, run, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return result;
}

int csms_thread_start(struct csms_channel *channel, struct csms_err *err)
{
    int problem = 0;

    if (channel->threaded)
        return 0;
    csms_thread_lock();
    if (io.users == 0) {
        csms_engine_claim();
        problem = create();
        if (problem)
            csms_engine_release();
    }
    if (problem == 0) {
        channel->threaded = true;
        io.users++;
    }
    csms_thread_unlock();
    if (problem == 0)
        return 0;
    csms_err_set(err, CSMS_CONFIG,
                 "no thread for the network: is there a limit (ulimit -u)?");
    csms_err_cause(err, strerror(problem));
    return -1;
}

static void end(void)
{
    csms_engine_dismiss();
    (void)pthread_join(io.thread, NULL);
    csms_engine_release();
}

void csms_thread_stop(struct csms_channel *channel)
{
    if (!channel->threaded)
        return;
    csms_thread_lock();
    channel->threaded = false;
    if (io.users == 1)
        end();
    if (io.users > 0) /* none after csms_thread_end() */
        io.users--;
    csms_thread_unlock();
}

void csms_thread_end(void)
{
    csms_thread_lock();
    if (io.users > 0)
        end();
    io.users = 0;
    csms_thread_unlock();
}
