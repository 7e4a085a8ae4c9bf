/* SPDX-License-Identifier: MIT
 *
 * The credentials file, against a second reader of it. The input is the file.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../src/csms_profile.h"

#include "fuzz.h"

#define MAX_FILE (256 * 1024)

/* ---- the second reader -------------------------------------------------- */

enum { AK, SK, TOKEN, PROJECT, IAM, FIELDS };

static const char *const names[FIELDS] = {"ak", "sk", "security_token",
                                          "project_id", "iam_endpoint"};

struct expected {
    struct csms_span values[FIELDS];
    bool found; /* a section [basic] */
    bool bad;   /* a line that is none of those that there are */
};

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct csms_span strip(const char *from, const char *to)
{
    while (from < to && blank(*from))
        from++;
    while (to > from && blank(to[-1]))
        to--;
    return (struct csms_span){from, (size_t)(to - from)};
}

static bool is(struct csms_span text, const char *name)
{
    return text.len == strlen(name) &&
           strncasecmp(text.data, name, text.len) == 0;
}

static void read_line(struct csms_span line, bool *basic,
                      struct expected *expected)
{
    const char *end = line.data + line.len;
    const char *sign = line.data;

    if (line.len > 2 && line.data[0] == '[' && end[-1] == ']') {
        *basic = is(strip(line.data + 1, end - 1), "basic");
        expected->found |= *basic;
        return;
    }
    while (sign < end && *sign != '=' && *sign != ':')
        sign++;
    if (sign == end || sign == line.data) {
        expected->bad = true;
        return;
    }
    for (int i = 0; *basic && i < FIELDS; i++)
        if (is(strip(line.data, sign), names[i]))
            expected->values[i] = strip(sign + 1, end);
}

static void read_expected(struct csms_span text, struct expected *expected)
{
    const char *end = text.data + text.len;
    bool basic = false;

    memset(expected, 0, sizeof *expected);
    for (int i = 0; i < FIELDS; i++)
        expected->values[i].data = "";
    for (const char *at = text.data; at < end && !expected->bad;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        struct csms_span line = strip(at, stop ? stop : end);

        if (line.len > 0 && line.data[0] != '#' && line.data[0] != ';')
            read_line(line, &basic, expected);
        at = stop ? stop + 1 : end;
    }
}

/* ---- the comparison ----------------------------------------------------- */

static bool too_long(const struct expected *expected)
{
    return expected->values[PROJECT].len > 1024 ||
           expected->values[IAM].len > 1024;
}

/* Fills in what the profile's credential must be; returns whether it may be. */
static bool expected_cred(const struct expected *expected,
                          struct csms_cred **cred)
{
    const struct csms_span *values = expected->values;
    struct csms_err err;

    *cred = NULL;
    if (values[AK].len == 0 || values[SK].len == 0)
        return true;
    *cred = csms_cred_keys(values[AK], values[SK], values[TOKEN], &err);
    return *cred != NULL;
}

static void check_profile(const struct csms_profile *profile, int result,
                          const struct expected *expected)
{
    struct csms_cred *cred = NULL;
    bool good =
        expected_cred(expected, &cred) && !expected->bad && !too_long(expected);

    CHECK((result == 0) == good);
    if (good) {
        CHECK(profile->found == expected->found);
        CHECK(!profile->cred == !cred);
        CHECK(!cred || csms_cred_same(profile->cred, cred));
        fuzz_check_same("project_id", csms_buf_view(&profile->project_id),
                        expected->values[PROJECT]);
        fuzz_check_same("iam_endpoint", csms_buf_view(&profile->iam_endpoint),
                        expected->values[IAM]);
    }
    csms_cred_free(cred);
}

/* The file's path, into a buffer of its own. */
static int make_file(struct csms_span text, char *path, size_t size)
{
    int fd = memfd_create("profile", MFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK(text.len == 0 || write(fd, text.data, text.len) == (ssize_t)text.len);
    CHECK(snprintf(path, size, "/proc/self/fd/%d", fd) < (int)size);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_text text = fuzz_input(data, size);
    struct expected expected;
    struct csms_profile profile;
    struct csms_err err;
    char path[64];
    int fd = make_file(fuzz_view(&text), path, sizeof path);
    int result = csms_profile_read(path, &profile, &err);

    read_expected(fuzz_view(&text), &expected);
    if (text.len > MAX_FILE)
        CHECK(result == -1);
    else
        check_profile(&profile, result, &expected);
    if (result) {
        CHECK(err.kind == CSMS_CREDENTIALS || err.kind == CSMS_CONFIG ||
              err.kind == CSMS_ARGUMENT);
        fuzz_check_error(&err);
        fuzz_check_secret(&err);
    }
    csms_profile_free(&profile);
    CHECK(close(fd) == 0);
    free(text.data);
    return 0;
}
