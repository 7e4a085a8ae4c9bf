/* SPDX-License-Identifier: MIT
 *
 * A library to preload: of the file-system calls on one folder and what is
 * below it, the one with a given number goes wrong. The environment tells how:
 *
 * FAIL_UNDER   the folder, an absolute path
 * FAIL_AT      the number of the call, from 1; 0: none
 * FAIL_HOW     an errno as a number;
 *              "short": a write writes half and says so;
 *              "torn": a write writes half, the next one finds the disk full;
 *              "kill": SIGKILL before the call;
 *              "killtorn": a write writes half, then SIGKILL
 * FAIL_ON      each further call of this name fails too; "*": any
 * FAIL_LOG     a file: gets the line "NUMBER CALL PATH" of the call that goes
 *              wrong; where none is to, of each call
 *
 * A program that opens the folder "/fail_nth/AT/HOW/ON", which is not there,
 * starts the count again with that plan, and with an empty log.
 *
 * Calls have their own names, but for close_written (of what is open for
 * writing) and unlock (flock). What is synced is not: the machine stays up, and
 * thousands of runs need not wait for its disk; the folder is said to be on
 * ext4, wherever it is, so that the same calls are made. For one thread on the
 * folder.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_PATH 4096
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ORDERS "/fail_nth/"

static struct {
    bool ready;
    const char *under;
    char how[16];
    char on[16];
    int log;
    long at; /* below 0: nothing goes wrong, and nothing is logged */
    long count;
    bool full; /* the disk, after a torn write */
} plan;

static void set_plan(const char *at, const char *how, const char *on)
{
    plan.at = at ? strtol(at, NULL, 10) : -1;
    (void)snprintf(plan.how, sizeof plan.how, "%s", how ? how : "");
    (void)snprintf(plan.on, sizeof plan.on, "%s", on ? on : "");
    plan.count = 0;
    plan.full = false;
}

static void read_plan(void)
{
    const char *log = getenv("FAIL_LOG");

    if (plan.ready)
        return;
    plan.ready = true;
    plan.under = getenv("FAIL_UNDER");
    set_plan(getenv("FAIL_AT"), getenv("FAIL_HOW"), getenv("FAIL_ON"));
    plan.log =
        log ? REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
            : -1;
}

static bool take_orders(const char *path)
{
    char text[64];
    char *rest = text;
    const char *at = NULL;
    const char *how = NULL;

    if (strncmp(path, ORDERS, strlen(ORDERS)) != 0)
        return false;
    read_plan();
    (void)snprintf(text, sizeof text, "%s", path + strlen(ORDERS));
    at = strsep(&rest, "/");
    how = strsep(&rest, "/");
    set_plan(at, how, rest);
    (void)REAL(ftruncate)(plan.log, 0);
    return true;
}

static bool is_under(const char *path)
{
    size_t len = strlen(plan.under);

    return strncmp(path, plan.under, len) == 0 &&
           (path[len] == '\0' || path[len] == '/' || path[len] == ' ');
}

/* The path of a descriptor, or of a name that is relative to one. Returns false
 * where it is not below the folder. */
