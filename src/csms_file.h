/* SPDX-License-Identifier: MIT
 *
 * Files that last, below one directory. Every path is relative to that
 * directory, and each of its steps is opened by itself with O_NOFOLLOW, so that
 * no link and no ".." leads out of it. The directory's own path may hold links.
 *
 * A path is components between single "/", none of them empty, "." or "..".
 * New directories get the mode 0700 and new files 0600, whatever the umask.
 * Functions return 0, or -1 with `err`: kind storage, never retryable, `code`
 * the name of the errno. After a failure nothing half-done is left, but for
 * directories that were made on the way. Nothing here is durable before
 * csms_dir_sync(), apart from the directory itself.
 */
#ifndef CSMS_FILE_H
#define CSMS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csms_buf.h"
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

/* Makes a file with this content, and its missing directories. Fails with
 * EEXIST where anything has that name. */
int csms_dir_create(const struct csms_dir *dir, const char *path,
                    struct csms_span data, struct csms_err *err);

/* Makes durable what is at these paths, files and directories, and the
 * directory itself; a single path alone does not include it, unless it holds
 * that path. An entry is durable when the directory that holds it is. */
int csms_dir_sync(const struct csms_dir *dir, const char *const *paths,
                  size_t count, struct csms_err *err);

/* Takes the place of what has the name `to`, which must be of the same kind. */
int csms_dir_rename(const struct csms_dir *dir, const char *from,
                    const char *to, struct csms_err *err);

/* Appends a regular file's content to `out`; EFBIG where it is over the
 * buffer's cap. */
int csms_dir_read(const struct csms_dir *dir, const char *path,
                  struct csms_buf *out, struct csms_err *err);

/* Adds to the end of a file, which is made where it is missing. After a failure
 * the file is as long as it was. For one writer at a time. */
int csms_dir_append(const struct csms_dir *dir, const char *path,
                    struct csms_span data, struct csms_err *err);

/* Cuts the file, or lengthens it with NULs, to `size` bytes. */
int csms_dir_truncate(const struct csms_dir *dir, const char *path,
                      uint64_t size, struct csms_err *err);

/* A file or a link; EISDIR for a directory. */
int csms_dir_remove(const struct csms_dir *dir, const char *path,
                    struct csms_err *err);

/* ENOTEMPTY where something is in it. */
int csms_dir_remove_directory(const struct csms_dir *dir, const char *path,
                              struct csms_err *err);

enum csms_file_type {
    CSMS_TYPE_FILE = 'f',
    CSMS_TYPE_DIRECTORY = 'd',
    CSMS_TYPE_LINK = 'l',
    CSMS_TYPE_OTHER = 'o'
};

/* "file", "directory", "link" or "other". */
const char *csms_file_type_name(enum csms_file_type type);

struct csms_entry {
    const char *name; /* points into the list's text */
    enum csms_file_type type;
};

struct csms_entries {
    struct csms_buf text;
    struct csms_entry *items; /* in the order of strcmp() */
    size_t count;
};

/* Lists a directory, without "." and ".."; NULL for the root. `out` may be
 * uninitialised; csms_entries_free() it after a failure too. */
int csms_dir_entries(const struct csms_dir *dir, const char *path,
                     struct csms_entries *out, struct csms_err *err);
/* Accepts a zeroed one. */
void csms_entries_free(struct csms_entries *entries);

struct csms_file_status {
    enum csms_file_type type;
    uint64_t size; /* bytes */
    unsigned mode; /* the permission bits */
    double mtime;  /* seconds since 1970 */
};

/* Of the link itself, where there is one. */
int csms_dir_stat(const struct csms_dir *dir, const char *path,
                  struct csms_file_status *out, struct csms_err *err);

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
