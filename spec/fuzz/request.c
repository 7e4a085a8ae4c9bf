/* SPDX-License-Identifier: MIT
 *
 * A whole signed request, as libcurl puts it on the wire, verified as the
 * service would: from the bytes that came, by the second implementation
 * (naive.c). Fields: algorithm and method (one byte each), ak, sk, security
 * token, project, target, headers as "name:value" up to an empty field; the
 * rest is the body.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "naive.h"
#include "peer.h"

#define MAX_LINES 64

static const char *const algorithms[] = {"SDK-HMAC-SHA256", "SDK-HMAC-SM3",
                                         "V11-HMAC-SHA256"};
static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};

/* ---- what is asked ------------------------------------------------------ */

struct input {
    const char *algorithm;
    struct csms_span ak;
    struct csms_span sk;
    struct csms_span security_token;
    char *project;
    struct fuzz_text target;
    struct csms_header headers[4];
    struct csms_request request;
};

/* The contract of csms_request.target: it is a path and a query already. */
static struct fuzz_text as_target(struct csms_span field)
{
    struct fuzz_text out = {NULL, 0, 0};

    fuzz_puts(&out, "/");
    for (size_t i = 0; i < field.len; i++) {
        char c = field.data[i];

        if (c > ' ' && c < 0x7f && !strchr("#\"<>\\^`{|}", c))
            fuzz_put(&out, &c, 1);
    }
    return out;
}

static bool is_token(struct csms_span name)
{
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.data[i] >= 0x80 ||
            (!isalnum(name.data[i]) && name.data[i] != '-' &&
             name.data[i] != '_'))
            return false;
    return name.len > 0;
}

/* Ours to choose, not the caller's. */
static bool is_reserved(struct csms_span name)
{
    static const char *const reserved[] = {"authorization",
                                           "connection",
                                           "content-length",
                                           "expect",
                                           "host",
                                           "transfer-encoding",
                                           "user-agent",
                                           "accept",
                                           "http2-settings",
                                           "upgrade",
                                           "te",
                                           "x-project-id",
                                           "x-sdk-date",
                                           "x-security-token",
                                           "x-auth-token",
                                           "x-sdk-content-sha256",
                                           "x-sdk-content-sm3"};

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strlen(reserved[i]) == name.len &&
            strncasecmp(reserved[i], name.data, name.len) == 0)
            return true;
    return false;
}

static void read_headers(struct csms_span *rest, struct input *input)
{
    for (;;) {
        struct csms_span field = fuzz_field(rest);
        const char *colon = memchr(field.data, ':', field.len);
        size_t len = colon ? (size_t)(colon - field.data) : 0;
        struct csms_span name = {field.data, len};

        if (field.len == 0 || input->request.header_count == 4)
            return;
        if (!is_token(name) || is_reserved(name))
            continue;
        input->headers[input->request.header_count++] =
            (struct csms_header){name, {colon + 1, field.len - len - 1}};
    }
}

static void read_input(struct csms_span rest, struct input *input)
{
    struct csms_request *request = &input->request;

    memset(input, 0, sizeof *input);
    input->algorithm = algorithms[fuzz_byte(fuzz_field(&rest)) % 3];
    request->method = methods[fuzz_byte(fuzz_field(&rest)) % 4];
    input->ak = fuzz_field(&rest);
    input->sk = fuzz_field(&rest);
    input->security_token = fuzz_field(&rest);
    input->project = fuzz_string(fuzz_field(&rest));
    input->target = as_target(fuzz_field(&rest));
    read_headers(&rest, input);
    request->target = fuzz_view(&input->target);
    request->headers = input->headers;
    request->body = rest;
    if (strcmp(request->method, "GET") == 0)
        request->body.len = 0;
    request->project = input->project;
    request->timeout = 60;
    request->time = 1795276800;
    request->fresh = true;
}

/* ---- what came, as the service reads it --------------------------------- */

struct wire {
    struct csms_sign_request request; /* the signed headers only */
    struct csms_header lines[MAX_LINES];
    size_t line_count;
    struct csms_span authorization;
    struct csms_span target;
    char *date;
};

/* Cuts the text before the first `separator` off; false where there is none. */
static bool cut(struct csms_span *rest, const char *separator,
                struct csms_span *head)
{
    size_t len = strlen(separator);
    const char *at = memmem(rest->data, rest->len, separator, len);

    if (!at)
        return false;
    *head = (struct csms_span){rest->data, (size_t)(at - rest->data)};
    rest->data += head->len + len;
    rest->len -= head->len + len;
    return true;
}

static bool is(struct csms_span text, const char *expected)
{
    return text.len == strlen(expected) &&
           strncasecmp(text.data, expected, text.len) == 0;
}

