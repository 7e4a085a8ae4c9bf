/* SPDX-License-Identifier: MIT
 *
 * A directory below which files last: csms_file.h, csms_entries.h, csms_sync.h
 * and csms_lock.h work there, by the rules that stand here.
 *
 * Every path is relative to the directory, and each of its steps is opened by
 * itself with O_NOFOLLOW, so that no link and no ".." leads out of it. The
 * directory's own path may hold links. A path is components between single "/",
 * none of them empty, "." or "..".
 *
 * New directories get the mode 0700 and new files 0600, whatever the umask.
 * Functions return 0, or -1 with `err`: kind storage, never retryable, `code`
 * the name of the errno. After a failure nothing half-done is left, but for
 * directories that were made on the way. Nothing here is durable before
 * csms_dir_sync(), apart from the directory itself.
 */
#ifndef CSMS_DIR_H
#define CSMS_DIR_H

#include <stdbool.h>

#include "csms_err.h"

/* Used by one thread at a time. */
struct csms_dir {
    int fd;
    bool can_syncfs; /* one call instead of many: csms_dir_sync() */
    char path[];     /* as it was given, for messages */
};

/* Opens the directory; with `create` makes it and its missing parents, and
 * makes that durable. Returns NULL with `err`; else csms_dir_free() it. */
struct csms_dir *csms_dir_open(const char *path, bool create,
                               struct csms_err *err);

/* Closes; accepts NULL. Locks taken below it stay. */
void csms_dir_free(struct csms_dir *dir);

#endif
