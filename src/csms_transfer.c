/* SPDX-License-Identifier: MIT */
#include "csms_transfer.h"

#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "csms_headers.h"
#include "csms_options.h"

/* A newer libcurl may run than the one that this is built for. */
#if LIBCURL_VERSION_NUM < 0x080600
#define CURLE_TOO_LARGE ((CURLcode)100)
#endif

#define MAX_URL (8 * 1024)
#define MAX_HEAD (256 * 1024) /* all header lines of an answer */
#define MAX_BODY (16 * 1024 * 1024)
#define USUAL_HEAD 1000 /* an answer's; what is longer grows as it comes */
#define USUAL_BODY 4000

/* ---- life ------------------------------------------------------------- */

static int set_method(struct csms_transfer *transfer, const char *method,
                      struct csms_err *err)
{
    size_t len = strlen(method);

    if (len >= sizeof transfer->method)
        return csms_err_set(err, CSMS_ARGUMENT,
                            "a method has at most %d letters",
                            CSMS_MAX_METHOD - 1);
    memcpy(transfer->method, method, len + 1);
    return 0;
}

struct csms_transfer *csms_transfer_new(struct csms_origin *origin,
                                        const struct csms_request *request,
                                        struct csms_cred *cred,
                                        struct csms_err *err)
{
    struct csms_transfer *transfer = OPENSSL_zalloc(sizeof *transfer);

    if (!transfer) {
        csms_err_memory(err);
        return NULL;
    }
    atomic_init(&transfer->refs, 1);
    atomic_init(&transfer->cancelled, false);
    atomic_init(&transfer->done, false);
    transfer->origin = csms_origin_ref(origin);
    transfer->timeout_ms = csms_milliseconds(request->timeout);
    csms_buf_init(&transfer->head, MAX_HEAD);
    csms_buf_init(&transfer->body, origin->max_response);
    csms_buf_init(&transfer->request_body, MAX_BODY);
    csms_buf_init(&transfer->url, MAX_URL);
    /* By the thread that will free them: see csms_transfer_prepare(). */
    csms_buf_reserve(&transfer->head, USUAL_HEAD);
    csms_buf_reserve(&transfer->body, USUAL_BODY);
    csms_buf_span(&transfer->request_body, request->body);
    csms_buf_text(&transfer->url, origin->base);
    csms_buf_span(&transfer->url, request->target);
    transfer->fresh = request->fresh;
    if (set_method(transfer, request->method, err) ||
        csms_buf_check(&transfer->head, "the answer's head", err) ||
        csms_buf_check(&transfer->body, "the answer", err) ||
        csms_buf_check(&transfer->url, "the URL", err) ||
        csms_buf_check(&transfer->request_body, "the request's body", err) ||
        csms_headers_build(&transfer->header_lines, origin, request, cred,
                           err)) {
        csms_transfer_free(transfer);
        return NULL;
    }
    return transfer;
}

void csms_transfer_free(struct csms_transfer *transfer)
{
    if (!transfer)
        return;
    csms_headers_free(transfer->headers);
    csms_buf_free(&transfer->header_lines);
    csms_buf_free(&transfer->url);
    csms_buf_free(&transfer->request_body);
    csms_buf_free(&transfer->head);
    csms_buf_free(&transfer->body);
    csms_origin_unref(transfer->origin);
    OPENSSL_free(transfer);
}

void csms_transfer_forget(struct csms_transfer *transfer)
{
    transfer->easy = NULL;
    transfer->parsed_url = NULL;
    transfer->headers = NULL;
    csms_buf_init(&transfer->request_body, 0);
    csms_buf_init(&transfer->head, 0);
    csms_buf_init(&transfer->body, 0);
    transfer->answer = 0;
}

/* ---- what goes wrong -------------------------------------------------- */

static void fail_timeout(struct csms_transfer *transfer)
{
    csms_err_set(
        &transfer->err, CSMS_TIMEOUT,
        "%s %s within the time allowed; is it reachable, or is "
        "%s too short?",
        transfer->sent ? "no complete answer from" : "no connection to",
        transfer->origin->base,
        transfer->sent ? "`timeout`" : "`connect_timeout` or `timeout`");
    transfer->err.retryable = true;
}

static void fail_size(struct csms_transfer *transfer)
{
    if (transfer->body.failure == CSMS_BUF_FULL)
        csms_err_set(&transfer->err, CSMS_PROTOCOL,
                     "the answer is over max_response (%zu bytes)",
                     transfer->origin->max_response);
    else if (transfer->head.failure == CSMS_BUF_FULL)
        csms_err_set(&transfer->err, CSMS_PROTOCOL,
                     "the answer's headers are over %d bytes", MAX_HEAD);
    else
        csms_err_memory(&transfer->err);
}

static void fail_network(struct csms_transfer *transfer)
{
    csms_err_set(&transfer->err, CSMS_NETWORK, "%s %s",
                 transfer->sent ? "no complete answer from"
                                : "no connection to",
                 transfer->origin->base);
    transfer->err.retryable = true;
}

/* libcurl has limits of its own, for a line and for all of them; what goes out
 * is far below (csms_headers.c). */
static void fail_limit(struct csms_transfer *transfer, const char *doubt)
{
    csms_err_set(&transfer->err, CSMS_PROTOCOL,
                 "the answer's headers are longer than libcurl takes%s", doubt);
}

