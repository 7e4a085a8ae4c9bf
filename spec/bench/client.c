/* SPDX-License-Identifier: MIT
 *
 * What a C program needs for the same work: backups over libcurl's multi
 * interface, and nothing of the library but its signatures.
 *
 *     client bare|dressed 2|1.1 CONCURRENCY COUNT
 *
 * bare: fixed headers, bodies thrown away. dressed: each request signed with
 * csms_sign(), each body decoded by lua-cjson and its blob kept. Prints the
 * seconds and the CPU seconds that COUNT backups took on warm connections.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <sys/resource.h>

#include "csms_sign.h"

#define MAX_SLOTS 256
#define WARM 128

struct slot {
    CURL *easy;
    struct curl_slist *headers;
    struct csms_buf body;
    char target[256];
    char error[CURL_ERROR_SIZE];
    int index; /* of the secret */
};

static bool dressed;
static long http_version;
static const char *endpoint;
static const char *project;
static const char *ak;
static const char *sk;
static struct csms_signer signer;
static lua_State *lua;
static CURLM *multi;
static struct slot slots[MAX_SLOTS];

static void check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "client: %s\n", what);
    exit(1);
}

static size_t throw_away(char *data, size_t size, size_t count, void *user)
{
    (void)data;
    (void)user;
    return size * count;
}

static size_t keep(char *data, size_t size, size_t count, void *user)
{
    return csms_buf_append(user, data, size * count) ? size * count : 0;
}

static void add_header(struct slot *slot, const char *name, const char *value)
{
    char line[1024];
    struct curl_slist *list = NULL;

    (void)snprintf(line, sizeof line, "%s: %s", name, value);
    list = curl_slist_append(slot->headers, line);
    check(list != NULL, "no memory");
    slot->headers = list;
}

static void format_date(char *out, size_t size)
{
    time_t now = time(NULL);
    struct tm utc;

    check(gmtime_r(&now, &utc) != NULL, "no time");
    (void)strftime(out, size, "%Y%m%dT%H%M%SZ", &utc);
}

static void make_headers(struct slot *slot, const char *date,
                         const char *authorization)
{
    curl_slist_free_all(slot->headers);
    slot->headers = NULL;
    add_header(slot, "Content-Type", "application/json");
    add_header(slot, "Content-Length", "0");
    add_header(slot, "X-Sdk-Date", date);
    add_header(slot, "X-Project-Id", project);
    add_header(slot, "Authorization", authorization);
    check(curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers) ==
              CURLE_OK,
          "headers");
}

static struct csms_header header(const char *name, const char *value)
{
    return (struct csms_header){csms_span_of(name), csms_span_of(value)};
}

static void sign(struct slot *slot)
{
    struct csms_sign_request request;
    struct csms_buf authorization;
    struct csms_err err;
    char date[CSMS_SIGN_DATE_LEN + 1];

    format_date(date, sizeof date);
    memset(&request, 0, sizeof request);
    request.method = csms_span_of("POST");
    request.path = csms_span_of(slot->target);
    request.date = date;
    request.headers[0] = header("Content-Type", "application/json");
    request.headers[1] = header("Host", strstr(endpoint, "//") + 2);
    request.headers[2] = header("X-Sdk-Date", date);
    request.headers[3] = header("X-Project-Id", project);
    request.header_count = 4;
    csms_buf_init(&authorization, CSMS_SIGN_MAX_TEXT);
    check(csms_sign(&signer, ak, sk, &request, &authorization, &err) == 0,
          "the signature");
    make_headers(slot, date, csms_buf_view(&authorization).data);
    csms_buf_free(&authorization);
}

/* blobs[name] = cjson.decode(body).secret_blob */
static void decode(struct slot *slot)
{
    struct csms_span body = csms_buf_view(&slot->body);
    char name[32];

    (void)snprintf(name, sizeof name, "secret-%04d", slot->index);
    lua_getfield(lua, LUA_REGISTRYINDEX, "decode");
    lua_pushlstring(lua, body.data, body.len);
    check(lua_pcall(lua, 1, 1, 0) == LUA_OK && lua_istable(lua, -1), "no JSON");
    lua_getfield(lua, LUA_REGISTRYINDEX, "blobs");
    lua_getfield(lua, -2, "secret_blob");
    check(lua_type(lua, -1) == LUA_TSTRING, "no blob");
    lua_setfield(lua, -2, name);
    lua_settop(lua, 0);
}

