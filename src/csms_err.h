/* SPDX-License-Identifier: MIT
 *
 * The error that engine functions fill in. An engine function that can fail
 * takes a `struct csms_err *` last and returns -1 (or NULL) after it set one;
 * on success it leaves the error alone.
 */
#ifndef CSMS_ERR_H
#define CSMS_ERR_H

#include <stdbool.h>

/* The kinds of design 2.2 that C code can meet; the ones that need a server's
 * answer (auth, denied, ...) are decided in Lua. */
enum csms_kind {
    CSMS_ARGUMENT,
    CSMS_CONFIG,
    CSMS_CREDENTIALS,
    CSMS_NETWORK,
    CSMS_TLS,
    CSMS_TIMEOUT,
    CSMS_PROTOCOL,
    CSMS_CANCELLED,
    CSMS_STORAGE
};

struct csms_err {
    enum csms_kind kind;
    bool retryable;
    const char *code;  /* a name for programs; static text, or NULL */
    char message[512]; /* one line, no secrets, says what to do */
    char cause[256];   /* the library's or the system's text; may be empty */
};

/* Fills `err` with a formatted message, no cause, no code and retryable =
 * false. Returns -1, so that a failing function can end in `return
 * csms_err_set(...)`.
 */
int csms_err_set(struct csms_err *err, enum csms_kind kind, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

/* Adds the underlying library's text; NULL leaves the cause empty. */
void csms_err_cause(struct csms_err *err, const char *cause);

/* Adds a code, which is not copied: static text, or NULL for none. */
void csms_err_code(struct csms_err *err, const char *code);

/* Out of memory. Kind network, retryable: no answer came, and another attempt
 * may find memory again. Returns -1. */
int csms_err_memory(struct csms_err *err);

/* The kind's name as Lua callers know it; static text. */
const char *csms_kind_name(enum csms_kind kind);

#endif
