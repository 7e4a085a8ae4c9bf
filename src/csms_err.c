/* SPDX-License-Identifier: MIT */
#include "csms_err.h"

#include <stdarg.h>
#include <stdio.h>

int csms_err_set(struct csms_err *err, enum csms_kind kind, const char *format,
                 ...)
{
    va_list args;

    err->kind = kind;
    err->retryable = false;
    err->code = NULL;
    err->cause[0] = '\0';
    va_start(args, format);
    /* Too long a message is cut: it is text for people. */
    (void)vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return -1;
}

void csms_err_cause(struct csms_err *err, const char *cause)
{
    (void)snprintf(err->cause, sizeof err->cause, "%s", cause ? cause : "");
}

void csms_err_code(struct csms_err *err, const char *code)
{
    err->code = code;
}

int csms_err_memory(struct csms_err *err)
{
    csms_err_set(err, CSMS_NETWORK, "out of memory");
    err->retryable = true;
    return -1;
}

const char *csms_kind_name(enum csms_kind kind)
{
    switch (kind) {
    case CSMS_ARGUMENT:
        return "argument";
    case CSMS_CONFIG:
        return "config";
    case CSMS_CREDENTIALS:
        return "credentials";
    case CSMS_NETWORK:
        return "network";
    case CSMS_TLS:
        return "tls";
    case CSMS_TIMEOUT:
        return "timeout";
    case CSMS_PROTOCOL:
        return "protocol";
    case CSMS_CANCELLED:
        return "cancelled";
    case CSMS_STORAGE:
        return "storage";
    }
    return "protocol";
}