static void fail(struct csms_transfer *transfer, CURLcode code)
{
    const char *host = transfer->origin->host;
    struct csms_err *err = &transfer->err;

    transfer->failed = true;
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        fail_timeout(transfer);
        break;
    case CURLE_WRITE_ERROR:
        fail_size(transfer);
        break;
    case CURLE_TOO_LARGE:
        if (transfer->sent)
            fail_limit(transfer, "");
        else
            fail_network(transfer); /* a proxy's headers */
        break;
    case CURLE_OUT_OF_MEMORY:
        /* The word of libcurl before 8.6 for its limit, too. */
        if (transfer->sent && !transfer->head_whole)
            fail_limit(transfer, ", or memory is short");
        else
            csms_err_memory(err);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        csms_err_set(err, CSMS_TLS,
                     "the certificate of %s does not verify; if it is signed "
                     "by a private CA, name that CA in `ca_file`",
                     host);
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_USE_SSL_FAILED:
        csms_err_set(err, CSMS_TLS, "the TLS handshake with %s failed", host);
        err->retryable = true;
        break;
    case CURLE_SSL_CACERT_BADFILE:
        csms_err_set(err, CSMS_CONFIG,
                     "the CA file cannot be used: %.150s; check `ca_file`",
                     transfer->origin->ca_file ? transfer->origin->ca_file
                                               : "the system's");
        break;
    case CURLE_URL_MALFORMAT:
        csms_err_set(err, CSMS_CONFIG, "libcurl refuses to speak to %s",
                     transfer->origin->base);
        break;
    default:
        fail_network(transfer);
        break;
    }
    /* libcurl repeats a proxy's URL, whose password is nobody's business. */
    if (transfer->curl_error[0] == '\0' || strchr(transfer->curl_error, '@'))
        csms_err_cause(err, curl_easy_strerror(code));
    else
        csms_err_cause(err, transfer->curl_error);
}

/* ---- libcurl's part of it, by whoever drives the engine ----------------- */

/* Tokens and signatures are wiped as soon as libcurl has no more use for them;
 * the buffers are freed where they were made. */
static void release_easy(struct csms_transfer *transfer)
{
    curl_easy_cleanup(transfer->easy);
    transfer->easy = NULL;
    curl_url_cleanup(transfer->parsed_url);
    transfer->parsed_url = NULL;
    csms_headers_free(transfer->headers);
    transfer->headers = NULL;
    csms_buf_reset(&transfer->header_lines);
    csms_buf_free(&transfer->request_body);
}

static CURLcode set_up_easy(struct csms_transfer *transfer)
{
    transfer->easy = curl_easy_init();
    if (!transfer->easy ||
        csms_headers_list(&transfer->header_lines, &transfer->headers))
        return CURLE_OUT_OF_MEMORY;
    return csms_options_set(transfer);
}

int csms_transfer_prepare(struct csms_transfer *transfer)
{
    struct csms_err *err = &transfer->err;
    CURLcode code = set_up_easy(transfer);

    if (code == CURLE_OK)
        return 0;
    if (code == CURLE_OUT_OF_MEMORY || code == CURLE_URL_MALFORMAT) {
        fail(transfer, code);
    } else {
        transfer->failed = true;
        csms_err_set(err, CSMS_CONFIG,
                     "this libcurl lacks something that csms needs (HTTPS, "
                     "HTTP/2, 7.84 or newer)");
        csms_err_cause(err, curl_easy_strerror(code));
    }
    release_easy(transfer);
    return -1;
}

void csms_transfer_finish(struct csms_transfer *transfer, CURLcode code)
{
    if (curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE,
                          &transfer->status) != CURLE_OK &&
        code == CURLE_OK)
        code = CURLE_OUT_OF_MEMORY;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_LOCAL_PORT,
                            &transfer->port);
    /* libcurl takes an end within the headers for the end of them. */
    if (code == CURLE_OK && !transfer->head_whole)
        code = CURLE_PARTIAL_FILE;
    if (code != CURLE_OK)
        fail(transfer, code);
    release_easy(transfer);
}

void csms_transfer_abort(struct csms_transfer *transfer)
{
    transfer->failed = true;
    transfer->sent = true;
    csms_err_set(&transfer->err, CSMS_CANCELLED, "the call was cancelled");
    release_easy(transfer);
}

/* ---- what came back --------------------------------------------------- */

uint64_t csms_transfer_id(const struct csms_transfer *transfer)
{
    return transfer->id;
}

bool csms_transfer_done(const struct csms_transfer *transfer)
{
    return atomic_load(&transfer->done);
}

const struct csms_err *csms_transfer_error(const struct csms_transfer *transfer)
{
    return transfer->failed ? &transfer->err : NULL;
}

long csms_transfer_status(const struct csms_transfer *transfer)
{
    return transfer->status;
}

struct csms_span csms_transfer_body(const struct csms_transfer *transfer)
{
    return csms_buf_view(&transfer->body);
}

/* "Name: value\r\n" at `line`: the value where the name is that one. */
static bool match_line(struct csms_span line, const char *name,
                       struct csms_span *value)
{
    size_t len = strlen(name);

    if (line.len <= len || line.data[len] != ':' ||
        strncasecmp(line.data, name, len) != 0)
        return false;
    *value = csms_span_trim(
        (struct csms_span){line.data + len + 1, line.len - len - 1});
    return true;
}

bool csms_transfer_header(const struct csms_transfer *transfer,
                          const char *name, struct csms_span *value)
{
    struct csms_span rest = csms_buf_view(&transfer->head);

    rest.data += transfer->answer;
    rest.len -= transfer->answer;
    while (rest.len > 0) {
        const char *end = memchr(rest.data, '\n', rest.len);
        size_t len = end ? (size_t)(end - rest.data) + 1 : rest.len;

        if (match_line((struct csms_span){rest.data, len}, name, value))
            return true;
        rest.data += len;
        rest.len -= len;
    }
    return false;
}

bool csms_transfer_sent(const struct csms_transfer *transfer)
{
    return transfer->sent;
}

long csms_transfer_port(const struct csms_transfer *transfer)
{
    return transfer->port;
}
