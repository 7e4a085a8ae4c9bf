/* SPDX-License-Identifier: MIT
 *
 * Making durable what is below a csms_dir, by the rules of csms_dir.h.
 */
#ifndef CSMS_SYNC_H
#define CSMS_SYNC_H

#include <stdbool.h>
#include <stddef.h>

#include "csms_dir.h"
#include "csms_err.h"

/* Makes durable what is at these paths, files and directories, and the
 * directory itself; a single path alone does not include it, unless it holds
 * that path. An entry is durable when the directory that holds it is. */
int csms_dir_sync(const struct csms_dir *dir, const char *const *paths,
                  size_t count, struct csms_err *err);

/* Whether syncfs(2) of what `fd` is on promises what fsync(2) of each file
 * does; false too where that cannot be told. */
bool csms_sync_can_syncfs(int fd);

#endif
