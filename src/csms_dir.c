/* SPDX-License-Identifier: MIT */
#include "csms_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>

#include "csms_fd.h"
#include "csms_path.h"
#include "csms_sync.h"

/* A part of the path to the directory; its entry is durable at once. */
static int make_part(int at, const char *name)
{
    int parent = csms_fd_open_directory(at, ".", 0);
    int fd = parent < 0 ? -1 : csms_fd_make_directory(at, name, 0);

    if (fd >= 0 && csms_fd_sync_directory(parent) != 0) {
        csms_fd_drop(fd);
        csms_fd_unmake(at, name, AT_REMOVEDIR);
        fd = -1;
    }
    if (parent >= 0)
        csms_fd_drop(parent);
    return fd;
}

/* Makes the missing parts of a path, and follows links. Returns a descriptor,
 * which is one of O_PATH where the last part was there: it is "." or "..", or
 * another process made it meanwhile. */
static int make_path(char *path)
{
    int at =
        csms_fd_open_directory(AT_FDCWD, path[0] == '/' ? "/" : ".", O_PATH);
    char *rest = NULL;

    for (char *name = strtok_r(path, "/", &rest); name && at >= 0;
         name = strtok_r(NULL, "/", &rest)) {
        int fd = csms_fd_open_directory(at, name, O_PATH);

        if (fd < 0 && errno == ENOENT)
            fd = make_part(at, name);
        csms_fd_drop(at);
        at = fd;
    }
    return at;
}

static int open_or_make(const char *path, bool create)
{
    int fd = csms_fd_open_directory(AT_FDCWD, path, 0);
    int made = -1;
    char *copy = NULL;

    if (fd >= 0 || errno != ENOENT || !create || path[0] == '\0')
        return fd;
    copy = strdup(path);
    if (!copy)
        return -1;
    made = make_path(copy);
    free(copy);
    if (made < 0)
        return -1;
    fd = csms_fd_open_directory(made, ".", 0);
    csms_fd_drop(made);
    return fd;
}

struct csms_dir *csms_dir_open(const char *path, bool create,
                               struct csms_err *err)
{
    size_t size = strlen(path) + 1;
    struct csms_dir *dir = malloc(sizeof *dir + size);
    struct csms_place place;

    if (!dir) {
        csms_err_set(err, CSMS_STORAGE, "out of memory");
        csms_err_code(err, "ENOMEM");
        return NULL;
    }
    memcpy(dir->path, path, size);
    dir->fd = open_or_make(path, create);
    if (dir->fd < 0) {
        place = csms_place_root(dir, create ? "make the directory"
                                            : "open the directory");
        csms_place_fail(&place, err);
        free(dir);
        return NULL;
    }
    dir->can_syncfs = csms_sync_can_syncfs(dir->fd);
    return dir;
}

void csms_dir_free(struct csms_dir *dir)
{
    if (!dir)
        return;
    csms_fd_drop(dir->fd);
    free(dir);
}
