/* SPDX-License-Identifier: MIT
 *
 * The walk down a path below a csms_dir, step by step, to the directory that
 * holds its last name; and the error of what is done there.
 */
#ifndef CSMS_PATH_H
#define CSMS_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "csms_dir.h"
#include "csms_err.h"

#define CSMS_MAX_SHOWN 240 /* of a path in a message */

/* Where a path ends. Borrows all that it points to. */
struct csms_place {
    const struct csms_dir *dir;
    const char *verb; /* what is done there, for messages */
    const char *path; /* NULL: the root itself */
    const char *name; /* the last component; "." of the root */
    int at;           /* the directory that holds it */
};

/* Checks the path before anything is done, and walks it; `make` makes the
 * directories that are missing. The last component is not looked at. After
 * success csms_place_close() or csms_place_end() it. */
int csms_place_open(struct csms_place *place, const struct csms_dir *dir,
                    const char *verb, const char *path, bool make,
                    struct csms_err *err);

/* The root itself, which need not be closed. */
struct csms_place csms_place_root(const struct csms_dir *dir, const char *verb);

/* errno stays. */
void csms_place_close(const struct csms_place *place);

/* Closes it, and turns a `result` that is not 0 into the error of errno.
 * Returns `result`. */
int csms_place_end(const struct csms_place *place, int result,
                   struct csms_err *err);

/* Makes `err` say that what errno tells failed there. Returns -1. */
int csms_place_fail(const struct csms_place *place, struct csms_err *err);

/* The whole path as one line; of a long one the end. */
void csms_place_show(const struct csms_place *place, char *text, size_t size);

/* Blanks what would not stay in one line, such as a name may hold, or a file.
 */
void csms_path_blank(char *text);

#endif
