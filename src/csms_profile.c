/* SPDX-License-Identifier: MIT */
#include "csms_profile.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (256 * 1024)

/* The values of [basic]; they point into the file's text. */
struct section {
    struct csms_span ak;
    struct csms_span sk;
    struct csms_span security_token;
    struct csms_span project_id;
    struct csms_span iam_endpoint;
};

static int fail(struct csms_err *err, const char *path, const char *problem)
{
    return csms_err_set(err, CSMS_CREDENTIALS, "%.140s: %s", path, problem);
}

/* read(2) and not stdio, whose buffers nobody wipes. */
static int read_all(int fd, const char *path, struct csms_buf *text,
                    struct csms_err *err)
{
    char chunk[4096];
    ssize_t count = 0;

    do {
        count = read(fd, chunk, sizeof chunk);
        if (count > 0 && !csms_buf_append(text, chunk, (size_t)count))
            break;
    } while (count > 0 || (count < 0 && errno == EINTR));
    OPENSSL_cleanse(chunk, sizeof chunk);
    if (count < 0) {
        fail(err, path, "it cannot be read");
        csms_err_cause(err, strerror(errno));
        return -1;
    }
    if (text->failure == CSMS_BUF_FULL)
        return fail(err, path, "it is over 256 KiB; is it a credentials file?");
    return csms_buf_check(text, "the credentials file", err);
}

/* Returns 1 where there is no such file. */
static int read_file(const char *path, struct csms_buf *text, bool *loose,
                     struct csms_err *err)
{
    struct stat status;
    /* O_NONBLOCK: a pipe would wait for somebody to write. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = -1;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 1;
    if (fd < 0 || fstat(fd, &status) != 0) {
        fail(err, path, "it cannot be opened; check its permissions");
        csms_err_cause(err, strerror(errno));
        goto out;
    }
    if (!S_ISREG(status.st_mode)) {
        fail(err, path, "it is not a file");
        goto out;
    }
    *loose = (status.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    result = read_all(fd, path, text, err);
out:
    if (fd >= 0)
        (void)close(fd);
    return result;
}

static struct csms_span next_line(struct csms_span *rest)
{
    const char *end = memchr(rest->data, '\n', rest->len);
    size_t len = end ? (size_t)(end - rest->data) : rest->len;
    struct csms_span line = {rest->data, len};

    rest->data += end ? len + 1 : len;
    rest->len -= end ? len + 1 : len;
    return csms_span_trim(line);
}

static bool is_name(struct csms_span text, const char *name)
{
    return text.len == strlen(name) &&
           strncasecmp(text.data, name, text.len) == 0;
}

static struct csms_span *field_of(struct section *section,
                                  struct csms_span name)
{
    if (is_name(name, "ak"))
        return &section->ak;
    if (is_name(name, "sk"))
        return &section->sk;
    if (is_name(name, "security_token"))
        return &section->security_token;
    if (is_name(name, "project_id"))
        return &section->project_id;
    if (is_name(name, "iam_endpoint"))
        return &section->iam_endpoint;
    return NULL; /* other keys are other programs' */
}

/* "name = value" or "name: value"; -1 where it is neither. */
static int read_pair(struct csms_span line, struct section *section)
{
    struct csms_span *field = NULL;
    size_t at = 0;

    while (at < line.len && line.data[at] != '=' && line.data[at] != ':')
        at++;
    if (at == line.len || at == 0)
        return -1;
    if (!section)
        return 0;
    field =
        field_of(section, csms_span_trim((struct csms_span){line.data, at}));
    if (field)
        *field = csms_span_trim(
            (struct csms_span){line.data + at + 1, line.len - at - 1});
    return 0;
}

static bool is_basic(struct csms_span line)
{
    return is_name(
        csms_span_trim((struct csms_span){line.data + 1, line.len - 2}),
        "basic");
}

/* Messages name the line's number, never its text: it may hold a key. */
static int parse(const char *path, struct csms_span text,
                 struct section *section, bool *found, struct csms_err *err)
{
    bool inside = false;

    for (int number = 1; text.len > 0; number++) {
        struct csms_span line = next_line(&text);

        if (line.len == 0 || line.data[0] == '#' || line.data[0] == ';')
            continue;
        if (line.data[0] == '[' && line.len > 2 &&
            line.data[line.len - 1] == ']') {
            inside = is_basic(line);
            *found = *found || inside;
        } else if (read_pair(line, inside ? section : NULL)) {
            return csms_err_set(err, CSMS_CREDENTIALS,
                                "%.140s: line %d is neither [section] nor "
                                "name = value",
                                path, number);
        }
    }
    return 0;
}

static int take(struct csms_profile *profile, const struct section *section,
                struct csms_err *err)
{
    csms_buf_span(&profile->project_id, section->project_id);
    csms_buf_span(&profile->iam_endpoint, section->iam_endpoint);
    if (csms_buf_check(&profile->project_id, "project_id", err) ||
        csms_buf_check(&profile->iam_endpoint, "iam_endpoint", err))
        return -1;
    if (section->ak.len == 0 || section->sk.len == 0)
        return 0;
    profile->cred =
        csms_cred_keys(section->ak, section->sk, section->security_token, err);
    return profile->cred ? 0 : -1;
}

int csms_profile_read(const char *path, struct csms_profile *profile,
                      struct csms_err *err)
{
    struct section section;
    struct csms_buf text;
    int result = -1;
    int absent = 0;

    memset(profile, 0, sizeof *profile);
    memset(&section, 0, sizeof section);
    csms_buf_init(&profile->project_id, 1024);
    csms_buf_init(&profile->iam_endpoint, 1024);
    csms_buf_init(&text, MAX_FILE);
    absent = read_file(path, &text, &profile->loose, err);
    if (absent < 0)
        goto out;
    if (absent == 0 &&
        (parse(path, csms_buf_view(&text), &section, &profile->found, err) ||
         take(profile, &section, err)))
        goto out;
    result = 0;
out:
    csms_buf_free(&text);
    return result;
}

void csms_profile_free(struct csms_profile *profile)
{
    csms_cred_free(profile->cred);
    profile->cred = NULL;
    csms_buf_free(&profile->project_id);
    csms_buf_free(&profile->iam_endpoint);
}
