/* SPDX-License-Identifier: MIT */
#include "csms_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What statfs(2) calls them; musl has no linux/magic.h. */
#define EXT4 0xEF53 /* 2 and 3 too */
#define XFS 0x58465342

#define DIRECTORY_MODE 0700
#define FILE_MODE 0600
#define MAX_SHOWN 240                   /* of a path in a message */
#define MAX_HOLDER 200                  /* of what a lock's holder wrote */
#define MAX_NAMES (1024u * 1024 * 1024) /* of a directory's names together */

/* ---- errors ----------------------------------------------------------- */

static const struct trouble {
    int number;
    const char *name;
    const char *remedy; /* NULL: the system's text says it all */
} troubles[] = {
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
     "a step of the path is a link or a file where a directory is expected"},
    {ENOTEMPTY, "ENOTEMPTY", "it is not empty"},
    {ENXIO, "ENXIO", "it is not a regular file"},
    {EOPNOTSUPP, "EOPNOTSUPP",
     "the file system cannot do this; use another one"},
    {EPERM, "EPERM", "no permission; is it immutable, or another user's?"},
    {EROFS, "EROFS", "the file system is read-only"},
    {ESTALE, "ESTALE", "the server has lost it; mount the file system again"},
    {EXDEV, "EXDEV", "the two are on different file systems"},
};

static const struct trouble *find_trouble(int number)
{
    static const struct trouble unknown = {0, NULL, NULL};

    for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++) {
        if (troubles[i].number == number)
            return &troubles[i];
    }
    return &unknown;
}

/* A message is one line, whatever is in a name or in a file. */
static void blank_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == '\x7f')
            *text = ' ';
    }
}

/* What is done to a path, and the directory that holds the path's last name. */
struct place {
    const struct csms_dir *dir;
    const char *verb;
    const char *path; /* NULL: the root itself */
    const char *name; /* the last component; "." of the root */
    int at;           /* the root's descriptor, or one to close */
};

/* Of a long path the end: it tells more than the start. */
static void show(const struct place *place, char *text, size_t size)
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
    blank_controls(text);
}

/* Returns -1. What errno says failed. */
static int fail(const struct place *place, struct csms_err *err)
{
    int number = errno;
    const struct trouble *trouble = find_trouble(number);
    char shown[MAX_SHOWN];

    show(place, shown, sizeof shown);
    csms_err_set(err, CSMS_STORAGE, "cannot %s %s%s%s", place->verb, shown,
                 trouble->remedy ? ": " : "",
                 trouble->remedy ? trouble->remedy : "");
    csms_err_cause(err, strerror(number));
    csms_err_code(err, trouble->name);
    return -1;
}

/* ---- descriptors ------------------------------------------------------ */

