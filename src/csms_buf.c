/* SPDX-License-Identifier: MIT */
#include "csms_buf.h"

#include <string.h>

#include <openssl/crypto.h>

struct csms_span csms_span_of(const char *text)
{
    struct csms_span span = {text ? text : "", text ? strlen(text) : 0};

    return span;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct csms_span csms_span_trim(struct csms_span span)
{
    while (span.len > 0 && is_space(span.data[0])) {
        span.data++;
        span.len--;
    }
    while (span.len > 0 && is_space(span.data[span.len - 1]))
        span.len--;
    return span;
}

void csms_buf_init(struct csms_buf *buf, size_t cap)
{
    memset(buf, 0, sizeof *buf);
    /* Leaves room for doubling and the final NUL without overflow. */
    buf->cap = cap < (size_t)-1 / 4 ? cap : (size_t)-1 / 4;
}

static bool reserve(struct csms_buf *buf, size_t needed)
{
    size_t size = buf->size ? buf->size : 512;
    char *data = NULL;

    if (needed < buf->size)
        return true;
    while (size <= needed)
        size *= 2;
    if (size > buf->cap + 1)
        size = buf->cap + 1;
    data = OPENSSL_clear_realloc(buf->data, buf->size, size);
    if (!data)
        return false;
    buf->data = data;
    buf->size = size;
    buf->data[buf->len] = '\0';
    return true;
}

void csms_buf_reserve(struct csms_buf *buf, size_t len)
{
    if (!reserve(buf, len))
        buf->failure = CSMS_BUF_MEMORY;
}

bool csms_buf_append(struct csms_buf *buf, const void *data, size_t len)
{
    if (buf->failure)
        return false;
    if (len > buf->cap - buf->len) {
        buf->failure = CSMS_BUF_FULL;
        return false;
    }
    if (!reserve(buf, buf->len + len)) {
        buf->failure = CSMS_BUF_MEMORY;
        return false;
    }
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return true;
}

bool csms_buf_text(struct csms_buf *buf, const char *text)
{
    return csms_buf_append(buf, text, strlen(text));
}

bool csms_buf_span(struct csms_buf *buf, struct csms_span span)
{
    return csms_buf_append(buf, span.data, span.len);
}

bool csms_buf_char(struct csms_buf *buf, char c)
{
    return csms_buf_append(buf, &c, 1);
}

int csms_buf_check(const struct csms_buf *buf, const char *what,
                   struct csms_err *err)
{
    if (buf->failure == CSMS_BUF_MEMORY)
        return csms_err_memory(err);
    if (buf->failure == CSMS_BUF_FULL)
        return csms_err_set(err, CSMS_ARGUMENT, "%s is over %zu bytes", what,
                            buf->cap);
    return 0;
}

void csms_buf_reset(struct csms_buf *buf)
{
    if (buf->data)
        OPENSSL_cleanse(buf->data, buf->len);
    buf->len = 0;
    buf->failure = CSMS_BUF_OK;
}

void csms_buf_free(struct csms_buf *buf)
{
    OPENSSL_clear_free(buf->data, buf->len);
    buf->data = NULL;
    buf->len = 0;
    buf->size = 0;
    buf->failure = CSMS_BUF_OK;
}

struct csms_span csms_buf_view(const struct csms_buf *buf)
{
    struct csms_span span = {buf->data ? buf->data : "", buf->len};

    return span;
}
