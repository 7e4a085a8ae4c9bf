/* SPDX-License-Identifier: MIT
 *
 * SIGINT and SIGTERM as a flag that a program looks at; SIGPIPE is ignored
 * meanwhile, so that a closed pipe is a failed write. A signal is the
 * process's, so the flag and the handlers that were there before are the one
 * exception from "no global mutable state". For the command line; a library
 * must not take a program's signals. A signal that the program ignores stays
 * ignored. The second SIGINT has its default action: it ends the process.
 *
 * The handlers are installed without SA_RESTART, so that a signal also ends the
 * wait of csms_engine_step(). One that comes between the last look at the flag
 * and that wait does not end it, nor need one that another thread gets: whoever
 * waits looks at the flag every quarter of a second at least.
 */
#ifndef CSMS_SIGNAL_H
#define CSMS_SIGNAL_H

#include "csms_err.h"

/* Catches them from now on; does nothing where it does already.
 * Returns 0, or -1 with `err` (kind config) and no handler changed. */
int csms_signal_catch(struct csms_err *err);

/* The first signal caught since csms_signal_catch(), 0 where there was none.
 * Stays until csms_signal_release(). */
int csms_signal_caught(void);

/* Puts the former handlers back and clears the flag. */
void csms_signal_release(void);

#endif
