/* SPDX-License-Identifier: MIT
 *
 * What the fuzz targets share: checks, the fields of an input, growing text.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../src/csms_buf.h"
#include "../../src/csms_err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold for every input; else libFuzzer keeps the input. */
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition))                                                      \
            fuzz_fail(__FILE__, __LINE__, #condition);                         \
    } while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *condition);

/* Says which two texts differ, where they do. */
void fuzz_check_same(const char *what, struct csms_span ours,
                     struct csms_span expected);

/* Every error is one line that ends, and its cause too. */
void fuzz_check_error(const struct csms_err *err);

/* A key that no static text holds; "@SK@" in an input stands for it, so that a
 * target can tell whether an error repeats a key. */
#define FUZZ_SECRET "Zq7Wm2Kd9Xr4Tn6Vb1Hs8Lp3Gc5Jf0Y"
void fuzz_check_secret(const struct csms_err *err);

/* ---- text that grows; the caller frees `data` --------------------------- */

struct fuzz_text {
    char *data; /* NUL-terminated once anything was put in, else NULL */
    size_t len;
    size_t size;
};

void fuzz_put(struct fuzz_text *text, const void *data, size_t len);
void fuzz_puts(struct fuzz_text *text, const char *string);
struct csms_span fuzz_view(const struct fuzz_text *text);

/* ---- the fields of an input, which 0xff separates ----------------------- */

/* The input with "@SK@" replaced; the caller frees `data`. */
struct fuzz_text fuzz_input(const uint8_t *data, size_t size);

/* Cuts the next field off `rest`; an empty one at the end. */
struct csms_span fuzz_field(struct csms_span *rest);

/* A copy up to the first NUL, or NULL for an empty field; the caller frees. */
char *fuzz_string(struct csms_span field);

/* The first byte of a field, 0 for an empty one. */
unsigned char fuzz_byte(struct csms_span field);

#endif