static int open_at(int at, const char *name, int flags)
{
    int fd = -1;

    do {
        fd = openat(at, name, flags | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Closes what was only read, or what is thrown away; errno stays. */
static void drop(int fd)
{
    int number = errno;

    (void)close(fd);
    errno = number;
}

/* Closes what was written, and returns -1 where `result` is, or where closing
 * tells that a write failed. After EINTR Linux has closed it all the same, and
 * the sync will tell. */
static int finish(int fd, int result)
{
    if (result != 0) {
        drop(fd);
        return -1;
    }
    return close(fd) == 0 || errno == EINTR ? 0 : -1;
}

static int write_all(int fd, struct csms_span data)
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

static int cut_to(int fd, off_t size)
{
    int result = 0;

    do {
        result = ftruncate(fd, size);
    } while (result != 0 && errno == EINTR);
    return result;
}

static int sync_fd(int fd)
{
    int result = 0;

    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result;
}

/* Some file systems have no fsync of directories, and say EINVAL: there is
 * nothing more to be had from them. */
static int sync_directory(int fd)
{
    return sync_fd(fd) == 0 || errno == EINVAL ? 0 : -1;
}

/* ---- walking ---------------------------------------------------------- */

static int make_directory(int at, const char *name, int flags)
{
    bool made = mkdirat(at, name, DIRECTORY_MODE) == 0;
    int fd = -1;

    if (!made && errno != EEXIST) /* somebody else may have been faster */
        return -1;
    /* Before it is opened: the umask may have taken what that needs. */
    if (!made || fchmodat(at, name, DIRECTORY_MODE, 0) == 0)
        fd = open_at(at, name, O_RDONLY | O_DIRECTORY | flags);
    if (made && fd < 0) {
        int number = errno;

        (void)unlinkat(at, name, AT_REMOVEDIR);
        errno = number;
        return -1;
    }
    return fd;
}

/* Opens a directory; with `make`, one that is missing is made. */
static int enter(int at, const char *name, int flags, bool make)
{
    int fd = open_at(at, name, O_RDONLY | O_DIRECTORY | flags);

    if (fd < 0 && errno == ENOENT && make)
        fd = make_directory(at, name, flags);
    return fd;
}

static void place_close(const struct place *place)
{
    if (place->at != place->dir->fd)
        drop(place->at);
}

/* Goes into the component of `len` bytes that `name` starts with. */
static int descend(struct place *place, size_t len, bool make)
{
    char step[NAME_MAX + 1];
    int fd = -1;

    memcpy(step, place->name, len);
    step[len] = '\0';
    fd = enter(place->at, step, O_NOFOLLOW, make);
    if (fd < 0)
        return -1;
    place_close(place);
    place->at = fd;
    place->name += len + 1;
    return 0;
}

/* Neither empty nor "." nor "..". */
static bool is_component(const char *name, size_t len)
{
    return len > 2 || (len > 0 && strncmp(name, "..", len) != 0);
}

static int check_component(const struct place *place, const char *name,
                           size_t len, struct csms_err *err)
{
    char shown[MAX_SHOWN];

    if (len > NAME_MAX) {
        errno = ENAMETOOLONG;
        return fail(place, err);
    }
    if (is_component(name, len))
        return 0;
    show(place, shown, sizeof shown);
    return csms_err_set(err, CSMS_STORAGE,
                        "cannot %s %s: a path here has no empty, '.' or '..' "
                        "components",
                        place->verb, shown);
}

/* Before anything is done. */
static int check_path(const struct place *place, struct csms_err *err)
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

/* After success place_close() it. */
static int place_open(struct place *place, const struct csms_dir *dir,
                      const char *verb, const char *path, bool make,
                      struct csms_err *err)
{
    const char *slash = NULL;

    place->dir = dir;
    place->verb = verb;
    place->path = path;
    place->name = path;
    place->at = dir->fd;
    if (check_path(place, err))
        return -1;
    while ((slash = strchr(place->name, '/'))) {
        if (descend(place, (size_t)(slash - place->name), make)) {
            fail(place, err);
            place_close(place);
            return -1;
        }
    }
    return 0;
}

/* Closes it, and turns a `result` that is not 0 into the error of errno. */
static int place_end(const struct place *place, int result,
                     struct csms_err *err)
{
    if (result != 0)
        fail(place, err);
    place_close(place);
    return result;
}

static struct place root_place(const struct csms_dir *dir, const char *verb)
{
    struct place place = {dir, verb, NULL, ".", dir->fd};

    return place;
}

/* ---- the directory ---------------------------------------------------- */

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

/* Whether syncfs(2) promises here what fsync(2) of each file does. Elsewhere it
 * may not: overlayfs keeps errors of the file system below to itself, FUSE and
 * SMB do not pass it on to who stores the data. */
static bool can_syncfs(int fd)
{
    struct statfs system;

    return fstatfs(fd, &system) == 0 &&
           (system.f_type == EXT4 || system.f_type == XFS) && is_linux_5_8();
}

/* A part of the path to the root; its entry is durable at once. */
static int make_part(int at, const char *name)
{
    int fd = make_directory(at, name, 0);

    if (fd >= 0 && sync_directory(at) != 0) {
        int number = errno;

        drop(fd);
        (void)unlinkat(at, name, AT_REMOVEDIR);
        errno = number;
        return -1;
    }
    return fd;
}

/* Makes the missing parts of a path, and follows links. Returns a
 * descriptor. */
static int make_path(char *path)
{
    int at =
        open_at(AT_FDCWD, path[0] == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY);
    char *rest = NULL;

    for (char *name = strtok_r(path, "/", &rest); name && at >= 0;
         name = strtok_r(NULL, "/", &rest)) {
        int fd = enter(at, name, 0, false);

        if (fd < 0 && errno == ENOENT)
            fd = make_part(at, name);
        drop(at);
        at = fd;
    }
    return at;
}

static int open_root(const char *path, bool create)
{
    int fd = enter(AT_FDCWD, path, 0, false);
    char *copy = NULL;

    if (fd >= 0 || errno != ENOENT || !create || path[0] == '\0')
        return fd;
    copy = strdup(path);
    if (!copy)
        return -1;
    fd = make_path(copy);
    free(copy);
    return fd;
}

struct csms_dir *csms_dir_open(const char *path, bool create,
                               struct csms_err *err)
{
    size_t size = strlen(path) + 1;
    struct csms_dir *dir = malloc(sizeof *dir + size);
    struct place place;

    if (!dir) {
        csms_err_set(err, CSMS_STORAGE, "out of memory");
        csms_err_code(err, "ENOMEM");
        return NULL;
    }
    memcpy(dir->path, path, size);
    dir->fd = open_root(path, create);
    if (dir->fd < 0) {
        place = root_place(dir, create ? "make the directory"
                                       : "open the directory");
        fail(&place, err);
        free(dir);
        return NULL;
    }
    dir->can_syncfs = can_syncfs(dir->fd);
    return dir;
}

void csms_dir_free(struct csms_dir *dir)
{
    if (!dir)
        return;
    drop(dir->fd);
    free(dir);
}

/* ---- files ------------------------------------------------------------ */

/* O_NONBLOCK: a pipe would wait for its other end. */
static int open_regular(const struct place *place, int flags,
                        struct stat *status)
{
    int fd = open_at(place->at, place->name, flags | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return -1;
    if (fstat(fd, status) != 0) {
        drop(fd);
        return -1;
    }
    if (!S_ISREG(status->st_mode)) {
        drop(fd);
        errno = S_ISDIR(status->st_mode) ? EISDIR : ENXIO;
        return -1;
    }
    return fd;
}

/* Removes what this call has made; errno stays. */
static void unmake(const struct place *place)
{
    int number = errno;

    (void)unlinkat(place->at, place->name, 0);
    errno = number;
}

static int make_file(const struct place *place, int flags)
{
    int fd =
        open_at(place->at, place->name, flags | O_CREAT | O_EXCL | O_NOFOLLOW);

    if (fd >= 0 && fchmod(fd, FILE_MODE) != 0) {
        drop(fd);
        unmake(place);
        return -1;
    }
    return fd;
}

/* `made` tells whether the file is new; `size` is what it holds. */
static int open_or_make(const struct place *place, int flags, bool *made,
                        off_t *size)
{
    struct stat status;
    int fd = open_regular(place, flags, &status);

    *made = false;
    if (fd < 0 && errno == ENOENT) {
        fd = make_file(place, flags);
        *made = fd >= 0;
        if (fd < 0 && errno == EEXIST) /* another process was faster */
            fd = open_regular(place, flags, &status);
    }
    *size = fd < 0 || *made ? 0 : status.st_size;
    return fd;
}

static int create_file(const struct place *place, struct csms_span data)
{
    int fd = make_file(place, O_WRONLY);

    if (fd < 0)
        return -1;
    if (finish(fd, write_all(fd, data)) == 0)
        return 0;
    unmake(place);
    return -1;
}

int csms_dir_create(const struct csms_dir *dir, const char *path,
                    struct csms_span data, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "write", path, true, err))
        return -1;
    return place_end(&place, create_file(&place, data), err);
}

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

static int read_file(const struct place *place, struct csms_buf *out)
{
    struct stat status;
    int fd = open_regular(place, O_RDONLY, &status);
    int result = -1;

    if (fd < 0)
        return -1;
    result = read_all(fd, out);
    drop(fd);
    return result;
}

int csms_dir_read(const struct csms_dir *dir, const char *path,
                  struct csms_buf *out, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "read", path, false, err))
        return -1;
    return place_end(&place, read_file(&place, out), err);
}

