/* SPDX-License-Identifier: MIT */
#include "csms_sync.h"

#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "csms_fd.h"
#include "csms_path.h"

/* What statfs(2) calls them; musl has no linux/magic.h. */
#define EXT4 0xEF53 /* 2 and 3 too */
#define XFS 0x58465342

/* Linux 5.8 is the first whose syncfs(2) tells that a write failed. */
static bool is_linux_5_8(void)
{
    struct utsname system;
    char *end = NULL;
    long major = 0;
    long minor = 0;

    if (uname(&system) != 0 || strcmp(system.sysname, "Linux") != 0)
        return false;
    major = strtol(system.release, &end, 10);
    if (*end == '.')
        minor = strtol(end + 1, NULL, 10);
    return major > 5 || (major == 5 && minor >= 8);
}

/* On others syncfs(2) may promise less: overlayfs keeps errors of the file
 * system below to itself, FUSE and SMB do not pass it on to who stores the
 * data. */
bool csms_sync_can_syncfs(int fd)
{
    struct statfs system;

    return fstatfs(fd, &system) == 0 &&
           (system.f_type == EXT4 || system.f_type == XFS) && is_linux_5_8();
}

/* With `covered`, what is on that file system is left to syncfs(2). */
static int sync_place(const struct csms_place *place,
                      const struct stat *covered)
{
    struct stat status;
    int fd = csms_fd_open(place->at, place->name,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    int result = -1;

    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0) {
        if (covered && status.st_dev == covered->st_dev)
            result = 0;
        else if (S_ISDIR(status.st_mode))
            result = csms_fd_sync_directory(fd);
        else
            result = csms_fd_sync(fd);
    }
    csms_fd_drop(fd);
    return result;
}

static int sync_path(const struct csms_dir *dir, const char *path,
                     const struct stat *covered, struct csms_err *err)
{
    struct csms_place place;

    if (csms_place_open(&place, dir, "sync", path, false, err))
        return -1;
    return csms_place_end(&place, sync_place(&place, covered), err);
}

/* A hundred files are durable after one syncfs(2) much sooner than after a
 * hundred fsync(2), each of which waits for the journal. A single path is not:
 * syncfs also writes what everybody else has changed. It covers the root's file
 * system alone, and a directory below may be a mount point. */
int csms_dir_sync(const struct csms_dir *dir, const char *const *paths,
                  size_t count, struct csms_err *err)
{
    struct csms_place root = csms_place_root(dir, "sync");
    bool whole = count > 1 && dir->can_syncfs;
    struct stat status;

    if (fstat(dir->fd, &status) != 0)
        return csms_place_fail(&root, err);
    for (size_t i = 0; i < count; i++) {
        if (sync_path(dir, paths[i], whole ? &status : NULL, err))
            return -1;
    }
    if (whole && syncfs(dir->fd) != 0)
        return csms_place_fail(&root, err);
    if (count == 1 && strchr(paths[0], '/'))
        return 0;
    /* After syncfs too, which before Linux 5.17 keeps a journal's failure to
     * itself; with nothing left to write it costs little. */
    return csms_fd_sync_directory(dir->fd) == 0 ? 0
                                                : csms_place_fail(&root, err);
}
