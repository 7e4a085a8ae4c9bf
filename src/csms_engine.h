/* SPDX-License-Identifier: MIT
 *
 * The process's one libcurl multi handle and whoever drives it: the callers,
 * one step at a time, or a thread of its own (csms_thread.h). csms_http.c is
 * its public side.
 *
 * One lock guards all that is shared. Only the driver calls libcurl on the
 * multi handle and on transfers that are active in it; a second lock,
 * `driving`, sees to it that there is one driver at a time. A third, `waking`,
 * is taken under the first and kept while the driver is woken: the first is
 * free by then, because the driver takes it next.
 */
#ifndef CSMS_ENGINE_H
#define CSMS_ENGINE_H

#include "csms_transfer.h"
#include "csms_wake.h"

struct csms_channel {
    atomic_int refs; /* its owner, and each transfer in the engine */
    bool closed;
    bool threaded;       /* it has asked for the thread */
    uint64_t generation; /* of the engine that it joined */
    uint64_t last_id;
    size_t in_flight;
    struct csms_wake wake;
    struct csms_transfer_list finished;
    TAILQ_ENTRY(csms_channel) link;
};

void csms_engine_lock(void);
void csms_engine_unlock(void);

/* Once a process; -1 with `err` where libcurl cannot start. */
int csms_engine_init_process(struct csms_err *err);

/* Joins the engine, which is made where there is none, unless the channel has
 * joined before; a fork's child joins again. */
int csms_engine_join(struct csms_channel *channel, struct csms_err *err);

/* Ends the channel's use of the thread; the last channel to leave closes the
 * connections. */
void csms_engine_leave(struct csms_channel *channel);

/* Hands over a transfer, with the references for it already taken. */
void csms_engine_submit(struct csms_transfer *transfer);

/* Wakes the driver to end what is flagged as cancelled. */
void csms_engine_cancel(void);

/* Flags everything of the channel. */
void csms_engine_flag_all(const struct csms_channel *channel);

/* A loop listens to the channel from now on: tells it what it missed. */
void csms_engine_attached(struct csms_channel *channel);

/* As csms_http_step(). */
void csms_engine_step(double timeout, uint64_t *seen);

/* What csms_thread.c builds on. claim: from now on steps only wait for what
 * somebody else delivers; drive: is that, and returns after dismiss; release:
 * steps drive again. */
void csms_engine_claim(void);
void csms_engine_drive(void);
void csms_engine_dismiss(void);
void csms_engine_release(void);

void csms_channel_unref(struct csms_channel *channel);

#endif
