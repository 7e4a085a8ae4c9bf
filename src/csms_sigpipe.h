/* SPDX-License-Identifier: MIT
 *
 * Writing to a connection that the peer closed raises SIGPIPE, which ends a
 * program that does not ignore it. It is blocked while libcurl runs, and one
 * that libcurl caused is taken before it is let through again.
 */
#ifndef CSMS_SIGPIPE_H
#define CSMS_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

struct csms_sigpipe {
    sigset_t mask; /* the thread's, before */
    bool was_pending;
};

void csms_sigpipe_block(struct csms_sigpipe *guard);
void csms_sigpipe_release(const struct csms_sigpipe *guard);

#endif
