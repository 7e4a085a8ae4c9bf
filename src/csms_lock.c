/* SPDX-License-Identifier: MIT */
#include "csms_lock.h"

#include <errno.h>
#include <stdlib.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "csms_fd.h"
#include "csms_path.h"

#define MAX_HOLDER 200 /* of what a lock's holder wrote */

struct csms_lock {
    int fd;
    pid_t holder; /* 0: not held */
};

static int lock_fd(int fd)
{
    int result = 0;

    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Returns -1. */
static int say_locked(const struct csms_place *place, int fd,
                      struct csms_err *err)
{
    char shown[CSMS_MAX_SHOWN];
    char holder[MAX_HOLDER + 1];
    ssize_t len = pread(fd, holder, MAX_HOLDER, 0);

    /* A NUL becomes a blank too, and not the end. */
    for (ssize_t i = 0; i < len; i++)
        holder[i] = holder[i] == '\0' ? ' ' : holder[i];
    holder[len > 0 ? len : 0] = '\0';
    csms_path_blank(holder);
    csms_place_show(place, shown, sizeof shown);
    csms_err_set(err, CSMS_STORAGE, "cannot lock %s: it is locked already",
                 shown);
    csms_err_cause(err, holder);
    csms_err_code(err, "locked");
    return -1;
}

static int hold(const struct csms_place *place, struct csms_lock *lock,
                struct csms_span text, struct csms_err *err)
{
    if (lock_fd(lock->fd) != 0)
        return errno == EWOULDBLOCK ? say_locked(place, lock->fd, err)
                                    : csms_place_fail(place, err);
    lock->holder = getpid();
    if (csms_fd_cut(lock->fd, 0) != 0 || csms_fd_write(lock->fd, text) != 0)
        return csms_place_fail(place, err);
    return 0;
}

struct csms_lock *csms_lock_take(const struct csms_dir *dir, const char *path,
                                 struct csms_span text, struct csms_err *err)
{
    struct csms_place place;
    struct csms_lock *lock = NULL;

    if (csms_place_open(&place, dir, "lock", path, false, err))
        return NULL;
    lock = calloc(1, sizeof *lock);
    if (!lock) {
        csms_place_fail(&place, err);
        goto out;
    }
    lock->fd = csms_fd_open_or_make_file(place.at, place.name, O_RDWR);
    if (lock->fd < 0) {
        csms_place_fail(&place, err);
        free(lock);
        lock = NULL;
    } else if (hold(&place, lock, text, err)) {
        csms_lock_free(lock);
        lock = NULL;
    }
out:
    csms_place_close(&place);
    return lock;
}

/* The lock belongs to the open file, which a forked child shares. Closing alone
 * would leave it to the child, hence LOCK_UN; and a child that collects its
 * copy must not free the parent's lock, hence the holder. */
void csms_lock_free(struct csms_lock *lock)
{
    if (!lock)
        return;
    if (lock->holder == getpid()) {
        (void)csms_fd_cut(lock->fd, 0); /* flock tells, not the text */
        (void)flock(lock->fd, LOCK_UN);
    }
    csms_fd_drop(lock->fd);
    free(lock);
}
