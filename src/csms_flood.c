/* SPDX-License-Identifier: MIT */
#include "csms_flood.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <dlfcn.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

/* Of an honest connection libcurl reads less in one call, as it takes turns
 * among the transfers, or is through with it in no time. */
#define LOOK_EVERY 256 /* records, which are of at most 16 KiB */
#define MAX_SECONDS 3  /* since the first look at the clock, in whole ones */

typedef long set_callback_fn(SSL_CTX *context, int which,
                             void (*callback)(void));
typedef void set_shutdown_fn(SSL *connection, int mode);

/* Of the libssl that libcurl brought along; NULL where there is no guard. */
static set_callback_fn *set_callback;
static set_shutdown_fn *set_shutdown;

/* What libcurl reads in the present call. */
static struct {
    const SSL *connection;
    unsigned int records;
    time_t since; /* the first look at the clock */
} reading;

/* Whether libcurl is on OpenSSL, and on the very one that we see: its objects
 * mean nothing to another. */
static bool shares_openssl(void)
{
    const char *theirs = curl_version_info(CURLVERSION_NOW)->ssl_version;
    char ours[64];
    int len = snprintf(ours, sizeof ours, "OpenSSL/%s",
                       OpenSSL_version(OPENSSL_VERSION_STRING));

    return theirs && len > 0 && (size_t)len < sizeof ours &&
           strncmp(theirs, ours, (size_t)len) == 0 &&
           (theirs[len] == '\0' || theirs[len] == ' ');
}

void csms_flood_init(void)
{
    if (!shares_openssl())
        return;
    set_shutdown = (set_shutdown_fn *)dlsym(RTLD_DEFAULT, "SSL_set_shutdown");
    if (set_shutdown)
        set_callback =
            (set_callback_fn *)dlsym(RTLD_DEFAULT, "SSL_CTX_callback_ctrl");
}

static void look_at_clock(SSL *connection)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (reading.records == LOOK_EVERY)
        reading.since = now.tv_sec;
    else if (now.tv_sec - reading.since >= MAX_SECONDS)
        set_shutdown(connection, SSL_RECEIVED_SHUTDOWN);
}

static void on_record(int is_sent, int version, int type, const void *data,
                      size_t size, SSL *connection, void *user)
{
    (void)version;
    (void)data;
    (void)size;
    (void)user;
    if (is_sent || type != SSL3_RT_HEADER)
        return;
    if (connection != reading.connection) {
        reading.connection = connection;
        reading.records = 0;
    }
    if (++reading.records % LOOK_EVERY == 0)
        look_at_clock(connection);
}

static CURLcode on_context(CURL *easy, void *context, void *user)
{
    (void)easy;
    (void)user;
    (void)set_callback(context, SSL_CTRL_SET_MSG_CALLBACK,
                       (void (*)(void))on_record);
    return CURLE_OK;
}

CURLcode csms_flood_set(CURL *easy)
{
    if (!set_callback)
        return CURLE_OK;
    return curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
}

void csms_flood_enter(void)
{
    reading.connection = NULL;
}
