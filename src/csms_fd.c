/* SPDX-License-Identifier: MIT */
#include "csms_fd.h"

#include <errno.h>

#include <fcntl.h>
#include <unistd.h>

#define DIRECTORY_MODE 0700
#define FILE_MODE 0600

/* ---- opening and making ----------------------------------------------- */

int csms_fd_open(int at, const char *name, int flags)
{
    int fd = -1;

    do {
        fd = openat(at, name, flags | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

int csms_fd_open_directory(int at, const char *name, int flags)
{
    return csms_fd_open(at, name, O_RDONLY | O_DIRECTORY | flags);
}

/* Opens the directory that was just made, and sets its mode. Not through its
 * name: somebody may have put a link in its place. */
static int open_made(int at, const char *name)
{
    int fd = csms_fd_open_directory(at, name, O_NOFOLLOW);

    /* The umask may have taken what opening needs. */
    if (fd < 0 && errno == EACCES &&
        fchmodat(at, name, DIRECTORY_MODE, AT_SYMLINK_NOFOLLOW) == 0)
        fd = csms_fd_open_directory(at, name, O_NOFOLLOW);
    if (fd >= 0 && fchmod(fd, DIRECTORY_MODE) != 0) {
        csms_fd_drop(fd);
        return -1;
    }
    return fd;
}

int csms_fd_make_directory(int at, const char *name, int flags)
{
    int fd = -1;

    if (mkdirat(at, name, DIRECTORY_MODE) != 0) {
        if (errno != EEXIST) /* somebody else may have been faster */
            return -1;
        fd = csms_fd_open_directory(at, name, flags);
        if (fd < 0 && errno == ENOENT) /* it is there: a link to nothing */
            errno = ENOTDIR;
        return fd;
    }
    fd = open_made(at, name);
    if (fd < 0)
        csms_fd_unmake(at, name, AT_REMOVEDIR);
    return fd;
}

int csms_fd_open_file(int at, const char *name, int flags, struct stat *status)
{
    /* O_NONBLOCK: a pipe would wait for its other end. */
    int fd = csms_fd_open(at, name, flags | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return -1;
    if (fstat(fd, status) != 0) {
        csms_fd_drop(fd);
        return -1;
    }
    if (!S_ISREG(status->st_mode)) {
        csms_fd_drop(fd);
        errno = S_ISDIR(status->st_mode) ? EISDIR : ENXIO;
        return -1;
    }
    return fd;
}

int csms_fd_make_file(int at, const char *name, int flags)
{
    int fd = csms_fd_open(at, name, flags | O_CREAT | O_EXCL | O_NOFOLLOW);

    if (fd >= 0 && fchmod(fd, FILE_MODE) != 0) {
        csms_fd_drop(fd);
        csms_fd_unmake(at, name, 0);
        return -1;
    }
    return fd;
}

int csms_fd_open_or_make_file(int at, const char *name, int flags)
{
    struct stat status;
    int fd = csms_fd_open_file(at, name, flags, &status);

    if (fd < 0 && errno == ENOENT)
        fd = csms_fd_make_file(at, name, flags);
    if (fd < 0 && errno == EEXIST) /* another process was faster */
        fd = csms_fd_open_file(at, name, flags, &status);
    return fd;
}

void csms_fd_unmake(int at, const char *name, int flags)
{
    int number = errno;

    (void)unlinkat(at, name, flags);
    errno = number;
}

/* ---- closing ---------------------------------------------------------- */

void csms_fd_drop(int fd)
{
    int number = errno;

    (void)close(fd);
    errno = number;
}

/* After EINTR Linux has closed it all the same, and the sync will tell. */
int csms_fd_finish(int fd, int result)
{
    if (result != 0) {
        csms_fd_drop(fd);
        return -1;
    }
    return close(fd) == 0 || errno == EINTR ? 0 : -1;
}

/* ---- writing ---------------------------------------------------------- */

int csms_fd_write(int fd, struct csms_span data)
{
    while (data.len > 0) {
        ssize_t count = write(fd, data.data, data.len);

        if (count > 0) {
            data.data += count;
            data.len -= (size_t)count;
        } else if (count == 0) {
            errno = EIO;
            return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

int csms_fd_cut(int fd, off_t size)
{
    int result = 0;

    do {
        result = ftruncate(fd, size);
    } while (result != 0 && errno == EINTR);
    return result;
}

int csms_fd_sync(int fd)
{
    int result = 0;

    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Where there is none fsync(2) says EINVAL: there is nothing more to be had. */
int csms_fd_sync_directory(int fd)
{
    return csms_fd_sync(fd) == 0 || errno == EINVAL ? 0 : -1;
}
