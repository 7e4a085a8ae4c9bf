/* SPDX-License-Identifier: MIT
 *
 * Endpoint, proxy and the other settings of an origin. Fields: flags (one
 * byte), url, proxy, ca_file, signing, region, service, user_agent, then eight
 * bytes of a connect_timeout. As csms.config refuses control characters in all
 * of them, there are none here.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "peer.h"

struct input {
    struct csms_origin_config config;
    char *strings[7];
};

static char *clean_string(struct csms_span field)
{
    char *string = fuzz_string(field);

    for (char *c = string; c && *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return string;
}

static void read_input(struct csms_span rest, struct input *input)
{
    struct csms_origin_config *config = &input->config;
    unsigned flags = fuzz_byte(fuzz_field(&rest));

    memset(input, 0, sizeof *input);
    for (size_t i = 0; i < 7; i++)
        input->strings[i] = clean_string(fuzz_field(&rest));
    config->url = input->strings[0] ? input->strings[0] : "";
    config->proxy = input->strings[1];
    config->ca_file = input->strings[2];
    config->signing = input->strings[3];
    config->region = input->strings[4];
    config->service = input->strings[5];
    config->user_agent = input->strings[6];
    config->allow_http = (flags & 1) != 0;
    config->no_proxy = (flags & 2) != 0;
    config->http1 = true;
    config->max_response = 4096;
    config->connect_timeout = 5;
    if (rest.len >= sizeof config->connect_timeout)
        memcpy(&config->connect_timeout, rest.data,
               sizeof config->connect_timeout);
}

static bool is_loopback(const struct csms_origin *origin)
{
    const char *host = origin->host;

    return strncasecmp(host, "localhost", 9) == 0 ||
           strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0;
}

/* Scheme, host and perhaps a port; nothing that could start another part. */
static void check_address(const struct csms_origin *origin, bool allow_http)
{
    const char *scheme = origin->https ? "https://" : "http://";

    CHECK(origin->https || allow_http || is_loopback(origin));
    CHECK(strncmp(origin->base, scheme, strlen(scheme)) == 0);
    CHECK(strcmp(origin->base + strlen(scheme), origin->host) == 0);
    CHECK(origin->host[0] != '\0');
    CHECK(!strpbrk(origin->host, "/?#@ \t\r\n\\"));
    CHECK(origin->connect_timeout_ms >= 1);
    CHECK(origin->connect_timeout_ms <= INT_MAX);
}

/* What an origin says of itself makes the same origin. */
static void check_again(const struct csms_origin *origin,
                        const struct csms_origin_config *config)
{
    struct csms_origin_config again = *config;
    struct csms_origin *other = NULL;
    struct csms_err err;

    again.url = origin->base;
    other = csms_origin_new(&again, &err);
    CHECK(other);
    CHECK(strcmp(other->base, origin->base) == 0);
    CHECK(strcmp(other->host, origin->host) == 0);
    csms_origin_unref(other);
}

/* The Host header that libcurl sends is the one that is signed. */
static void check_host(struct csms_origin *origin, struct csms_span came)
{
    const char *start = memmem(came.data, came.len, "\r\nHost: ", 8);
    const char *end = NULL;

    CHECK(start);
    start += 8;
    end = memchr(start, '\r', came.len - (size_t)(start - came.data));
    CHECK(end);
    fuzz_check_same("Host", (struct csms_span){start, (size_t)(end - start)},
                    csms_span_of(origin->host));
}

static struct csms_transfer *submit(struct csms_channel *channel,
                                    struct csms_origin *origin,
                                    struct csms_err *err)
{
    struct csms_request request = {.method = "GET",
                                   .target = csms_span_of("/"),
                                   .body = csms_span_of(""),
                                   .timeout = 60,
                                   .time = 1795276800,
                                   .fresh = true};

    return csms_http_submit(channel, origin, &request, NULL, err);
}

/* Whatever the host, no name is looked up. */
static void go_nowhere(CURL *easy)
{
    static struct curl_slist *there;

    if (!there)
        there = curl_slist_append(NULL, "::127.0.0.1:1");
    CHECK(there);
    CHECK(curl_easy_setopt(easy, CURLOPT_CONNECT_TO, there) == CURLE_OK);
}

static void exchange(struct csms_origin *origin)
{
    struct csms_channel *channel = peer_channel();
    struct peer peer = {
        .answer = csms_span_of("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        .piece = 4096,
        .prepare = go_nowhere};
    struct csms_err err;
    struct csms_transfer *transfer = submit(channel, origin, &err);

    if (transfer) {
        peer_run(&peer, channel, transfer);
        if (csms_transfer_error(transfer))
            fuzz_check_error(csms_transfer_error(transfer));
        else
            check_host(origin, fuzz_view(&peer.request));
    } else {
        fuzz_check_error(&err);
    }
    csms_transfer_unref(transfer);
    csms_channel_close(channel);
    peer_free(&peer);
}

/* An endpoint without a user, and `signing`, are repeated to say what is wrong;
 * a proxy never is. */
static bool may_repeat(const struct csms_origin_config *config)
{
    return (strstr(config->url, FUZZ_SECRET) && !strchr(config->url, '@')) ||
           (config->signing && strstr(config->signing, FUZZ_SECRET));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_text text = fuzz_input(data, size);
    struct csms_origin *origin = NULL;
    struct input input;
    struct csms_err err;

    read_input(fuzz_view(&text), &input);
    origin = csms_origin_new(&input.config, &err);
    if (origin) {
        check_address(origin, input.config.allow_http);
        check_again(origin, &input.config);
        if (!origin->https && origin->proxy && !*origin->proxy)
            exchange(origin);
    } else {
        CHECK(err.kind == CSMS_CONFIG && !err.retryable);
        fuzz_check_error(&err);
        if (!may_repeat(&input.config))
            fuzz_check_secret(&err);
    }
    csms_origin_unref(origin);
    for (size_t i = 0; i < 7; i++)
        free(input.strings[i]);
    free(text.data);
    return 0;
}
