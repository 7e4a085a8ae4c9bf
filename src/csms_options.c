/* SPDX-License-Identifier: MIT */
#include "csms_options.h"

#include <stdint.h>
#include <string.h>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 65536
#define MAX_PORTS 65536

/* ---- callbacks: they append to capped buffers and nothing else --------- */

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct csms_transfer *transfer = user;
    size_t len = size * count;

    /* A status line starts an answer; 1xx ones come before the real one. */
    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        transfer->answer = transfer->head.len;
        transfer->head_whole = false;
    }
    if (data[0] == '\r' || data[0] == '\n')
        transfer->head_whole = true;
    return csms_buf_append(&transfer->head, data, len) ? len : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct csms_transfer *transfer = user;
    size_t len = size * count;

    return csms_buf_append(&transfer->body, data, len) ? len : 0;
}

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

void csms_options_close_sockets(void)
{
    for (int fd = 0; fd < MAX_SOCKETS; fd++)
        if (is_open(fd))
            (void)close(fd);
    memset(open_sockets, 0, sizeof open_sockets);
}

/* libcurl 7.88 opens sockets that a program's children would inherit. */
static curl_socket_t on_open_socket(void *user, curlsocktype purpose,
                                    struct curl_sockaddr *address)
{
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                    address->protocol);

    (void)user;
    (void)purpose;
    note_socket(fd, true);
    return fd;
}

static int on_close_socket(void *user, curl_socket_t fd)
{
    (void)user;
    note_socket(fd, false);
    return close(fd);
}

void csms_options_note_answer(CURL *easy)
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

/* ---- libcurl's options ------------------------------------------------ */

#define SET(option, value)                                                     \
    do {                                                                       \
        CURLcode set_code = curl_easy_setopt(easy, option, value);             \
        if (set_code != CURLE_OK)                                              \
            return set_code;                                                   \
    } while (0)

static CURLcode set_protocol(CURL *easy, const struct csms_origin *origin)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, origin->https ? "https" : "http");
#else
    SET(CURLOPT_PROTOCOLS,
        (long)(origin->https ? CURLPROTO_HTTPS : CURLPROTO_HTTP));
#endif
    SET(CURLOPT_HTTP_VERSION, origin->http1 ? (long)CURL_HTTP_VERSION_1_1
                                            : (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    return CURLE_OK;
}

static CURLcode set_connection(CURL *easy, const struct csms_origin *origin)
{
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, origin->connect_timeout_ms);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Else removing a transfer that still resolves its host joins libcurl's
     * resolver thread, and everything waits for a slow name server. */
    SET(CURLOPT_QUICK_EXIT, 1L);
#endif
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (origin->ca_file)
        SET(CURLOPT_CAINFO, origin->ca_file);
    if (origin->proxy)
        SET(CURLOPT_PROXY, origin->proxy);
    /* The proxy sees none of our headers, and its own are not the answer's. */
    SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (origin->user_agent)
        SET(CURLOPT_USERAGENT, origin->user_agent);
    return CURLE_OK;
}

static CURLcode set_answer(CURL *easy, struct csms_transfer *transfer)
{
    SET(CURLOPT_ERRORBUFFER, transfer->curl_error);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, transfer);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, transfer);
    SET(CURLOPT_PREREQFUNCTION, on_request);
    return CURLE_OK;
}

static CURLcode set_request(CURL *easy, struct csms_transfer *transfer,
                            const struct csms_request *request, const char *url)
{
    bool is_get = strcmp(request->method, "GET") == 0;

    SET(CURLOPT_URL, url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_TIMEOUT_MS, transfer->timeout_ms);
    SET(CURLOPT_HTTPHEADER, transfer->headers);
    if (is_get) {
        SET(CURLOPT_HTTPGET, 1L);
    } else {
        struct csms_span body = csms_buf_view(&transfer->request_body);

        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_CUSTOMREQUEST, request->method);
        SET(CURLOPT_POSTFIELDS, body.data);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    }
    if (request->fresh) {
        /* libcurl sends again by itself when a reused connection dies. */
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
    } else {
        /* Wait for a connection that can be shared, do not open 64. */
        SET(CURLOPT_PIPEWAIT, 1L);
    }
    return CURLE_OK;
}

CURLcode csms_options_set(struct csms_transfer *transfer,
                          const struct csms_request *request, const char *url)
{
    CURLcode code = set_protocol(transfer->easy, transfer->origin);

    if (code == CURLE_OK)
        code = set_connection(transfer->easy, transfer->origin);
    if (code == CURLE_OK)
        code = set_answer(transfer->easy, transfer);
    if (code == CURLE_OK)
        code = set_request(transfer->easy, transfer, request, url);
    return code;
}