static void begin(struct slot *slot, int index)
{
    char url[512];

    slot->index = index;
    (void)snprintf(slot->target, sizeof slot->target,
                   "/v1/%s/secrets/secret-%04d/backup", project, index);
    (void)snprintf(url, sizeof url, "%s%s", endpoint, slot->target);
    check(curl_easy_setopt(slot->easy, CURLOPT_URL, url) == CURLE_OK, "URL");
    if (dressed) {
        sign(slot);
        csms_buf_reset(&slot->body);
    }
    check(curl_multi_add_handle(multi, slot->easy) == CURLM_OK, "add");
}

static void end(struct slot *slot, CURLcode code)
{
    long status = 0;

    check(code == CURLE_OK, slot->error);
    (void)curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    check(status == 200, "not 200");
    (void)curl_multi_remove_handle(multi, slot->easy);
    if (dressed)
        decode(slot);
}

static void run(int concurrency, int count)
{
    int begun = 0;
    int ended = 0;
    int running = 0;
    int left = 0;

    while (begun < concurrency && begun < count) {
        begin(&slots[begun], begun);
        begun++;
    }
    while (ended < count) {
        CURLMsg *msg = NULL;

        check(curl_multi_perform(multi, &running) == CURLM_OK, "perform");
        while ((msg = curl_multi_info_read(multi, &left))) {
            char *user = NULL;
            CURLcode code = msg->data.result;

            (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &user);
            end((struct slot *)(void *)user, code);
            ended++;
            if (begun < count)
                begin((struct slot *)(void *)user, begun++);
        }
        if (ended < count)
            (void)curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
}

static void set_up_slot(struct slot *slot, const char *ca_file)
{
    CURL *easy = curl_easy_init();

    check(easy != NULL, "no memory");
    slot->easy = easy;
    csms_buf_init(&slot->body, 1024 * 1024);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->error);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, http_version);
    (void)curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
    /* As the library does (csms_options.c): no upload of nothing. */
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "POST");
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION,
                           dressed ? keep : throw_away);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, &slot->body);
    if (!dressed)
        make_headers(
            slot, "20261121T160000Z",
            "SDK-HMAC-SHA256 Access=AKIDBENCHMARK0123456, SignedHeaders="
            "content-type;host;x-project-id;x-sdk-date, Signature="
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
}

static void set_up_lua(void)
{
    lua = luaL_newstate();
    check(lua != NULL, "no memory");
    luaL_openlibs(lua);
    lua_newtable(lua);
    lua_setfield(lua, LUA_REGISTRYINDEX, "blobs");
    check(luaL_dostring(lua, "return require('cjson').decode") == LUA_OK,
          "no cjson");
    lua_setfield(lua, LUA_REGISTRYINDEX, "decode");
}

static double seconds(clockid_t clock)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int concurrency = 0;
    int count = 0;
    double wall = 0;
    double cpu = 0;
    struct csms_err err;

    check(argc == 5, "client bare|dressed 2|1.1 CONCURRENCY COUNT");
    dressed = strcmp(argv[1], "dressed") == 0;
    http_version = strcmp(argv[2], "2") == 0 ? CURL_HTTP_VERSION_2TLS
                                             : CURL_HTTP_VERSION_1_1;
    concurrency = atoi(argv[3]);
    count = atoi(argv[4]);
    check(concurrency > 0 && concurrency <= MAX_SLOTS, "concurrency");
    endpoint = getenv("CSMS_ENDPOINT");
    project = getenv("HUAWEICLOUD_SDK_PROJECT_ID");
    ak = getenv("HUAWEICLOUD_SDK_AK");
    sk = getenv("HUAWEICLOUD_SDK_SK");
    check(endpoint && project && ak && sk, "the environment");
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    check(multi != NULL, "no memory");
    (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)MAX_SLOTS);
    check(csms_signer_init(&signer, CSMS_SDK_HMAC_SHA256, &err) == 0,
          "the signer");
    set_up_lua();
    for (int i = 0; i < concurrency; i++)
        set_up_slot(&slots[i], getenv("CSMS_CA_FILE"));
    run(concurrency, WARM);
    wall = seconds(CLOCK_MONOTONIC);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    run(concurrency, count);
    printf("%.6f %.6f\n", seconds(CLOCK_MONOTONIC) - wall,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}