static int cut_file(const struct place *place, off_t size)
{
    struct stat status;
    int fd = open_regular(place, O_WRONLY, &status);

    return fd < 0 ? -1 : finish(fd, cut_to(fd, size));
}

/* Makes an append undone that failed; errno stays. By the file's name, because
 * the descriptor may be closed already. */
static void cut_back(const struct place *place, off_t size)
{
    int number = errno;

    (void)cut_file(place, size);
    errno = number;
}

static int append_to_file(const struct place *place, struct csms_span data)
{
    off_t before = 0;
    bool made = false;
    int fd = open_or_make(place, O_WRONLY | O_APPEND, &made, &before);

    if (fd < 0)
        return -1;
    if (finish(fd, write_all(fd, data)) == 0)
        return 0;
    if (made)
        unmake(place);
    else
        cut_back(place, before);
    return -1;
}

int csms_dir_append(const struct csms_dir *dir, const char *path,
                    struct csms_span data, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "write", path, false, err))
        return -1;
    return place_end(&place, append_to_file(&place, data), err);
}

int csms_dir_truncate(const struct csms_dir *dir, const char *path,
                      uint64_t size, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "cut", path, false, err))
        return -1;
    return place_end(&place, cut_file(&place, (off_t)size), err);
}

static int unlink_path(const struct csms_dir *dir, const char *path, int flags,
                       struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "remove", path, false, err))
        return -1;
    return place_end(&place, unlinkat(place.at, place.name, flags), err);
}

