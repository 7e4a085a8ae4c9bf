/* SPDX-License-Identifier: MIT
 *
 * A lock file below a csms_dir, by the rules of csms_dir.h.
 */
#ifndef CSMS_LOCK_H
#define CSMS_LOCK_H

#include "csms_buf.h"
#include "csms_dir.h"
#include "csms_err.h"

/* Takes an exclusive flock of the file, which is made where it is missing, and
 * writes `text` into it for whoever comes next. Does not wait: where another
 * process, or another lock of this one, holds it, `code` is "locked" and
 * `cause` the holder's text. Returns NULL with `err`; else csms_lock_free() it.
 *
 * The lock ends with the process. A child that was forked shares it, and keeps
 * it while it lives where the process dies without csms_lock_free(). */
struct csms_lock *csms_lock_take(const struct csms_dir *dir, const char *path,
                                 struct csms_span text, struct csms_err *err);

/* Empties the file, which stays, and frees the lock, whoever was forked
 * meanwhile; in a forked child it does neither. Accepts NULL. */
void csms_lock_free(struct csms_lock *lock);

#endif
