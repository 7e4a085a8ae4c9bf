/* SPDX-License-Identifier: MIT */
#include "csms_wake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int csms_wake_init(struct csms_wake *wake)
{
    wake->writer = -1;
    wake->reader = -1;
    wake->listener = -1;
    wake->dir[0] = '\0';
    return pthread_mutex_init(&wake->lock, NULL);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void set_writer(struct csms_wake *wake, int fd)
{
    int old = -1;

    (void)pthread_mutex_lock(&wake->lock);
    old = wake->writer;
    wake->writer = fd;
    (void)pthread_mutex_unlock(&wake->lock);
    close_fd(&old);
}

static int socket_path(const struct csms_wake *wake, char *path, size_t size)
{
    int len = snprintf(path, size, "%s/wake", wake->dir);

    return len > 0 && (size_t)len < size ? 0 : -1;
}

static void stop_listening(struct csms_wake *wake)
{
    char path[sizeof wake->dir + 8];

    close_fd(&wake->listener);
    if (wake->dir[0] == '\0')
        return;
    if (socket_path(wake, path, sizeof path) == 0)
        (void)unlink(path);
    (void)rmdir(wake->dir);
    wake->dir[0] = '\0';
}

void csms_wake_close(struct csms_wake *wake)
{
    stop_listening(wake);
    set_writer(wake, -1);
    close_fd(&wake->reader);
}

void csms_wake_end(struct csms_wake *wake)
{
    csms_wake_close(wake);
    (void)pthread_mutex_destroy(&wake->lock);
}

void csms_wake_forget(struct csms_wake *wake)
{
    (void)pthread_mutex_init(&wake->lock, NULL); /* the parent may hold it */
    wake->dir[0] = '\0';
    csms_wake_close(wake);
}

static int fail(struct csms_err *err, const char *what)
{
    csms_err_set(err, CSMS_CONFIG, "%s", what);
    csms_err_cause(err, strerror(errno));
    return -1;
}

int csms_wake_pair(struct csms_wake *wake, struct csms_err *err)
{
    int ends[2];

    if (wake->reader >= 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   ends) != 0)
        return fail(err, "no socket pair to wake the event loop by");
    csms_wake_close(wake);
    wake->reader = ends[0];
    set_writer(wake, ends[1]);
    return 0;
}

static int make_dir(struct csms_wake *wake, const char *base,
                    struct csms_err *err)
{
    int len = snprintf(wake->dir, sizeof wake->dir, "%s/csms-XXXXXX", base);

    if (len < 0 || (size_t)len >= sizeof wake->dir) {
        wake->dir[0] = '\0';
        errno = ENAMETOOLONG;
        return fail(err, "the folder for the wake-up socket is too long");
    }
    if (!mkdtemp(wake->dir)) { /* mode 0700 */
        wake->dir[0] = '\0';
        return fail(err, "no folder for the wake-up socket; is the system's "
                         "temporary folder writable?");
    }
    return 0;
}

static int bind_path(struct csms_wake *wake, const char *path,
                     struct csms_err *err)
{
    struct sockaddr_un address;

    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    wake->listener =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (wake->listener < 0 ||
        bind(wake->listener, (struct sockaddr *)&address, sizeof address) ||
        listen(wake->listener, 1))
        return fail(err, "the wake-up socket cannot be opened");
    return 0;
}

int csms_wake_listen(struct csms_wake *wake, const char *base, char *path,
                     size_t size, struct csms_err *err)
{
    csms_wake_close(wake);
    if (make_dir(wake, base, err))
        return -1;
    if (socket_path(wake, path, size) ||
        size > sizeof((struct sockaddr_un *)0)->sun_path) {
        stop_listening(wake);
        return csms_err_set(err, CSMS_CONFIG,
                            "the path of the wake-up socket is too long");
    }
    if (bind_path(wake, path, err)) {
        stop_listening(wake);
        return -1;
    }
    return 0;
}

/* Nobody else may listen to what this process does. */
static bool is_own(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           peer.pid == getpid();
}

int csms_wake_accept(struct csms_wake *wake, struct csms_err *err)
{
    int fd = accept4(wake->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    stop_listening(wake);
    if (fd < 0)
        return fail(err, "nobody connected to the wake-up socket");
    if (!is_own(fd)) {
        (void)close(fd);
        return csms_err_set(err, CSMS_CONFIG,
                            "another process connected to the wake-up socket");
    }
    set_writer(wake, fd);
    return 0;
}

bool csms_wake_clear(const struct csms_wake *wake)
{
    char bytes[64];
    bool any = false;

    if (wake->reader < 0)
        return false;
    while (recv(wake->reader, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        any = true;
    return any;
}

static void send_byte(int fd, char byte)
{
    ssize_t sent = 0;

    do {
        sent = send(fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    /* EAGAIN: bytes are waiting there already. EPIPE: the loop has gone. */
}

void csms_wake_signal(struct csms_wake *wake, char news)
{
    (void)pthread_mutex_lock(&wake->lock);
    if (wake->writer >= 0)
        send_byte(wake->writer, news);
    (void)pthread_mutex_unlock(&wake->lock);
}
