/* SPDX-License-Identifier: MIT
 *
 * What a service may send: status line, header lines and body, through libcurl
 * into the transfer's buffers. The first byte says how:
 *   bit 0   the rest is HTTP/2 frames, else HTTP/1.1
 *   bit 1   the rest is the parts of a good answer (below), else raw bytes, in
 *           which 0xff and a byte repeat the line before that many times 16
 *   bit 2   POST, else GET
 *   bits 3-5  how many bytes are written at once
 * A good answer's fields: status (digits), a header line of an interim answer
 * or nothing, header lines up to an empty field; the rest is the body.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "peer.h"

#define MAX_RESPONSE 4096
#define MAX_HEAD (256 * 1024)
#define MAX_ANSWER (400 * 1024)
#define MAX_HEADERS 16

struct good {
    int status;
    struct csms_header interim;
    struct csms_header headers[MAX_HEADERS];
    size_t count;
    struct csms_span body;
    struct fuzz_text store; /* of the names and values */
};

/* ---- raw bytes ---------------------------------------------------------- */

static void repeat_line(struct fuzz_text *out, unsigned times)
{
    size_t end = out->len;
    size_t start = end - 1;
    char *line = NULL;

    if (end == 0 || end > MAX_ANSWER)
        return;
    while (start > 0 && out->data[start - 1] != '\n')
        start--;
    line = malloc(end - start);
    CHECK(line);
    memcpy(line, out->data + start, end - start);
    for (unsigned i = 0; i < times && out->len < MAX_ANSWER; i++)
        fuzz_put(out, line, end - start);
    free(line);
}

static struct fuzz_text raw_answer(struct csms_span from, bool http2)
{
    struct fuzz_text out = {NULL, 0, 0};

    for (size_t i = 0; i < from.len; i++) {
        if (!http2 && (unsigned char)from.data[i] == 0xff && i + 1 < from.len)
            repeat_line(&out, 16U * (unsigned char)from.data[++i]);
        else
            fuzz_put(&out, from.data + i, 1);
    }
    return out;
}

/* ---- a good answer ------------------------------------------------------ */

static void put_clean(struct fuzz_text *out, struct csms_span from, bool name)
{
    for (size_t i = 0; i < from.len; i++) {
        unsigned char c = (unsigned char)from.data[i];
        bool good =
            name ? c < 0x80 && (isalnum(c) || c == '-') : c >= ' ' && c != 0x7f;

        fuzz_puts(out, good ? (char[]){(char)c, '\0'} : "-");
    }
}

/* "X-name: value", with only what may stand there. Offsets until the text no
 * longer moves: see settle(). */
static struct csms_header read_header(struct csms_span field,
                                      struct fuzz_text *store)
{
    const char *colon = memchr(field.data, ':', field.len);
    size_t len = colon ? (size_t)(colon - field.data) : field.len;
    size_t start = store->len;
    struct csms_header header = {{NULL, 0}, {NULL, 0}};

    fuzz_puts(store, "X-");
    put_clean(store, (struct csms_span){field.data, len}, true);
    header.name.len = store->len - start;
    if (colon)
        put_clean(store, (struct csms_span){colon + 1, field.len - len - 1},
                  false);
    header.value.len = store->len - start - header.name.len;
    return header;
}

static void settle(struct csms_header *header, const char **at)
{
    header->name.data = *at;
    header->value.data = *at + header->name.len;
    *at += header->name.len + header->value.len;
}

