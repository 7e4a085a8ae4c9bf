/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void fuzz_fail(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

static void show(const char *name, struct csms_span text)
{
    (void)fprintf(stderr, "%s (%zu): ", name, text.len);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        (void)fprintf(stderr, c < ' ' || c > '~' ? "\\x%02x" : "%c", c);
    }
    (void)fputc('\n', stderr);
}

void fuzz_check_same(const char *what, struct csms_span ours,
                     struct csms_span expected)
{
    if (ours.len == expected.len &&
        (ours.len == 0 || memcmp(ours.data, expected.data, ours.len) == 0))
        return;
    (void)fprintf(stderr, "%s differs\n", what);
    show("ours    ", ours);
    show("expected", expected);
    abort();
}

static void check_line(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    CHECK(len < size);
    for (size_t i = 0; i < len; i++)
        CHECK((unsigned char)text[i] >= ' ' && text[i] != 0x7f);
}

void fuzz_check_error(const struct csms_err *err)
{
    check_line(err->message, sizeof err->message);
    check_line(err->cause, sizeof err->cause);
    CHECK(err->message[0] != '\0');
}

void fuzz_check_secret(const struct csms_err *err)
{
    CHECK(!strstr(err->message, FUZZ_SECRET));
    CHECK(!strstr(err->cause, FUZZ_SECRET));
}

void fuzz_put(struct fuzz_text *text, const void *data, size_t len)
{
    if (text->len + len + 1 > text->size) {
        text->size = 2 * (text->len + len + 1);
        text->data = realloc(text->data, text->size);
        CHECK(text->data);
    }
    if (len > 0)
        memcpy(text->data + text->len, data, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void fuzz_puts(struct fuzz_text *text, const char *string)
{
    fuzz_put(text, string, strlen(string));
}

struct csms_span fuzz_view(const struct fuzz_text *text)
{
    return (struct csms_span){text->data ? text->data : "", text->len};
}

struct fuzz_text fuzz_input(const uint8_t *data, size_t size)
{
    struct fuzz_text text = {NULL, 0, 0};

    for (size_t i = 0; i < size; i++) {
        if (size - i >= 4 && memcmp(data + i, "@SK@", 4) == 0) {
            fuzz_puts(&text, FUZZ_SECRET);
            i += 3;
        } else {
            fuzz_put(&text, data + i, 1);
        }
    }
    return text;
}

struct csms_span fuzz_field(struct csms_span *rest)
{
    const char *end = memchr(rest->data, 0xff, rest->len);
    struct csms_span field = *rest;
    size_t taken = rest->len;

    if (end) {
        field.len = (size_t)(end - rest->data);
        taken = field.len + 1;
    }
    rest->data += taken;
    rest->len -= taken;
    return field;
}

char *fuzz_string(struct csms_span field)
{
    char *copy = field.len > 0 ? strndup(field.data, field.len) : NULL;

    CHECK(copy || field.len == 0);
    return copy;
}

unsigned char fuzz_byte(struct csms_span field)
{
    return field.len > 0 ? (unsigned char)field.data[0] : 0;
}
