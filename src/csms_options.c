/* SPDX-License-Identifier: MIT */
#include "csms_options.h"

#include <string.h>

#include "csms_flood.h"
#include "csms_sockets.h"

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
    /* An end within the empty line comes as a line too: libcurl 8.21. */
    if (data[0] == '\n' || (len >= 2 && data[0] == '\r' && data[1] == '\n'))
        transfer->head_whole = true;
    return csms_buf_append(&transfer->head, data, len) ? len : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct csms_transfer *transfer = user;
    size_t len = size * count;

    return csms_buf_append(&transfer->body, data, len) ? len : 0;
}

/* libcurl reads a proxy's answer to CONNECT for as long as some comes, and
 * never looks at its own clock meanwhile; but it tells of progress. */
static int on_progress(void *user, curl_off_t to_come, curl_off_t came,
                       curl_off_t to_go, curl_off_t went)
{
    struct csms_transfer *transfer = user;
    curl_off_t spent = 0; /* microseconds */

    (void)to_come;
    (void)came;
    (void)to_go;
    (void)went;
    if (curl_easy_getinfo(transfer->easy, CURLINFO_TOTAL_TIME_T, &spent) ==
        CURLE_OK)
        transfer->late = spent / 1000 >= transfer->timeout_ms;
    return transfer->late;
}

/* ---- libcurl's options ------------------------------------------------ */

/* The least that there is: of 64 KiB a handle, nearly all would stay unused. */
#define UPLOAD_BUFFER 16384L

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
    SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
    SET(CURLOPT_CONNECTTIMEOUT_MS, origin->connect_timeout_ms);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
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
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, transfer);
    return CURLE_OK;
}

/* In both forms: from one alone libcurl 7.88 writes the whole URL anew,
 * character by character, which is a twentieth of all that it does for a
 * request. */
static CURLcode set_url(CURL *easy, struct csms_transfer *transfer)
{
    CURLUcode code = CURLUE_OK;

    transfer->parsed_url = curl_url();
    if (!transfer->parsed_url)
        return CURLE_OUT_OF_MEMORY;
    code = curl_url_set(transfer->parsed_url, CURLUPART_URL, transfer->url.data,
                        CURLU_PATH_AS_IS);
    if (code != CURLUE_OK)
        return code == CURLUE_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY
                                            : CURLE_URL_MALFORMAT;
    SET(CURLOPT_URL, transfer->url.data);
    SET(CURLOPT_CURLU, transfer->parsed_url);
    return CURLE_OK;
}

static CURLcode set_request(CURL *easy, struct csms_transfer *transfer)
{
    struct csms_span body = csms_buf_view(&transfer->request_body);

    SET(CURLOPT_TIMEOUT_MS, transfer->timeout_ms);
    SET(CURLOPT_HTTPHEADER, transfer->headers);
    /* Without a body even a POST is libcurl's GET by another name, with a
     * header that says how empty it is: libcurl uploads an empty body, over
     * HTTP/2 in a frame of its own, to which nginx answers with another. That
     * takes a sixth of a batch's time. */
    SET(CURLOPT_CUSTOMREQUEST, transfer->method);
    if (body.len > 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, body.data);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    }
    if (transfer->fresh) {
        /* libcurl sends again by itself when a reused connection dies, and one
         * over HTTP/2 is reused as soon as another transfer joins it. None
         * does where the TLS settings differ; these mean the same. */
        SET(CURLOPT_FRESH_CONNECT, 1L);
        SET(CURLOPT_FORBID_REUSE, 1L);
        SET(CURLOPT_SSLVERSION,
            (long)(CURL_SSLVERSION_TLSv1_2 | CURL_SSLVERSION_MAX_DEFAULT));
    } else {
        /* Wait for a connection that can be shared, do not open 64. */
        SET(CURLOPT_PIPEWAIT, 1L);
    }
    return CURLE_OK;
}

CURLcode csms_options_set(struct csms_transfer *transfer)
{
    CURLcode code = set_protocol(transfer->easy, transfer->origin);

    if (code == CURLE_OK)
        code = set_connection(transfer->easy, transfer->origin);
    if (code == CURLE_OK)
        code = csms_sockets_set(transfer->easy, &transfer->sent);
    if (code == CURLE_OK)
        code = csms_flood_set(transfer->easy);
    if (code == CURLE_OK)
        code = set_answer(transfer->easy, transfer);
    if (code == CURLE_OK)
        code = set_url(transfer->easy, transfer);
    if (code == CURLE_OK)
        code = set_request(transfer->easy, transfer);
    return code;
}
