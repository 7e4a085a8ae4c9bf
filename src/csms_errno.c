/* SPDX-License-Identifier: MIT */
#include "csms_errno.h"

#include <errno.h>
#include <stddef.h>

static const struct csms_errno known[] = {
    {EACCES, "EACCES",
     "no permission; check the owner and the mode of each "
     "directory on the way"},
    {EBUSY, "EBUSY", NULL},
    {EDQUOT, "EDQUOT", "the disk quota is used up; free some space"},
    {EEXIST, "EEXIST", "it exists already"},
    {EFBIG, "EFBIG", "it would be too large; is there a limit (ulimit -f)?"},
    {EINTR, "EINTR", NULL},
    {EINVAL, "EINVAL", NULL},
    {EIO, "EIO", "the device failed; look into the system's log"},
    {EISDIR, "EISDIR", "it is a directory"},
    {ELOOP, "ELOOP", "it is a link, and links are not followed here"},
    {EMFILE, "EMFILE", "too many open files; raise the limit (ulimit -n)"},
    {EMLINK, "EMLINK", NULL},
    {ENAMETOOLONG, "ENAMETOOLONG", "its name is too long"},
    {ENFILE, "ENFILE", "the system has too many open files"},
    {ENODEV, "ENODEV", NULL},
    {ENOENT, "ENOENT", "it does not exist"},
    {ENOLCK, "ENOLCK", "the file system has no locks; use another one"},
    {ENOMEM, "ENOMEM", "out of memory"},
    {ENOSPC, "ENOSPC", "the disk is full; free some space"},
    {ENOSYS, "ENOSYS", "the file system cannot do this; use another one"},
    {ENOTDIR, "ENOTDIR",
     "a step of the path is a file, or a link to nothing or not followed "
     "here, where a directory is expected"},
    {ENOTEMPTY, "ENOTEMPTY", "it is not empty"},
    {ENXIO, "ENXIO", "it is not a regular file"},
    {EOPNOTSUPP, "EOPNOTSUPP",
     "the file system cannot do this; use another one"},
    {EPERM, "EPERM", "no permission; is it immutable, or another user's?"},
    {EROFS, "EROFS", "the file system is read-only"},
    {ESTALE, "ESTALE", "the server has lost it; mount the file system again"},
    {EXDEV, "EXDEV", "the two are on different file systems"},
};

const struct csms_errno *csms_errno_find(int number)
{
    static const struct csms_errno unknown = {0, NULL, NULL};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].number == number)
            return &known[i];
    }
    return &unknown;
}
