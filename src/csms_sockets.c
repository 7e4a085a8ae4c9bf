/* SPDX-License-Identifier: MIT */
#include "csms_sockets.h"

#include <stdbool.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS (1 << 20)
#define MAX_PORTS 65536

/* The connections' descriptors, one bit each, for a child after a fork. Only
 * whoever drives the engine opens and closes them. */
static unsigned char open_sockets[MAX_SOCKETS / 8];
static int end_of_sockets; /* above the highest that there was */

/* By local port, which says what connection a request is about to use: its
 * descriptor, or 0 where no answer has come yet. */
static struct connection {
    int fd;
    bool http1; /* how the last answer came */
} connections[MAX_PORTS];

/* The one whose packets are held back until csms_sockets_push(), or -1. Where
 * requests for several start at once, the others' go as they are written. */
static bool holding;
static int corked = -1;

static bool is_open(int fd)
{
    return fd >= 0 && fd < MAX_SOCKETS &&
           (open_sockets[fd / 8] & (1U << (fd % 8)));
}

static void note_socket(int fd, bool open)
{
    if (fd < 0 || fd >= MAX_SOCKETS)
        return;
    if (open)
        open_sockets[fd / 8] |= (unsigned char)(1U << (fd % 8));
    else
        open_sockets[fd / 8] &= (unsigned char)~(1U << (fd % 8));
    if (open && fd >= end_of_sockets)
        end_of_sockets = fd + 1;
}

/* libcurl 7.88 opens sockets that a program's children would inherit. */
static curl_socket_t on_open(void *user, curlsocktype purpose,
                             struct curl_sockaddr *address)
{
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);

    (void)user;
    (void)purpose;
    if (fd >= MAX_SOCKETS) {
        (void)close(fd);
        return CURL_SOCKET_BAD;
    }
    note_socket(fd, true);
    return fd;
}

static int on_close(void *user, curl_socket_t fd)
{
    (void)user;
    note_socket(fd, false);
    return close(fd);
}

void csms_sockets_close(void)
{
    for (int fd = 0; fd < end_of_sockets; fd++)
        if (is_open(fd))
            (void)on_close(NULL, fd);
    end_of_sockets = 0;
    corked = -1;
}

void csms_sockets_note_answer(CURL *easy)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    long version = 0;
    long port = 0;
    bool http1 = false;

    if (curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version) != CURLE_OK ||
        curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK ||
        port <= 0 || port >= MAX_PORTS)
        return;
    http1 =
        version == CURL_HTTP_VERSION_1_0 || version == CURL_HTTP_VERSION_1_1;
    connections[port].fd = is_open(fd) ? fd : 0;
    connections[port].http1 = http1;
}

/* ---- HTTP/2: what is sent at once shares packets ----------------------- */

/* Where it fails, packets are as small as the writes, or wait for 200 ms. */
static void set_cork(int fd, int on)
{
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static void hold_back(int fd)
{
    if (corked >= 0)
        return;
    set_cork(fd, 1);
    corked = fd;
}

void csms_sockets_hold(void)
{
    holding = true;
}

void csms_sockets_push(void)
{
    if (is_open(corked))
        set_cork(corked, 0);
    corked = -1;
    holding = false;
}

/* ---- HTTP/1: nobody speaks between answers ------------------------------ */

static int local_port(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &size))
        return -1;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return -1;
}

/* Between answers a server of HTTP/1 has nothing to say: what it said all the
 * same would be taken for the answer to the next request, another secret's.
 * libcurl 7.88 looks only whether the connection is closed. */
static bool has_spoken(int fd, int port)
{
    struct pollfd entry = {fd, POLLIN, 0};

    /* Both numbers may have gone to another connection since. */
    return local_port(fd) == port && poll(&entry, 1, 0) == 1;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's signature */
static int on_request(void *user, char *peer_ip, char *ip, int peer_port,
                      int port)
{
    bool *sent = user;
    struct connection known = {0, false};

    (void)peer_ip;
    (void)ip;
    (void)peer_port;
    if (port > 0 && port < MAX_PORTS)
        known = connections[port];
    if (!is_open(known.fd))
        known.fd = 0;
    if (known.fd && known.http1 && has_spoken(known.fd, port))
        return CURL_PREREQFUNC_ABORT;
    if (known.fd && !known.http1 && holding)
        hold_back(known.fd);
    *sent = true;
    return CURL_PREREQFUNC_OK;
}

/* ---- what libcurl is told ------------------------------------------------ */

CURLcode csms_sockets_set(CURL *easy, bool *sent)
{
    CURLcode code = curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);

    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PREREQDATA, sent);
    return code;
}
