/* SPDX-License-Identifier: MIT */
#include "csms_origin.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <openssl/crypto.h>

/* The parts of the URL, as libcurl's parser gives them. */
struct url_parts {
    char *scheme;
    char *host;
    char *port; /* NULL: none */
    char *path;
};

static void free_parts(struct url_parts *parts)
{
    curl_free(parts->scheme);
    curl_free(parts->host);
    curl_free(parts->port);
    curl_free(parts->path);
}

static CURLUcode read_parts(CURLU *url, const char *text,
                            struct url_parts *parts)
{
    CURLUcode code = curl_url_set(url, CURLUPART_URL, text,
                                  CURLU_NON_SUPPORT_SCHEME | CURLU_PATH_AS_IS);

    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_SCHEME, &parts->scheme, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_HOST, &parts->host, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_PATH, &parts->path, 0);
    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_PORT, &parts->port, 0);
    return code == CURLUE_NO_PORT ? CURLUE_OK : code;
}

static int bad_endpoint(struct csms_err *err, const char *text, const char *why)
{
    return csms_err_set(err, CSMS_CONFIG,
                        "endpoint '%.120s' %s; write it as https://host or "
                        "https://host:port",
                        text, why);
}

/* What a Host header holds as it stands: libcurl would send another name in a
 * form of its own (IDNA, escapes), which would not be the one that is signed.
 */
static bool is_plain_host(const char *host)
{
    return host[strspn(host, "abcdefghijklmnopqrstuvwxyz"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]")] ==
           '\0';
}

/* Nothing but scheme, host and port may be in it: the rest is the API's. */
static int parse_url(const char *text, struct url_parts *parts,
                     struct csms_err *err)
{
    CURLU *url = NULL;
    CURLUcode code = CURLUE_OK;

    /* The text may hold a password: it is not repeated then. */
    if (strchr(text, '@')) {
        csms_err_set(err, CSMS_CONFIG,
                     "an endpoint must not hold a user or password; keys come "
                     "from `credentials`");
        return -1;
    }
    url = curl_url();
    code = url ? read_parts(url, text, parts) : CURLUE_OUT_OF_MEMORY;
    curl_url_cleanup(url);
    if (code == CURLUE_OUT_OF_MEMORY) {
        csms_err_memory(err);
        return -1;
    }
    if (code != CURLUE_OK || !parts->scheme || !parts->host || !parts->path) {
        bad_endpoint(err, text, "is not a URL");
        return -1;
    }
    if (!is_plain_host(parts->host))
        return bad_endpoint(err, text,
                            "has a host that is no plain name (an "
                            "international one starts with xn--)");
    /* libcurl 8 does not tell of an empty query. */
    if (strcmp(parts->path, "/") != 0 || strpbrk(text, "?#"))
        return bad_endpoint(err, text, "has a path");
    return 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;

    if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 &&
           (ntohl(v4.s_addr) >> 24) == 127;
}

static bool is_default_port(const struct url_parts *parts)
{
    if (!parts->port)
        return true;
    return strcmp(parts->port,
                  strcmp(parts->scheme, "https") == 0 ? "443" : "80") == 0;
}

static char *join(const char *a, const char *b, const char *c)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *text = OPENSSL_malloc(size);

    if (text)
        (void)snprintf(text, size, "%s%s%s", a, b, c);
    return text;
}

static int set_address(struct csms_origin *origin,
                       const struct csms_origin_config *config,
                       const struct url_parts *parts, struct csms_err *err)
{
    bool plain_port = is_default_port(parts);

    origin->https = strcmp(parts->scheme, "https") == 0;
    if (!origin->https && strcmp(parts->scheme, "http") != 0)
        return bad_endpoint(err, config->url, "is neither https nor http");
    if (!origin->https && !config->allow_http && !is_loopback(parts->host))
        return csms_err_set(err, CSMS_CONFIG,
                            "endpoint '%.120s' is plain http: keys and "
                            "secrets would travel unencrypted; use https "
                            "(a program can allow it: allow_http)",
                            config->url);
    origin->host =
        join(parts->host, plain_port ? "" : ":", plain_port ? "" : parts->port);
    if (!origin->host)
        return csms_err_memory(err);
    origin->base = join(parts->scheme, "://", origin->host);
    if (!origin->base)
        return csms_err_memory(err);
    return 0;
}

/* NULL stays NULL. */
static int copy(char **to, const char *from, struct csms_err *err)
{
    if (!from)
        return 0;
    *to = OPENSSL_strdup(from);
    return *to ? 0 : csms_err_memory(err);
}

