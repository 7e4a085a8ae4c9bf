/* SPDX-License-Identifier: MIT
 *
 * Text: `csms_span` borrows it, `csms_buf` owns it. Every buffer has a cap
 * given at its start, and is wiped when it grows, is emptied or is freed,
 * because any of them may hold a token.
 */
#ifndef CSMS_BUF_H
#define CSMS_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "csms_err.h"

/* Bytes that belong to somebody else; not NUL-terminated, may hold NULs. */
struct csms_span {
    const char *data;
    size_t len;
};

struct csms_span csms_span_of(const char *text); /* NULL gives an empty span */

/* Without the blanks, tabs and line ends at both ends. */
struct csms_span csms_span_trim(struct csms_span span);

enum csms_buf_failure { CSMS_BUF_OK = 0, CSMS_BUF_FULL, CSMS_BUF_MEMORY };

struct csms_buf {
    char *data; /* NUL-terminated, once there is memory; else NULL */
    size_t len;
    size_t size; /* allocated */
    size_t cap;  /* len never exceeds it */
    enum csms_buf_failure failure;
};

/* Allocates nothing yet. */
void csms_buf_init(struct csms_buf *buf, size_t cap);

/* Room for so many bytes, or as many as the cap allows; a failure sticks, as
 * below. */
void csms_buf_reserve(struct csms_buf *buf, size_t len);

/* Appending is all or nothing, and a failure sticks: every later append fails
 * too, so that a text can be written in one go and checked once at its end.
 * Returns false on failure. */
bool csms_buf_append(struct csms_buf *buf, const void *data, size_t len);
bool csms_buf_text(struct csms_buf *buf, const char *text);
bool csms_buf_span(struct csms_buf *buf, struct csms_span span);
bool csms_buf_char(struct csms_buf *buf, char c);

/* Returns 0, or -1 with `err` set where an append has failed; `what` names the
 * content for the message. */
int csms_buf_check(const struct csms_buf *buf, const char *what,
                   struct csms_err *err);

/* Empties and wipes what it held; keeps the memory for the next use. */
void csms_buf_reset(struct csms_buf *buf);

/* Wipes and frees; the buffer can be used again. Accepts a zeroed one. */
void csms_buf_free(struct csms_buf *buf);

/* The content; valid until the next change. */
struct csms_span csms_buf_view(const struct csms_buf *buf);

#endif