int csms_dir_remove(const struct csms_dir *dir, const char *path,
                    struct csms_err *err)
{
    return unlink_path(dir, path, 0, err);
}

int csms_dir_remove_directory(const struct csms_dir *dir, const char *path,
                              struct csms_err *err)
{
    return unlink_path(dir, path, AT_REMOVEDIR, err);
}

int csms_dir_rename(const struct csms_dir *dir, const char *from,
                    const char *to, struct csms_err *err)
{
    struct place source;
    struct place target;
    int result = -1;

    if (place_open(&source, dir, "rename", from, false, err))
        return -1;
    if (place_open(&target, dir, "rename a file to", to, false, err))
        goto out;
    result = renameat(source.at, source.name, target.at, target.name);
    if (result != 0)
        fail(errno == ENOENT ? &source : &target, err);
    place_close(&target);
out:
    place_close(&source);
    return result;
}

/* ---- durability ------------------------------------------------------- */

/* With `covered`, what is on that file system is left to syncfs(2). */
static int sync_place(const struct place *place, const struct stat *covered)
{
    struct stat status;
    int fd =
        open_at(place->at, place->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    int result = -1;

    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0) {
        if (covered && status.st_dev == covered->st_dev)
            result = 0;
        else if (S_ISDIR(status.st_mode))
            result = sync_directory(fd);
        else
            result = sync_fd(fd);
    }
    drop(fd);
    return result;
}

static int sync_path(const struct csms_dir *dir, const char *path,
                     const struct stat *covered, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "sync", path, false, err))
        return -1;
    return place_end(&place, sync_place(&place, covered), err);
}

/* A hundred files are durable after one syncfs(2) much sooner than after a
 * hundred fsync(2), each of which waits for the journal. A single path is not:
 * syncfs also writes what everybody else has changed. It covers the root's file
 * system alone, and a directory below may be a mount point. */
int csms_dir_sync(const struct csms_dir *dir, const char *const *paths,
                  size_t count, struct csms_err *err)
{
    struct place root = root_place(dir, "sync");
    bool whole = count > 1 && dir->can_syncfs;
    struct stat status;

    if (fstat(dir->fd, &status) != 0)
        return fail(&root, err);
    for (size_t i = 0; i < count; i++) {
        if (sync_path(dir, paths[i], whole ? &status : NULL, err))
            return -1;
    }
    if (whole && syncfs(dir->fd) != 0)
        return fail(&root, err);
    if (count == 1 && strchr(paths[0], '/'))
        return 0;
    /* After syncfs too, which before Linux 5.17 keeps a journal's failure to
     * itself; with nothing left to write it costs little. */
    return sync_directory(dir->fd) == 0 ? 0 : fail(&root, err);
}

/* ---- looking ---------------------------------------------------------- */

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

static enum csms_file_type type_of_mode(mode_t mode)
{
    if (S_ISREG(mode))
        return CSMS_TYPE_FILE;
    if (S_ISDIR(mode))
        return CSMS_TYPE_DIRECTORY;
    return S_ISLNK(mode) ? CSMS_TYPE_LINK : CSMS_TYPE_OTHER;
}