static void read_good(struct csms_span rest, struct good *good)
{
    char *status = fuzz_string(fuzz_field(&rest));
    struct csms_span interim = fuzz_field(&rest);
    const char *at = NULL;

    memset(good, 0, sizeof *good);
    good->status = 200 + (status ? (int)(strtoul(status, NULL, 10) % 400) : 0);
    if (good->status == 204 || good->status == 304)
        good->status = 200; /* those have no body */
    if (interim.len > 0)
        good->interim = read_header(interim, &good->store);
    for (;;) {
        struct csms_span field = fuzz_field(&rest);

        if (field.len == 0 || good->count == MAX_HEADERS)
            break;
        good->headers[good->count++] = read_header(field, &good->store);
    }
    good->body = rest;
    at = fuzz_view(&good->store).data;
    if (interim.len > 0)
        settle(&good->interim, &at);
    for (size_t i = 0; i < good->count; i++)
        settle(&good->headers[i], &at);
    free(status);
}

static void put_header(struct fuzz_text *out, const struct csms_header *header)
{
    fuzz_put(out, header->name.data, header->name.len);
    fuzz_puts(out, ":");
    fuzz_put(out, header->value.data, header->value.len);
    fuzz_puts(out, "\r\n");
}

static struct fuzz_text good_answer(const struct good *good)
{
    struct fuzz_text out = {NULL, 0, 0};
    char line[64];

    if (good->interim.name.len > 0) {
        fuzz_puts(&out, "HTTP/1.1 103 Early Hints\r\n");
        put_header(&out, &good->interim);
        fuzz_puts(&out, "\r\n");
    }
    (void)snprintf(line, sizeof line, "HTTP/1.1 %d It\r\n", good->status);
    fuzz_puts(&out, line);
    for (size_t i = 0; i < good->count; i++)
        put_header(&out, &good->headers[i]);
    (void)snprintf(line, sizeof line, "Content-Length: %zu\r\n\r\n",
                   good->body.len);
    fuzz_puts(&out, line);
    fuzz_put(&out, good->body.data, good->body.len);
    return out;
}

static bool same_name(struct csms_span a, struct csms_span b)
{
    return a.len == b.len && strncasecmp(a.data, b.data, a.len) == 0;
}

static void check_header(const struct good *good,
                         const struct csms_transfer *transfer,
                         struct csms_span name)
{
    char *wanted = fuzz_string(name);
    struct csms_span value = {"", 0};
    bool found = csms_transfer_header(transfer, wanted, &value);
    size_t first = 0;

    while (first < good->count && !same_name(good->headers[first].name, name))
        first++;
    CHECK(found == (first < good->count));
    if (found)
        fuzz_check_same("a header", value,
                        csms_span_trim(good->headers[first].value));
    free(wanted);
}

static void check_good(const struct good *good,
                       const struct csms_transfer *transfer)
{
    const struct csms_err *err = csms_transfer_error(transfer);

    if (good->body.len > MAX_RESPONSE) {
        CHECK(err && err->kind == CSMS_PROTOCOL && !err->retryable);
        return;
    }
    CHECK(!err);
    CHECK(csms_transfer_status(transfer) == good->status);
    fuzz_check_same("the body", csms_transfer_body(transfer), good->body);
    for (size_t i = 0; i < good->count; i++)
        check_header(good, transfer, good->headers[i].name);
    if (good->interim.name.len > 0)
        check_header(good, transfer, good->interim.name);
}

/* ---- what holds for any answer ------------------------------------------ */

static void check_lookup(const struct csms_transfer *transfer, const char *name)
{
    struct csms_span head = csms_buf_view(&transfer->head);
    struct csms_span value = {NULL, 0};

    if (!csms_transfer_header(transfer, name, &value))
        return;
    CHECK(value.data >= head.data + transfer->answer);
    CHECK(value.data + value.len <= head.data + head.len);
    CHECK(!memchr(value.data, '\n', value.len));
}

