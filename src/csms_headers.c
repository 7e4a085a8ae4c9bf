/* SPDX-License-Identifier: MIT */
#include "csms_headers.h"

#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#define MAX_HEADER (80 * 1024) /* one line; a token can be 64 KiB */
#define OWN_HEADERS 8          /* those that are added here */

/* What is being built. */
struct builder {
    const struct csms_origin *origin;
    struct curl_slist *list;
    struct csms_buf line; /* the header that is being added */
};

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

static int add_header(struct builder *builder, const struct csms_header *header,
                      struct csms_err *err)
{
    struct csms_span value = csms_span_trim(header->value);
    struct curl_slist *list = NULL;
    struct csms_buf *line = &builder->line;

    if (check_value(header, err))
        return -1;
    csms_buf_reset(line);
    csms_buf_span(line, header->name);
    /* libcurl's way to send an empty value: "Name;" (CURLOPT_HTTPHEADER). It
     * leaves out a header whose value is blank, so blanks go first. */
    csms_buf_text(line, value.len > 0 ? ": " : ";");
    csms_buf_span(line, value);
    if (csms_buf_check(line, "a header", err))
        return -1;
    list = curl_slist_append(builder->list, line->data);
    if (!list)
        return csms_err_memory(err);
    builder->list = list;
    return 0;
}

static int add_named(struct builder *builder, const char *name,
                     struct csms_span value, struct csms_err *err)
{
    struct csms_header header = {csms_span_of(name), value};

    return add_header(builder, &header, err);
}

/* Adds to what is sent and to what is signed. */
static int add_signed(struct builder *builder,
                      struct csms_sign_request *signing, const char *name,
                      const char *value, struct csms_err *err)
{
    struct csms_header header = {csms_span_of(name), csms_span_of(value)};

    signing->headers[signing->header_count++] = header;
    return add_header(builder, &header, err);
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
static int sign(struct builder *builder, const struct csms_request *request,
                struct csms_cred *cred, struct csms_err *err)
{
    const struct csms_origin *origin = builder->origin;
    const char *security_token = csms_cred_security_token(cred);
    struct csms_sign_request signing;
    struct csms_buf authorization;
    char date[CSMS_SIGN_DATE_LEN + 1];
    int result = -1;

    memset(&signing, 0, sizeof signing);
    csms_buf_init(&authorization, MAX_HEADER);
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
    if (add_signed(builder, &signing, "X-Sdk-Date", date, err))
        goto out;
    if (request->project &&
        add_signed(builder, &signing, "X-Project-Id", request->project, err))
        goto out;
    if (security_token &&
        add_signed(builder, &signing, "X-Security-Token", security_token, err))
        goto out;
    if (csms_cred_sign(cred, origin->signing, &signing, &authorization, err) ||
        add_named(builder, "Authorization", csms_buf_view(&authorization), err))
        goto out;
    result = 0;
out:
    csms_buf_free(&authorization);
    return result;
}

static int authenticate(struct builder *builder,
                        const struct csms_request *request,
                        struct csms_cred *cred, struct csms_err *err)
{
    if (!cred)
        return 0;
    if (csms_cred_auth_token(cred))
        return add_named(builder, "X-Auth-Token",
                         csms_span_of(csms_cred_auth_token(cred)), err);
    return sign(builder, request, cred, err);
}

/* libcurl would ask for "100 Continue" before a large body, which costs a
 * round trip; "Expect:" is its way to leave that header out. */
static int add_no_expect(struct builder *builder, struct csms_err *err)
{
    struct curl_slist *list = curl_slist_append(builder->list, "Expect:");

    if (!list)
        return csms_err_memory(err);
    builder->list = list;
    return 0;
}

static int build(struct builder *builder, const struct csms_request *request,
                 struct csms_cred *cred, struct csms_err *err)
{
    if (request->header_count > CSMS_SIGN_MAX_HEADERS - OWN_HEADERS)
        return csms_err_set(err, CSMS_ARGUMENT,
                            "a request takes at most %d headers",
                            CSMS_SIGN_MAX_HEADERS - OWN_HEADERS);
    for (size_t i = 0; i < request->header_count; i++)
        if (add_header(builder, &request->headers[i], err))
            return -1;
    if (add_no_expect(builder, err))
        return -1;
    return authenticate(builder, request, cred, err);
}

int csms_headers_build(const struct csms_origin *origin,
                       const struct csms_request *request,
                       struct csms_cred *cred, struct curl_slist **headers,
                       struct csms_err *err)
{
    struct builder builder = {.origin = origin};
    int result = -1;

    csms_buf_init(&builder.line, MAX_HEADER);
    result = build(&builder, request, cred, err);
    csms_buf_free(&builder.line);
    *headers = builder.list;
    return result;
}

/* The list's copies of tokens and signatures are ours to wipe. */
void csms_headers_free(struct curl_slist *headers)
{
    for (struct curl_slist *node = headers; node; node = node->next)
        OPENSSL_cleanse(node->data, strlen(node->data));
    curl_slist_free_all(headers);
}
