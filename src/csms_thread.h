/* SPDX-License-Identifier: MIT
 *
 * The thread that drives the engine while a channel wants one: an event loop
 * such as nginx's always, a plain program while it has many calls in flight.
 */
#ifndef CSMS_THREAD_H
#define CSMS_THREAD_H

#include "csms_engine.h"

/* The channel wants the thread, which starts unless it runs. May be called
 * again. */
int csms_thread_start(struct csms_channel *channel, struct csms_err *err);

/* It does no longer; the thread ends with the last one. What is in flight goes
 * on with the next step. May be called again, and without a start. */
void csms_thread_stop(struct csms_channel *channel);

/* At the end of the process, before OpenSSL frees what the thread works with.
 */
void csms_thread_end(void);

/* Around a fork, and in the child. */
void csms_thread_lock(void);
void csms_thread_unlock(void);
void csms_thread_forget(void);

#endif
