/* SPDX-License-Identifier: MIT
 *
 * An origin: one scheme, host and port to speak to, with everything that holds
 * for all requests there (TLS, proxy, limits, how to sign). Immutable, shared
 * by its transfers through a reference count.
 */
#ifndef CSMS_ORIGIN_H
#define CSMS_ORIGIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "csms_err.h"
#include "csms_sign.h"

/* Strings may be NULL where nothing is said about it. Times in seconds. */
struct csms_origin_config {
    const char *url;     /* "https://host[:port]", needed */
    const char *ca_file; /* NULL: libcurl's own bundle */
    const char *proxy;   /* NULL: libcurl's environment; never for loopback */
    const char *signing; /* NULL: SDK-HMAC-SHA256 */
    const char *region;  /* for V11 */
    const char *service; /* for V11 */
    const char *user_agent;
    double connect_timeout;
    size_t max_response; /* bytes of one body */
    bool http1;          /* force HTTP/1.1 */
    bool allow_http;     /* plain http to a host that is not loopback */
    bool no_proxy;       /* not even the environment's */
};

struct csms_origin {
    atomic_int refs;
    char *base; /* "https://host[:port]" without a slash at its end */
    char *host; /* the Host header's value */
    char *ca_file;
    char *proxy; /* NULL: libcurl's environment; "": none */
    char *region;
    char *service;
    char *user_agent;
    long connect_timeout_ms;
    size_t max_response;
    enum csms_algorithm signing;
    bool https;
    bool http1;
};

/* Checks and copies. Reference count 1; NULL with `err` set (kind config). */
struct csms_origin *csms_origin_new(const struct csms_origin_config *config,
                                    struct csms_err *err);
struct csms_origin *csms_origin_ref(struct csms_origin *origin);
void csms_origin_unref(struct csms_origin *origin); /* accepts NULL */

/* Seconds as libcurl's milliseconds, rounded up, at least 1; INT_MAX caps. */
long csms_milliseconds(double seconds);

#endif
