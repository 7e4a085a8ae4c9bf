/* SPDX-License-Identifier: MIT
 *
 * The system's calls on files, for what works below a csms_dir. Each goes on
 * after EINTR, and returns -1 with errno where it fails. `at` and `name` are
 * those of openat(2), `flags` are added to its own. What is made is for its
 * owner alone, whatever the umask.
 */
#ifndef CSMS_FD_H
#define CSMS_FD_H

#include <sys/stat.h>
#include <sys/types.h>

#include "csms_buf.h"

/* Opens whatever it is. */
int csms_fd_open(int at, const char *name, int flags);

int csms_fd_open_directory(int at, const char *name, int flags);

/* Makes a directory and opens it; opens one that somebody else made before. */
int csms_fd_make_directory(int at, const char *name, int flags);

/* Opens a regular file that is no link, and fills in its status. */
int csms_fd_open_file(int at, const char *name, int flags, struct stat *status);

/* EEXIST where anything has that name. */
int csms_fd_make_file(int at, const char *name, int flags);

/* Opens a regular file, which is made where it is missing. */
int csms_fd_open_or_make_file(int at, const char *name, int flags);

/* Removes what was just made; `flags` are those of unlinkat(2). errno stays. */
void csms_fd_unmake(int at, const char *name, int flags);

/* Closes what was only read, or what is thrown away; errno stays. */
void csms_fd_drop(int fd);

/* Closes what was written, and returns -1 where `result` is, or where closing
 * tells that a write failed. */
int csms_fd_finish(int fd, int result);

/* All of it; after a failure some of it may be written. */
int csms_fd_write(int fd, struct csms_span data);

int csms_fd_cut(int fd, off_t size);

int csms_fd_sync(int fd);

/* Succeeds where the file system has no fsync of directories. */
int csms_fd_sync_directory(int fd);

#endif