/* libcurl takes any scheme, and then finds no proxy there. */
static bool is_proxy_scheme(const char *scheme)
{
    static const char *const known[] = {"http",    "https",  "socks4",
                                        "socks4a", "socks5", "socks5h"};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(scheme, known[i]) == 0)
            return true;
    return false;
}

/* The text is not repeated: it may hold a password. */
static int check_proxy(const char *proxy, struct csms_err *err)
{
    CURLU *url = NULL;
    char *scheme = NULL;
    CURLUcode code = CURLUE_OK;
    bool good = false;

    if (!proxy || *proxy == '\0')
        return 0;
    url = curl_url();
    if (!url)
        return csms_err_memory(err);
    code = curl_url_set(url, CURLUPART_URL, proxy,
                        CURLU_DEFAULT_SCHEME | CURLU_NON_SUPPORT_SCHEME);
    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
    good = code == CURLUE_OK && is_proxy_scheme(scheme);
    curl_free(scheme);
    curl_url_cleanup(url);
    if (code == CURLUE_OUT_OF_MEMORY)
        return csms_err_memory(err);
    if (good)
        return 0;
    return csms_err_set(err, CSMS_CONFIG,
                        "proxy is no URL of a proxy; write it as "
                        "http://host:port, or with https, socks4, socks4a, "
                        "socks5 or socks5h");
}

static int set_options(struct csms_origin *origin,
                       const struct csms_origin_config *config,
                       const struct url_parts *parts, struct csms_err *err)
{
    bool direct = config->no_proxy || is_loopback(parts->host);

    origin->connect_timeout_ms = csms_milliseconds(config->connect_timeout);
    origin->max_response = config->max_response;
    origin->http1 = config->http1;
    origin->signing = CSMS_SDK_HMAC_SHA256;
    if (config->signing &&
        csms_algorithm_parse(config->signing, &origin->signing))
        return csms_err_set(err, CSMS_CONFIG,
                            "signing '%.40s' is unknown; use "
                            "SDK-HMAC-SHA256, SDK-HMAC-SM3 or V11-HMAC-SHA256",
                            config->signing);
    if (origin->signing == CSMS_V11_HMAC_SHA256 &&
        (!config->region || !config->service))
        return csms_err_set(err, CSMS_CONFIG,
                            "signing V11-HMAC-SHA256 needs `region` and "
                            "`signing_service` too");
    if (check_proxy(config->proxy, err))
        return -1;
    if (copy(&origin->ca_file, config->ca_file, err) ||
        copy(&origin->proxy, direct ? "" : config->proxy, err) ||
        copy(&origin->region, config->region, err) ||
        copy(&origin->service, config->service, err) ||
        copy(&origin->user_agent, config->user_agent, err))
        return -1;
    return 0;
}

struct csms_origin *csms_origin_new(const struct csms_origin_config *config,
                                    struct csms_err *err)
{
    struct csms_origin *origin = OPENSSL_zalloc(sizeof *origin);
    struct url_parts parts = {NULL, NULL, NULL, NULL};

    if (!origin) {
        csms_err_memory(err);
        return NULL;
    }
    atomic_init(&origin->refs, 1);
    if (parse_url(config->url, &parts, err) ||
        set_address(origin, config, &parts, err) ||
        set_options(origin, config, &parts, err)) {
        csms_origin_unref(origin);
        origin = NULL;
    }
    free_parts(&parts);
    return origin;
}

struct csms_origin *csms_origin_ref(struct csms_origin *origin)
{
    atomic_fetch_add(&origin->refs, 1);
    return origin;
}

static void wipe(char *text)
{
    if (text)
        OPENSSL_clear_free(text, strlen(text));
}

void csms_origin_unref(struct csms_origin *origin)
{
    if (!origin || atomic_fetch_sub(&origin->refs, 1) > 1)
        return;
    OPENSSL_free(origin->base);
    OPENSSL_free(origin->host);
    OPENSSL_free(origin->ca_file);
    wipe(origin->proxy); /* may hold a password */
    OPENSSL_free(origin->region);
    OPENSSL_free(origin->service);
    OPENSSL_free(origin->user_agent);
    OPENSSL_free(origin);
}

long csms_milliseconds(double seconds)
{
    double milliseconds = ceil(seconds * 1000);

    if (!(milliseconds >= 1))
        return 1;
    /* libcurl refuses more than INT_MAX in some of its timeouts. */
    return milliseconds < INT_MAX ? (long)milliseconds : INT_MAX;
}
