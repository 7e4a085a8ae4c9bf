/* SPDX-License-Identifier: MIT */
#include "csms_sockets.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 65536
#define MAX_PORTS 65536

/* The connections' descriptors, one bit each, for a child after a fork. Only
 * whoever drives the engine opens and closes them. */
static unsigned char open_sockets[MAX_SOCKETS / 8];

/* By local port: the descriptor of a connection whose last answer came over
 * HTTP/1, else 0. A port says which connection a request is about to use. */
static uint16_t http1_sockets[MAX_PORTS];

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
}

void csms_sockets_close(void)
{
    for (int fd = 0; fd < MAX_SOCKETS; fd++)
        if (is_open(fd))
            (void)close(fd);
    memset(open_sockets, 0, sizeof open_sockets);
}

/* libcurl 7.88 opens sockets that a program's children would inherit. */
static curl_socket_t on_open(void *user, curlsocktype purpose,
                             struct curl_sockaddr *address)
{
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);

    (void)user;
    (void)purpose;
    note_socket(fd, true);
    return fd;
}

static int on_close(void *user, curl_socket_t fd)
{
    (void)user;
    note_socket(fd, false);
    return close(fd);
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
    http1_sockets[port] = http1 && is_open(fd) ? (uint16_t)fd : 0;
}

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
/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's signature */
static int on_request(void *user, char *peer_ip, char *ip, int peer_port,
                      int port)
{
    struct pollfd entry = {-1, POLLIN, 0};

    (void)user;
    (void)peer_ip;
    (void)ip;
    (void)peer_port;
    if (port > 0 && port < MAX_PORTS && http1_sockets[port] > 0)
        entry.fd = http1_sockets[port];
    /* Both numbers may have gone to another connection since. */
    if (!is_open(entry.fd) || local_port(entry.fd) != port)
        return CURL_PREREQFUNC_OK;
    return poll(&entry, 1, 0) == 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

CURLcode csms_sockets_set(CURL *easy)
{
    CURLcode code = curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);

    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    return code;
}
