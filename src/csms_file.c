/* SPDX-License-Identifier: MIT */
#include "csms_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "csms_fd.h"
#include "csms_path.h"

/* ---- making ----------------------------------------------------------- */

static int create(const struct csms_place *place, struct csms_span data)
{
    int fd = csms_fd_make_file(place->at, place->name, O_WRONLY);

    if (fd < 0)
        return -1;
    if (csms_fd_finish(fd, csms_fd_write(fd, data)) == 0)
        return 0;
    csms_fd_unmake(place->at, place->name, 0);
    return -1;
}

int csms_file_create(const struct csms_dir *dir, const char *path,
                     struct csms_span data, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "write", path, true, err))
        return -1;
    return csms_place_end(&place, create(&place, data), err);
}

/* ---- reading ---------------------------------------------------------- */

static int read_all(int fd, struct csms_buf *out)
{
    char chunk[16 * 1024];
    ssize_t count = 0;

    do {
        count = read(fd, chunk, sizeof chunk);
        if (count > 0 && !csms_buf_append(out, chunk, (size_t)count)) {
            errno = out->failure == CSMS_BUF_FULL ? EFBIG : ENOMEM;
            return -1;
        }
    } while (count > 0 || (count < 0 && errno == EINTR));
    return count < 0 ? -1 : 0;
}

static int read_file(const struct csms_place *place, struct csms_buf *out)
{
    struct stat status;
    int fd = csms_fd_open_file(place->at, place->name, O_RDONLY, &status);
    int result = -1;

    if (fd < 0)
        return -1;
    result = read_all(fd, out);
    csms_fd_drop(fd);
    return result;
}

int csms_file_read(const struct csms_dir *dir, const char *path,
                   struct csms_buf *out, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "read", path, false, err))
        return -1;
    return csms_place_end(&place, read_file(&place, out), err);
}

/* ---- changing --------------------------------------------------------- */

static int cut(const struct csms_place *place, off_t size)
{
    struct stat status;
    int fd = csms_fd_open_file(place->at, place->name, O_WRONLY, &status);

    return fd < 0 ? -1 : csms_fd_finish(fd, csms_fd_cut(fd, size));
}

/* Makes an append undone that failed; errno stays. By the file's name, because
 * the descriptor may be closed already. */
static void cut_back(const struct csms_place *place, off_t size)
{
    int number = errno;

    (void)cut(place, size);
    errno = number;
}

static int append(const struct csms_place *place, struct csms_span data)
{
    struct stat before;
    int fd =
        csms_fd_open_file(place->at, place->name, O_WRONLY | O_APPEND, &before);

    if (fd < 0)
        return -1;
    if (csms_fd_finish(fd, csms_fd_write(fd, data)) == 0)
        return 0;
    cut_back(place, before.st_size);
    return -1;
}

int csms_file_append(const struct csms_dir *dir, const char *path,
                     struct csms_span data, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "write", path, false, err))
        return -1;
    return csms_place_end(&place, append(&place, data), err);
}

int csms_file_truncate(const struct csms_dir *dir, const char *path,
                       uint64_t size, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "cut", path, false, err))
        return -1;
    return csms_place_end(&place, cut(&place, (off_t)size), err);
}

int csms_file_rename(const struct csms_dir *dir, const char *from,
                     const char *to, struct csms_err *err)
{
    struct csms_place source;
    struct csms_place target;
    int result = -1;

    if (csms_place_open(&source, dir, "rename", from, false, err))
        return -1;
    if (csms_place_open(&target, dir, "rename a file to", to, false, err))
        goto out;
    result = renameat(source.at, source.name, target.at, target.name);
    if (result != 0)
        csms_place_fail(errno == ENOENT ? &source : &target, err);
    csms_place_close(&target);
out:
    csms_place_close(&source);
    return result;
}

int csms_file_remove(const struct csms_dir *dir, const char *path,
                     struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "remove", path, false, err))
        return -1;
    return csms_place_end(&place, unlinkat(place.at, place.name, 0), err);
}

/* ---- looking ---------------------------------------------------------- */

enum csms_file_type csms_file_type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return CSMS_TYPE_FILE;
    if (S_ISDIR(mode))
        return CSMS_TYPE_DIRECTORY;
    return S_ISLNK(mode) ? CSMS_TYPE_LINK : CSMS_TYPE_OTHER;
}

const char *csms_file_type_name(enum csms_file_type type)
{
    switch (type) {
    case CSMS_TYPE_FILE:
        return "file";
    case CSMS_TYPE_DIRECTORY:
        return "directory";
    case CSMS_TYPE_LINK:
        return "link";
    case CSMS_TYPE_OTHER:
        break;
    }
    return "other";
}

static int look(const struct csms_place *place, struct csms_file_status *out)
{
    struct stat status;

    if (fstatat(place->at, place->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    out->type = csms_file_type_of(status.st_mode);
    out->size = (uint64_t)status.st_size;
    return 0;
}

int csms_file_stat(const struct csms_dir *dir, const char *path,
                   struct csms_file_status *out, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "look at", path, false, err))
        return -1;
    return csms_place_end(&place, look(&place, out), err);
}