static void read_lines(struct csms_span *rest, struct wire *wire)
{
    struct csms_span line = {"", 0};

    for (;;) {
        struct csms_span name = {"", 0};

        CHECK(cut(rest, "\r\n", &line));
        if (line.len == 0)
            return;
        CHECK(wire->line_count < MAX_LINES);
        CHECK(cut(&line, ":", &name));
        wire->lines[wire->line_count++] = (struct csms_header){name, line};
        if (is(name, "authorization"))
            wire->authorization = csms_span_trim(line);
        if (is(name, "x-sdk-date"))
            wire->date = fuzz_string(csms_span_trim(line));
    }
}

/* Each name that Authorization lists, with the line that has it; a name that
 * is there twice stands for its lines in turn. */
static void choose_signed(struct wire *wire)
{
    struct csms_span rest = wire->authorization;
    struct csms_span names = {"", 0};
    bool used[MAX_LINES] = {false};

    CHECK(cut(&rest, ", SignedHeaders=", &names) && cut(&rest, ", ", &names));
    for (bool more = true; more;) {
        struct csms_span name = names;
        size_t at = 0;

        more = cut(&names, ";", &name);
        while (
            at < wire->line_count &&
            (used[at] || wire->lines[at].name.len != name.len ||
             strncasecmp(wire->lines[at].name.data, name.data, name.len) != 0))
            at++;
        CHECK(at < wire->line_count); /* signed, but not sent */
        used[at] = true;
        CHECK(wire->request.header_count < CSMS_SIGN_MAX_HEADERS);
        wire->request.headers[wire->request.header_count++] = wire->lines[at];
    }
}

static void read_wire(struct csms_span rest, struct wire *wire)
{
    struct csms_span target = {"", 0};

    memset(wire, 0, sizeof *wire);
    CHECK(cut(&rest, " ", &wire->request.method));
    CHECK(cut(&rest, " HTTP/1.1\r\n", &target));
    wire->target = target;
    if (!cut(&target, "?", &wire->request.path))
        wire->request.path = target;
    else
        wire->request.query = target;
    if (!wire->request.query.data)
        wire->request.query.data = "";
    read_lines(&rest, wire);
    wire->request.body = rest;
    CHECK(wire->date && wire->authorization.len > 0);
    choose_signed(wire);
}

static void check_wire(const struct input *input, struct csms_span came)
{
    char *ak = fuzz_string(input->ak);
    char *sk = fuzz_string(input->sk);
    struct wire wire;
    struct fuzz_text expected = {NULL, 0, 0};

    read_wire(came, &wire);
    fuzz_check_same("the target", wire.target, input->request.target);
    fuzz_check_same("the body", wire.request.body, input->request.body);
    wire.request.date = wire.date;
    wire.request.region = "cn-north-4";
    wire.request.service = "csms";
    expected = naive_authorization(input->algorithm, ak, sk, &wire.request);
    fuzz_check_same("Authorization", wire.authorization, fuzz_view(&expected));
    free(expected.data);
    free(wire.date);
    free(ak);
    free(sk);
}

/* ---- the run ------------------------------------------------------------ */

static struct csms_origin *new_origin(const char *algorithm)
{
    struct csms_origin_config config = {
        .url = "http://127.0.0.1:1",
        .signing = algorithm,
        .region = "cn-north-4",
        .service = "csms",
        .connect_timeout = 60,
        .max_response = 1024,
        .http1 = true,
        .no_proxy = true,
    };
    struct csms_err err;
    struct csms_origin *origin = csms_origin_new(&config, &err);

    CHECK(origin);
    return origin;
}

static void exchange(const struct input *input, struct csms_cred *cred)
{
    struct csms_channel *channel = peer_channel();
    struct csms_origin *origin = new_origin(input->algorithm);
    struct peer peer = {
        .answer = csms_span_of("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        .piece = 4096};
    struct csms_err err;
    struct csms_transfer *transfer =
        csms_http_submit(channel, origin, &input->request, cred, &err);

    if (transfer) {
        peer_run(&peer, channel, transfer);
        CHECK(!csms_transfer_error(transfer));
        CHECK(csms_transfer_status(transfer) == 200);
        check_wire(input, fuzz_view(&peer.request));
    } else {
        fuzz_check_error(&err);
    }
    csms_transfer_unref(transfer);
    csms_channel_close(channel);
    csms_origin_unref(origin);
    peer_free(&peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_text text = fuzz_input(data, size);
    struct csms_cred *cred = NULL;
    struct input input;
    struct csms_err err;

    read_input(fuzz_view(&text), &input);
    cred = csms_cred_keys(input.ak, input.sk, input.security_token, &err);
    if (cred) {
        exchange(&input, cred);
    } else {
        fuzz_check_error(&err);
        fuzz_check_secret(&err);
    }
    csms_cred_free(cred);
    free(input.project);
    free(input.target.data);
    free(text.data);
    return 0;
}
