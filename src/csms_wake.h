/* SPDX-License-Identifier: MIT
 *
 * A descriptor that becomes readable when there is news: how an engine thread
 * wakes an event loop. For most loops it is one end of a socket pair; nginx can
 * only wait on a cosocket that it connected itself, so for nginx there is a
 * unix socket to connect to, which exists until that one connection came.
 * csms_wake_signal() is safe from any thread, the rest is its owner's.
 */
#ifndef CSMS_WAKE_H
#define CSMS_WAKE_H

#include <stdbool.h>
#include <stddef.h>

#include <pthread.h>

#include "csms_err.h"

struct csms_wake {
    pthread_mutex_t lock; /* of `writer`, which the engine's thread uses */
    int writer;           /* our end; -1: nobody listens */
    int reader;           /* the loop's end of a pair; -1 with a socket path */
    int listener;         /* -1: not waiting for a connection */
    char dir[96];         /* private folder of the socket path; empty: none */
};

/* Returns 0, or an error number. */
int csms_wake_init(struct csms_wake *wake);

/* Closes it, and ends the lock too. */
void csms_wake_end(struct csms_wake *wake);

/* Closes and unlinks everything. */
void csms_wake_close(struct csms_wake *wake);

/* After a fork, in the child: closes its copies of the descriptors, but leaves
 * the path to the parent. */
void csms_wake_forget(struct csms_wake *wake);

/* Makes a socket pair, unless there is one. Returns 0, or -1 with `err`. The
 * loop polls `reader` for reading and reads what is there. */
int csms_wake_pair(struct csms_wake *wake, struct csms_err *err);

/* Opens a unix socket below a new private folder in `base` and writes its path
 * to `path`. Returns 0, or -1 with `err`. */
int csms_wake_listen(struct csms_wake *wake, const char *base, char *path,
                     size_t size, struct csms_err *err);

/* Takes the one connection, which must be this process's own, and removes the
 * path. Returns 0, or -1 with `err`. Does not wait. */
int csms_wake_accept(struct csms_wake *wake, struct csms_err *err);

/* Reads away what is there at our own reader's end; whether there was any. */
bool csms_wake_clear(const struct csms_wake *wake);

/* Writes one byte, CSMS_WAKE_DONE or CSMS_WAKE_IDLE; a full or absent
 * descriptor needs none. */
#define CSMS_WAKE_DONE 'd'
#define CSMS_WAKE_IDLE 'i'
void csms_wake_signal(struct csms_wake *wake, char news);

#endif