static bool locate(int fd, const char *name, char *path, size_t size)
{
    char link[64];
    ssize_t len = 0;

    read_plan();
    if (!plan.under)
        return false;
    if (name && (fd == AT_FDCWD || name[0] == '/')) {
        (void)snprintf(path, size, "%s", name);
        return is_under(path);
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    len = readlink(link, path, size - 1);
    if (len < 0)
        return false;
    path[len] = '\0';
    /* A step of the way to the folder itself, while it is made. */
    if (name) {
        size_t end = strcmp(path, "/") == 0 ? 0 : (size_t)len;

        (void)snprintf(path + end, size - end, "/%s", name);
    }
    return is_under(path);
}

static void note(const char *call, const char *path)
{
    if (plan.log >= 0)
        (void)dprintf(plan.log, "%ld %s %s\n", plan.count, call, path);
}

static bool is_how(const char *word)
{
    return strcmp(plan.how, word) == 0;
}

static bool is_repeated(const char *call)
{
    return plan.at > 0 && plan.count > plan.at &&
           (strcmp(plan.on, "*") == 0 || strcmp(plan.on, call) == 0);
}

/* Counts the call; returns the errno that it is to fail with, or 0. */
static int failure(const char *call, int fd, const char *name)
{
    char path[MAX_PATH];
    int number = errno;

    bool counts = false;

    read_plan();
    counts = plan.at >= 0 && locate(fd, name, path, sizeof path);
    errno = number;
    if (!counts)
        return 0;
    plan.count++;
    if (plan.at == 0 || plan.count == plan.at)
        note(call, path);
    if (plan.count == plan.at) {
        if (is_how("kill"))
            (void)raise(SIGKILL);
        return atoi(plan.how);
    }
    return is_repeated(call) ? atoi(plan.how) : 0;
}

#define FAIL(call, fd, name, result)                                           \
    do {                                                                       \
        int fail_number = failure(call, fd, name);                             \
        if (fail_number) {                                                     \
            errno = fail_number;                                               \
            return result;                                                     \
        }                                                                      \
    } while (0)

/* ---- the calls ----------------------------------------------------------- */

int openat(int fd, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode = 0;

    if (flags & O_CREAT) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (take_orders(path)) {
        errno = ENOENT;
        return -1;
    }
    FAIL("openat", fd, path, -1);
    return REAL(openat)(fd, path, flags, mode);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    FAIL("mkdirat", fd, path, -1);
    return REAL(mkdirat)(fd, path, mode);
}

int renameat(int from, const char *name, int to, const char *new_name)
{
    FAIL("renameat", from, name, -1);
    return REAL(renameat)(from, name, to, new_name);
}

int unlinkat(int fd, const char *path, int flags)
{
    FAIL("unlinkat", fd, path, -1);
    return REAL(unlinkat)(fd, path, flags);
}

int fstatat(int fd, const char *path, struct stat *status, int flags)
{
    FAIL("fstatat", fd, path, -1);
    return REAL(fstatat)(fd, path, status, flags);
}

int fstat(int fd, struct stat *status)
{
    FAIL("fstat", fd, NULL, -1);
    return REAL(fstat)(fd, status);
}

int fstatfs(int fd, struct statfs *status)
{
    char path[MAX_PATH];
    int result = 0;

    FAIL("fstatfs", fd, NULL, -1);
    result = REAL(fstatfs)(fd, status);
    if (locate(fd, NULL, path, sizeof path))
        status->f_type = EXT4_SUPER_MAGIC;
    return result;
}

int fchmod(int fd, mode_t mode)
{
    FAIL("fchmod", fd, NULL, -1);
    return REAL(fchmod)(fd, mode);
}

int ftruncate(int fd, off_t size)
{
    FAIL("ftruncate", fd, NULL, -1);
    return REAL(ftruncate)(fd, size);
}

int fsync(int fd)
{
    char path[MAX_PATH];

    FAIL("fsync", fd, NULL, -1);
    return locate(fd, NULL, path, sizeof path) ? 0 : REAL(fsync)(fd);
}

int syncfs(int fd)
{
    char path[MAX_PATH];

    FAIL("syncfs", fd, NULL, -1);
    return locate(fd, NULL, path, sizeof path) ? 0 : REAL(syncfs)(fd);
}

int flock(int fd, int operation)
{
    FAIL(operation & LOCK_UN ? "unlock" : "flock", fd, NULL, -1);
    return REAL(flock)(fd, operation);
}

ssize_t read(int fd, void *data, size_t size)
{
    FAIL("read", fd, NULL, -1);
    return REAL(read)(fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    FAIL("pread", fd, NULL, -1);
    return REAL(pread)(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[MAX_PATH];
    ssize_t half = 0;

    if (plan.full && locate(fd, NULL, path, sizeof path)) {
        plan.full = false;
        plan.count++;
        errno = ENOSPC;
        return -1;
    }
    FAIL("write", fd, NULL, -1);
    if (plan.count != plan.at || size < 2 ||
        !locate(fd, NULL, path, sizeof path))
        return REAL(write)(fd, data, size);
    if (!is_how("short") && !is_how("torn") && !is_how("killtorn"))
        return REAL(write)(fd, data, size);
    plan.full = is_how("torn");
    half = REAL(write)(fd, data, size / 2);
    if (is_how("killtorn"))
        (void)raise(SIGKILL);
    return half;
}

/* As Linux does: what fails to close is closed. */
int close(int fd)
{
    bool written = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    int number = failure(written ? "close_written" : "close", fd, NULL);
    int result = REAL(close)(fd);

    if (number == 0)
        return result;
    errno = number;
    return -1;
}

DIR *fdopendir(int fd)
{
    FAIL("fdopendir", fd, NULL, NULL);
    return REAL(fdopendir)(fd);
}

struct dirent *readdir(DIR *stream)
{
    FAIL("readdir", dirfd(stream), NULL, NULL);
    return REAL(readdir)(stream);
}
