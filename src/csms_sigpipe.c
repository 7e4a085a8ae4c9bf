/* SPDX-License-Identifier: MIT */
#include "csms_sigpipe.h"

#include <errno.h>
#include <time.h>

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

void csms_sigpipe_block(struct csms_sigpipe *guard)
{
    sigset_t set;

    guard->was_pending = sigpipe_pending();
    only_sigpipe(&set);
    (void)pthread_sigmask(SIG_BLOCK, &set, &guard->mask);
}

void csms_sigpipe_release(const struct csms_sigpipe *guard)
{
    static const struct timespec no_wait = {0, 0};
    sigset_t set;

    only_sigpipe(&set);
    if (!guard->was_pending && sigpipe_pending())
        while (sigtimedwait(&set, NULL, &no_wait) == -1 && errno == EINTR)
            ;
    (void)pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
}
