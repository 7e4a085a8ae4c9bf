/* SPDX-License-Identifier: MIT */
#include "csms_path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>

#include "csms_errno.h"
#include "csms_fd.h"

/* ---- errors ----------------------------------------------------------- */

void csms_path_blank(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == '\x7f')
            *text = ' ';
    }
}

/* The end of a path tells more than its start. */
void csms_place_show(const struct csms_place *place, char *text, size_t size)
{
    size_t root = strlen(place->dir->path);
    size_t path = place->path ? strlen(place->path) : 0;
    size_t over = root + path + 2 > size ? root + path + 2 - size : 0;

    if (!place->path)
        (void)snprintf(text, size, "%s", place->dir->path);
    else if (over <= root)
        (void)snprintf(text, size, "%s/%s", place->dir->path + over,
                       place->path);
    else
        (void)snprintf(text, size, "%s", place->path + (over - root));
    csms_path_blank(text);
}

int csms_place_fail(const struct csms_place *place, struct csms_err *err)
{
    int number = errno;
    const struct csms_errno *trouble = csms_errno_find(number);
    char shown[CSMS_MAX_SHOWN];

    csms_place_show(place, shown, sizeof shown);
    csms_err_set(err, CSMS_STORAGE, "cannot %s %s%s%s", place->verb, shown,
                 trouble->remedy ? ": " : "",
                 trouble->remedy ? trouble->remedy : "");
    csms_err_cause(err, strerror(number));
    csms_err_code(err, trouble->name);
    return -1;
}

/* ---- checking --------------------------------------------------------- */

/* Neither empty nor "." nor "..". */
static bool is_component(const char *name, size_t len)
{
    return len > 2 || (len > 0 && strncmp(name, "..", len) != 0);
}

static int check_component(const struct csms_place *place, const char *name,
                           size_t len, struct csms_err *err)
{
    char shown[CSMS_MAX_SHOWN];

    if (len > NAME_MAX) {
        errno = ENAMETOOLONG;
        return csms_place_fail(place, err);
    }
    if (is_component(name, len))
        return 0;
    csms_place_show(place, shown, sizeof shown);
    return csms_err_set(err, CSMS_STORAGE,
                        "cannot %s %s: a path here has no empty, '.' or '..' "
                        "components",
                        place->verb, shown);
}

static int check_path(const struct csms_place *place, struct csms_err *err)
{
    const char *name = place->path;
    size_t len = strcspn(name, "/");

    while (name[len] == '/') {
        if (check_component(place, name, len, err))
            return -1;
        name += len + 1;
        len = strcspn(name, "/");
    }
    return check_component(place, name, len, err);
}

/* ---- walking ---------------------------------------------------------- */

/* Goes into the component of `len` bytes that `name` starts with. */
static int descend(struct csms_place *place, size_t len, bool make)
{
    char step[NAME_MAX + 1];
    int fd = -1;

    memcpy(step, place->name, len);
    step[len] = '\0';
    fd = csms_fd_open_directory(place->at, step, O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && make)
        fd = csms_fd_make_directory(place->at, step, O_NOFOLLOW);
    if (fd < 0)
        return -1;
    csms_place_close(place);
    place->at = fd;
    place->name += len + 1;
    return 0;
}

int csms_place_open(struct csms_place *place, const struct csms_dir *dir,
                    const char *verb, const char *path, bool make,
                    struct csms_err *err)
{
    const char *slash = NULL;

    *place = csms_place_root(dir, verb);
    place->path = path;
    place->name = path;
    if (check_path(place, err))
        return -1;
    while ((slash = strchr(place->name, '/'))) {
        if (descend(place, (size_t)(slash - place->name), make))
            return csms_place_end(place, -1, err);
    }
    return 0;
}

struct csms_place csms_place_root(const struct csms_dir *dir, const char *verb)
{
    struct csms_place place = {dir, verb, NULL, ".", dir->fd};

    return place;
}

void csms_place_close(const struct csms_place *place)
{
    if (place->at != place->dir->fd)
        csms_fd_drop(place->at);
}

int csms_place_end(const struct csms_place *place, int result,
                   struct csms_err *err)
{
    if (result != 0)
        csms_place_fail(place, err);
    csms_place_close(place);
    return result;
}
