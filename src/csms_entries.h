/* SPDX-License-Identifier: MIT
 *
 * What is in a directory below a csms_dir, by the rules of csms_dir.h.
 */
#ifndef CSMS_ENTRIES_H
#define CSMS_ENTRIES_H

#include <stddef.h>

#include "csms_buf.h"
#include "csms_dir.h"
#include "csms_err.h"
#include "csms_file.h"

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
int csms_entries_list(const struct csms_dir *dir, const char *path,
                      struct csms_entries *out, struct csms_err *err);

/* Accepts a zeroed one. */
void csms_entries_free(struct csms_entries *entries);

#endif
