/* SPDX-License-Identifier: MIT */
#include "csms_headers.h"

#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#define MAX_HEADERS (80 * 1024) /* a token can be 64 KiB */
#define OWN_HEADERS 8           /* those that are added here */

/* libcurl would ask for "100 Continue" before a large body, which costs a
 * round trip; this is its way to leave that header out. */
static const char NO_EXPECT[] = "Expect:";

/* Where libcurl is not told that the method can have one (csms_options.c). */
static const char NO_BODY[] = "Content-Length: 0";

/* A value with a line break would be a second header (CWE-113), and libcurl
 * takes more characters for blanks than the signature does. */
static int check_value(const struct csms_header *header, struct csms_err *err)
{
    for (size_t i = 0; i < header->value.len; i++) {
        unsigned char c = (unsigned char)header->value.data[i];

        if ((c < ' ' && c != '\t') || c == 0x7f)
            return csms_err_set(err, CSMS_ARGUMENT,
                                "the value of header %.*s holds a control "
                                "character",
                                (int)header->name.len, header->name.data);
    }
    return 0;
}

static int add_header(struct csms_buf *lines, const struct csms_header *header,
                      struct csms_err *err)
{
    struct csms_span value = csms_span_trim(header->value);

    if (check_value(header, err))
        return -1;
    csms_buf_span(lines, header->name);
    /* libcurl's way to send an empty value: "Name;" (CURLOPT_HTTPHEADER). It
     * leaves out a header whose value is blank, so blanks go first. */
    csms_buf_text(lines, value.len > 0 ? ": " : ";");
    csms_buf_span(lines, value);
    csms_buf_char(lines, '\0');
    return csms_buf_check(lines, "the request's head", err);
}

static int add_named(struct csms_buf *lines, const char *name,
                     struct csms_span value, struct csms_err *err)
{
    struct csms_header header = {csms_span_of(name), value};

    return add_header(lines, &header, err);
}

/* Adds to what is sent and to what is signed. */
static int add_signed(struct csms_buf *lines, struct csms_sign_request *signing,
                      const char *name, const char *value, struct csms_err *err)
{
    struct csms_header header = {csms_span_of(name), csms_span_of(value)};

    signing->headers[signing->header_count++] = header;
    return add_header(lines, &header, err);
}

static int format_date(int64_t seconds, char *out, size_t size,
                       struct csms_err *err)
{
    time_t moment = (time_t)seconds;
    struct tm utc;

    if (!gmtime_r(&moment, &utc) ||
        strftime(out, size, "%Y%m%dT%H%M%SZ", &utc) != CSMS_SIGN_DATE_LEN)
        return csms_err_set(err, CSMS_ARGUMENT,
                            "the time %lld cannot be a signature's date; "
                            "check this machine's clock",
                            (long long)seconds);
    return 0;
}

static void split_target(struct csms_span target,
                         struct csms_sign_request *signing)
{
    const char *mark = memchr(target.data, '?', target.len);
    size_t path_len = mark ? (size_t)(mark - target.data) : target.len;

    signing->path = (struct csms_span){target.data, path_len};
    if (mark)
        signing->query =
            (struct csms_span){mark + 1, target.len - path_len - 1};
}

/* csms-api.md 2.1: which headers take part, and Authorization itself. */
static int sign(struct csms_buf *lines, const struct csms_origin *origin,
                const struct csms_request *request, struct csms_cred *cred,
                struct csms_err *err)
{
    const char *security_token = csms_cred_security_token(cred);
    struct csms_sign_request signing;
    struct csms_buf authorization;
    char date[CSMS_SIGN_DATE_LEN + 1];
    int result = -1;

    memset(&signing, 0, sizeof signing);
    csms_buf_init(&authorization, MAX_HEADERS);
    if (format_date(request->time, date, sizeof date, err))
        goto out;
    signing.method = csms_span_of(request->method);
    split_target(request->target, &signing);
    signing.body = request->body;
    signing.date = date;
    signing.region = origin->region;
    signing.service = origin->service;
    for (size_t i = 0; i < request->header_count; i++)
        signing.headers[signing.header_count++] = request->headers[i];
    /* libcurl sends Host by itself, so it is only signed here. */
    signing.headers[signing.header_count++] =
        (struct csms_header){csms_span_of("Host"), csms_span_of(origin->host)};
    if (add_signed(lines, &signing, "X-Sdk-Date", date, err))
        goto out;
    if (request->project &&
        add_signed(lines, &signing, "X-Project-Id", request->project, err))
        goto out;
    if (security_token &&
        add_signed(lines, &signing, "X-Security-Token", security_token, err))
        goto out;
    if (csms_cred_sign(cred, origin->signing, &signing, &authorization, err) ||
        add_named(lines, "Authorization", csms_buf_view(&authorization), err))
        goto out;
    result = 0;
out:
    csms_buf_free(&authorization);
    return result;
}

static int authenticate(struct csms_buf *lines,
                        const struct csms_origin *origin,
                        const struct csms_request *request,
                        struct csms_cred *cred, struct csms_err *err)
{
    if (!cred)
        return 0;
    if (csms_cred_auth_token(cred))
        return add_named(lines, "X-Auth-Token",
                         csms_span_of(csms_cred_auth_token(cred)), err);
    return sign(lines, origin, request, cred, err);
}

int csms_headers_build(struct csms_buf *lines, const struct csms_origin *origin,
                       const struct csms_request *request,
                       struct csms_cred *cred, struct csms_err *err)
{
    if (request->header_count > CSMS_SIGN_MAX_HEADERS - OWN_HEADERS)
        return csms_err_set(err, CSMS_ARGUMENT,
                            "a request takes at most %d headers",
                            CSMS_SIGN_MAX_HEADERS - OWN_HEADERS);
    csms_buf_init(lines, MAX_HEADERS);
    for (size_t i = 0; i < request->header_count; i++)
        if (add_header(lines, &request->headers[i], err))
            return -1;
    if (request->body.len > 0)
        csms_buf_append(lines, NO_EXPECT, sizeof NO_EXPECT);
    else if (strcmp(request->method, "GET") != 0)
        csms_buf_append(lines, NO_BODY, sizeof NO_BODY);
    if (csms_buf_check(lines, "the request's head", err))
        return -1;
    return authenticate(lines, origin, request, cred, err);
}

int csms_headers_list(const struct csms_buf *lines, struct curl_slist **list)
{
    struct curl_slist *longer = NULL;

    for (size_t at = 0; at < lines->len; at += strlen(lines->data + at) + 1) {
        longer = curl_slist_append(*list, lines->data + at);
        if (!longer)
            return -1;
        *list = longer;
    }
    return 0;
}

/* The list's copies of tokens and signatures are ours to wipe. */
void csms_headers_free(struct curl_slist *headers)
{
    for (struct curl_slist *node = headers; node; node = node->next)
        OPENSSL_cleanse(node->data, strlen(node->data));
    curl_slist_free_all(headers);
}