static int stat_file(const struct place *place, struct csms_file_status *out)
{
    struct stat status;

    if (fstatat(place->at, place->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    out->type = type_of_mode(status.st_mode);
    out->size = (uint64_t)status.st_size;
    out->mode = status.st_mode & 07777;
    out->mtime =
        (double)status.st_mtim.tv_sec + (double)status.st_mtim.tv_nsec / 1e9;
    return 0;
}

int csms_dir_stat(const struct csms_dir *dir, const char *path,
                  struct csms_file_status *out, struct csms_err *err)
{
    struct place place;

    if (place_open(&place, dir, "look at", path, false, err))
        return -1;
    return place_end(&place, stat_file(&place, out), err);
}

/* Appends the type's letter, the name and a NUL. Some file systems leave the
 * type to fstatat(2), and an entry may be gone by then. */
static int add_entry(int fd, const struct dirent *entry, struct csms_buf *text)
{
    mode_t mode = (mode_t)DTTOIF(entry->d_type);
    struct stat status;

    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
        return 0;
    if (entry->d_type == DT_UNKNOWN) {
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? 0 : -1;
        mode = status.st_mode;
    }
    csms_buf_char(text, (char)type_of_mode(mode));
    csms_buf_append(text, entry->d_name, strlen(entry->d_name) + 1);
    if (text->failure) {
        errno = ENOMEM;
        return -1;
    }
    return 0;
}

/* Takes `fd` over. */
static int read_names(int fd, struct csms_buf *text)
{
    DIR *stream = fdopendir(fd);
    const struct dirent *entry = NULL;
    int number = 0;

    if (!stream) {
        drop(fd);
        return -1;
    }
    do {
        errno = 0;
        entry = readdir(stream);
        if (!entry || add_entry(fd, entry, text))
            number = errno;
    } while (entry && number == 0);
    (void)closedir(stream);
    errno = number;
    return number == 0 ? 0 : -1;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(((const struct csms_entry *)left)->name,
                  ((const struct csms_entry *)right)->name);
}

/* Once the text no longer moves. */
static int index_names(struct csms_entries *entries)
{
    struct csms_span text = csms_buf_view(&entries->text);
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.data[i] == '\0';
    entries->items = calloc(count + 1, sizeof *entries->items);
    if (!entries->items)
        return -1;
    for (; entries->count < count; entries->count++) {
        struct csms_entry *item = &entries->items[entries->count];

        item->type = (enum csms_file_type)text.data[0];
        item->name = text.data + 1;
        text.data += strlen(text.data) + 1;
    }
    qsort(entries->items, count, sizeof *entries->items, by_name);
    return 0;
}

static int list(const struct place *place, struct csms_entries *out)
{
    int fd = enter(place->at, place->name, O_NOFOLLOW, false);

    return fd < 0 || read_names(fd, &out->text) ? -1 : index_names(out);
}

int csms_dir_entries(const struct csms_dir *dir, const char *path,
                     struct csms_entries *out, struct csms_err *err)
{
    struct place place = root_place(dir, "list");

    memset(out, 0, sizeof *out);
    csms_buf_init(&out->text, MAX_NAMES);
    if (path && place_open(&place, dir, "list", path, false, err))
        return -1;
    return place_end(&place, list(&place, out), err);
}

void csms_entries_free(struct csms_entries *entries)
{
    csms_buf_free(&entries->text);
    free(entries->items);
    entries->items = NULL;
    entries->count = 0;
}

/* ---- the lock --------------------------------------------------------- */

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
static int say_locked(const struct place *place, int fd, struct csms_err *err)
{
    char shown[MAX_SHOWN];
    char holder[MAX_HOLDER + 1];
    ssize_t len = pread(fd, holder, MAX_HOLDER, 0);

    /* A NUL becomes a blank too, and not the end. */
    for (ssize_t i = 0; i < len; i++)
        holder[i] = holder[i] == '\0' ? ' ' : holder[i];
    holder[len > 0 ? len : 0] = '\0';
    blank_controls(holder);
    show(place, shown, sizeof shown);
    csms_err_set(err, CSMS_STORAGE, "cannot lock %s: it is locked already",
                 shown);
    csms_err_cause(err, holder);
    csms_err_code(err, "locked");
    return -1;
}

static int hold(const struct place *place, struct csms_lock *lock,
                struct csms_span text, struct csms_err *err)
{
    if (lock_fd(lock->fd) != 0)
        return errno == EWOULDBLOCK ? say_locked(place, lock->fd, err)
                                    : fail(place, err);
    lock->holder = getpid();
    if (cut_to(lock->fd, 0) != 0 || write_all(lock->fd, text) != 0)
        return fail(place, err);
    return 0;
}

struct csms_lock *csms_lock_take(const struct csms_dir *dir, const char *path,
                                 struct csms_span text, struct csms_err *err)
{
    struct place place;
    struct csms_lock *lock = NULL;
    bool made = false;
    off_t size = 0;

    if (place_open(&place, dir, "lock", path, false, err))
        return NULL;
    lock = calloc(1, sizeof *lock);
    if (!lock) {
        fail(&place, err);
        goto out;
    }
    lock->fd = open_or_make(&place, O_RDWR, &made, &size);
    if (lock->fd < 0) {
        fail(&place, err);
        free(lock);
        lock = NULL;
    } else if (hold(&place, lock, text, err)) {
        csms_lock_free(lock);
        lock = NULL;
    }
out:
    place_close(&place);
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
        (void)cut_to(lock->fd, 0); /* flock tells, not the text */
        (void)flock(lock->fd, LOCK_UN);
    }
    drop(lock->fd);
    free(lock);
}