static void check_any(const struct csms_transfer *transfer)
{
    const struct csms_err *err = csms_transfer_error(transfer);

    CHECK(transfer->head.len <= MAX_HEAD &&
          transfer->head.size <= MAX_HEAD + 1);
    CHECK(transfer->body.len <= MAX_RESPONSE);
    CHECK(transfer->body.size <= MAX_RESPONSE + 1);
    CHECK(transfer->answer <= transfer->head.len);
    CHECK(transfer->status >= 0 && transfer->status <= 999);
    CHECK(!transfer->easy && !transfer->headers);
    check_lookup(transfer, "Retry-After");
    check_lookup(transfer, "X-Request-Id");
    check_lookup(transfer, "");
    if (!err) {
        CHECK(transfer->head_whole);
        CHECK(transfer->status / 100 != 1 || transfer->status == 101);
        return;
    }
    fuzz_check_error(err);
    CHECK(err->kind == CSMS_NETWORK || err->kind == CSMS_PROTOCOL);
    CHECK(err->kind == CSMS_NETWORK ? err->retryable : !err->retryable);
}

/* ---- the run ------------------------------------------------------------ */

static struct csms_origin *new_origin(void)
{
    struct csms_origin_config config = {
        .url = "http://127.0.0.1:1",
        .connect_timeout = 60,
        .max_response = MAX_RESPONSE,
        .http1 = true,
        .no_proxy = true,
    };
    struct csms_err err;
    struct csms_origin *origin = csms_origin_new(&config, &err);

    CHECK(origin);
    return origin;
}

static struct csms_transfer *submit(struct csms_channel *channel,
                                    struct csms_origin *origin, unsigned how)
{
    struct csms_request request = {.method = how & 4 ? "POST" : "GET",
                                   .target = csms_span_of("/"),
                                   .body = csms_span_of(""),
                                   .timeout = 60,
                                   .time = 1795276800,
                                   .fresh = true};
    struct csms_err err;
    struct csms_transfer *transfer =
        csms_http_submit(channel, origin, &request, NULL, &err);

    CHECK(transfer);
    return transfer;
}

/* Without TLS and without an upgrade. */
static void speak_http2(CURL *easy)
{
    CHECK(curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                           (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE) ==
          CURLE_OK);
}

/* An ordinary exchange before: the engine keeps what it used. */
static void exchange_before(struct csms_channel *channel,
                            struct csms_origin *origin)
{
    struct peer peer = {.answer =
                            csms_span_of("HTTP/1.1 200 OK\r\nX-Before: 1\r\n"
                                         "Content-Length: 2\r\n\r\n{}"),
                        .piece = 4096};
    struct csms_transfer *transfer = submit(channel, origin, 0);

    peer_run(&peer, channel, transfer);
    CHECK(!csms_transfer_error(transfer));
    csms_transfer_unref(transfer);
    peer_free(&peer);
}

static void exchange(struct csms_channel *channel, struct csms_origin *origin,
                     unsigned how, struct csms_span answer,
                     const struct good *good)
{
    struct peer peer = {.answer = answer,
                        .prepare = how & 1 ? speak_http2 : NULL};
    struct csms_transfer *transfer = submit(channel, origin, how);

    /* Long answers in tiny pieces would only take time. */
    peer.piece = ((size_t)1 << 2 * (how >> 3 & 7)) + answer.len / 64;
    peer_run(&peer, channel, transfer);
    check_any(transfer);
    if (good)
        check_good(good, transfer);
    csms_transfer_unref(transfer);
    peer_free(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned how = size > 0 ? data[0] : 0;
    bool is_good = (how & 3) == 2;
    struct csms_span rest = {size > 0 ? (const char *)data + 1 : "",
                             size > 0 ? size - 1 : 0};
    struct csms_channel *channel = peer_channel();
    struct csms_origin *origin = new_origin();
    struct good good;
    struct fuzz_text answer = {NULL, 0, 0};

    read_good(rest, &good);
    answer = is_good ? good_answer(&good) : raw_answer(rest, (how & 1) != 0);
    exchange_before(channel, origin);
    exchange(channel, origin, how, fuzz_view(&answer), is_good ? &good : NULL);
    csms_channel_close(channel);
    csms_origin_unref(origin);
    free(answer.data);
    free(good.store.data);
    return 0;
}
