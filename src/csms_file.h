/* SPDX-License-Identifier: MIT
 *
 * Files below a csms_dir, by the rules of csms_dir.h.
 */
#ifndef CSMS_FILE_H
#define CSMS_FILE_H

#include <stdint.h>

#include <sys/types.h>

#include "csms_buf.h"
#include "csms_dir.h"
#include "csms_err.h"

/* Makes a file with this content, and its missing directories. Fails with
 * EEXIST where anything has that name. */
int csms_file_create(const struct csms_dir *dir, const char *path,
                     struct csms_span data, struct csms_err *err);

/* Appends a regular file's content to `out`; EFBIG where it is over the
 * buffer's cap. */
int csms_file_read(const struct csms_dir *dir, const char *path,
                   struct csms_buf *out, struct csms_err *err);

/* Adds to the end of a file that is there. After a failure it is as long as it
 * was. For one writer at a time. */
int csms_file_append(const struct csms_dir *dir, const char *path,
                     struct csms_span data, struct csms_err *err);

/* Cuts the file, or lengthens it with NULs, to `size` bytes. */
int csms_file_truncate(const struct csms_dir *dir, const char *path,
                       uint64_t size, struct csms_err *err);

/* Takes the place of what has the name `to`, which must be of the same kind. */
int csms_file_rename(const struct csms_dir *dir, const char *from,
                     const char *to, struct csms_err *err);

/* A file or a link; EISDIR for a directory. */
int csms_file_remove(const struct csms_dir *dir, const char *path,
                     struct csms_err *err);

enum csms_file_type {
    CSMS_TYPE_FILE = 'f',
    CSMS_TYPE_DIRECTORY = 'd',
    CSMS_TYPE_LINK = 'l',
    CSMS_TYPE_OTHER = 'o'
};

enum csms_file_type csms_file_type_of(mode_t mode);

/* "file", "directory", "link" or "other". */
const char *csms_file_type_name(enum csms_file_type type);

struct csms_file_status {
    enum csms_file_type type;
    uint64_t size; /* bytes */
};

/* Of the link itself, where there is one. */
int csms_file_stat(const struct csms_dir *dir, const char *path,
                   struct csms_file_status *out, struct csms_err *err);

#endif
