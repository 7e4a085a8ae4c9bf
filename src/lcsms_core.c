/* SPDX-License-Identifier: MIT
 *
 * csms.core: the C core as Lua sees it, and what all bindings share.
 */
#include "lcsms.h"

#include <langinfo.h>
#include <string.h>
#include <time.h>

#include <curl/curl.h>
#include <openssl/rand.h>

#include "csms_encode.h"
#include "csms_host.h"
#include "csms_version.h"

#define BUFFER "csms.buffer"

int lcsms_fail(lua_State *L, const struct csms_err *err)
{
    lua_pushnil(L);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, csms_kind_name(err->kind));
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, err->message);
    lua_setfield(L, -2, "message");
    lua_pushboolean(L, err->retryable);
    lua_setfield(L, -2, "retryable");
    if (err->code) {
        lua_pushstring(L, err->code);
        lua_setfield(L, -2, "code");
    }
    if (err->cause[0] != '\0') {
        lua_pushstring(L, err->cause);
        lua_setfield(L, -2, "cause");
    }
    return 2;
}

int lcsms_done(lua_State *L, int failed, const struct csms_err *err)
{
    if (failed)
        return lcsms_fail(L, err);
    lua_pushboolean(L, 1);
    return 1;
}

static int buffer_gc(lua_State *L)
{
    csms_buf_free(luaL_checkudata(L, 1, BUFFER));
    return 0;
}

void *lcsms_new_userdata(lua_State *L, size_t size, const char *type)
{
    void *userdata = lua_newuserdata(L, size);

    memset(userdata, 0, size);
    luaL_getmetatable(L, type);
    lua_setmetatable(L, -2);
    return userdata;
}

struct csms_buf *lcsms_new_buf(lua_State *L, size_t cap)
{
    struct csms_buf *buf = lcsms_new_userdata(L, sizeof *buf, BUFFER);

    csms_buf_init(buf, cap);
    return buf;
}

void lcsms_push_span(lua_State *L, struct csms_span span)
{
    lua_pushlstring(L, span.data, span.len);
}

struct csms_span lcsms_check_span(lua_State *L, int arg)
{
    struct csms_span span = {NULL, 0};

    span.data = luaL_checklstring(L, arg, &span.len);
    return span;
}

struct csms_span lcsms_field_span(lua_State *L, int arg, const char *name)
{
    struct csms_span span = {"", 0};

    lua_getfield(L, arg, name);
    if (lua_type(L, -1) == LUA_TSTRING)
        span.data = lua_tolstring(L, -1, &span.len);
    else if (!lua_isnil(L, -1))
        luaL_error(L, "field '%s' must be a string", name);
    lua_pop(L, 1); /* the table keeps it */
    return span;
}

const char *lcsms_field_string(lua_State *L, int arg, const char *name)
{
    const char *text = NULL;
    size_t len = 0;

    lua_getfield(L, arg, name);
    if (lua_type(L, -1) == LUA_TSTRING)
        text = lua_tolstring(L, -1, &len);
    else if (!lua_isnil(L, -1))
        luaL_error(L, "field '%s' must be a string", name);
    if (text && strlen(text) != len)
        luaL_error(L, "field '%s' holds a NUL", name);
    lua_pop(L, 1);
    return text;
}

double lcsms_field_number(lua_State *L, int arg, const char *name,
                          double otherwise)
{
    double number = otherwise;

    lua_getfield(L, arg, name);
    if (lua_type(L, -1) == LUA_TNUMBER)
        number = lua_tonumber(L, -1);
    else if (!lua_isnil(L, -1))
        luaL_error(L, "field '%s' must be a number", name);
    lua_pop(L, 1);
    return number;
}

bool lcsms_field_bool(lua_State *L, int arg, const char *name)
{
    bool value = false;

    lua_getfield(L, arg, name);
    value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static struct csms_span header_text(lua_State *L, int list, size_t index)
{
    struct csms_span span = {NULL, 0};

    lua_rawgeti(L, list, (int)index);
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "headers[%d] must be a string", (int)index);
    span.data = lua_tolstring(L, -1, &span.len);
    lua_pop(L, 1);
    return span;
}

size_t lcsms_field_headers(lua_State *L, int arg, struct csms_header *out,
                           size_t max)
{
    size_t count = 0;
    int list = 0;

    lua_getfield(L, arg, "headers");
    list = lua_gettop(L);
    if (lua_istable(L, list))
        count = lua_rawlen(L, list) / 2;
    if (lua_istable(L, list) && lua_rawlen(L, list) % 2 != 0)
        luaL_error(L, "headers must be pairs of name and value");
    if (count > max)
        luaL_error(L, "at most %d headers", (int)max);
    for (size_t i = 0; i < count; i++) {
        out[i].name = header_text(L, list, 2 * i + 1);
        out[i].value = header_text(L, list, 2 * i + 2);
    }
    lua_pop(L, 1);
    return count;
}

void lcsms_new_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_getfield(L, -1, "__gc");
    lua_setfield(L, -2, "__close");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
}

static double read_clock(clockid_t clock)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* can_yield() -> false within a callback of a C function, such as gsub's. nginx
 * takes coroutine.isyieldable away. */
static int lcsms_can_yield(lua_State *L)
{
    lua_pushboolean(L, lua_isyieldable(L));
    return 1;
}

/* now() -> seconds of a clock that never jumps */
static int lcsms_now(lua_State *L)
{
    lua_pushnumber(L, read_clock(CLOCK_MONOTONIC));
    return 1;
}

/* time() -> seconds since 1970, with a fraction */
static int lcsms_time(lua_State *L)
{
    lua_pushnumber(L, read_clock(CLOCK_REALTIME));
    return 1;
}

/* random() -> a number from 0 to below 1. LuaJIT's own generator starts every
 * process alike, so that a fleet would wait in step. */
static int lcsms_random(lua_State *L)
{
    unsigned char bytes[4];
    double number = 0;

    if (RAND_bytes(bytes, (int)sizeof bytes) != 1)
        return luaL_error(L, "OpenSSL gives no random numbers");
    for (size_t i = 0; i < sizeof bytes; i++)
        number = (number + bytes[i]) / 256;
    lua_pushnumber(L, number);
    return 1;
}

/* encode(text) -> the text with RFC 3986's percent-encoding */
static int lcsms_encode(lua_State *L)
{
    struct csms_span text = lcsms_check_span(L, 1);
    struct csms_buf *out = NULL;
    struct csms_err err;

    lua_settop(L, 1);
    if (csms_encode_is_unreserved(text))
        return 1;
    out = lcsms_new_buf(L, 3 * text.len);
    csms_encode_percent(out, text);
    if (csms_buf_check(out, "a part of the URL", &err))
        return luaL_error(L, "%s", err.message);
    lcsms_push_span(L, csms_buf_view(out));
    return 1;
}

static const luaL_Reg buffer_methods[] = {
    {"__gc", buffer_gc},
    {NULL, NULL},
};

/* curl_version() -> text. libcurl's libraries read their configuration files
 * for it, so it is not asked for at each start. */
static int lcsms_curl_version(lua_State *L)
{
    lua_pushstring(L, curl_version());
    return 1;
}

/* has_plain_point() -> whether the locale's decimal point is one byte */
static int lcsms_has_plain_point(lua_State *L)
{
    lua_pushboolean(L, strlen(nl_langinfo(RADIXCHAR)) == 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"curl_version", lcsms_curl_version},
    {"has_plain_point", lcsms_has_plain_point},
    {"encode", lcsms_encode},
    {"can_yield", lcsms_can_yield},
    {"now", lcsms_now},
    {"time", lcsms_time},
    {"random", lcsms_random},
    {NULL, NULL},
};

__attribute__((visibility("default"))) int luaopen_csms_core(lua_State *L);

int luaopen_csms_core(lua_State *L)
{
    struct csms_err err;

    if (csms_host_check(&err))
        return luaL_error(L, "csms: %s", err.message);
    lcsms_new_type(L, BUFFER, buffer_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lcsms_open_sign(L);
    lcsms_open_cred(L);
    lcsms_open_http(L);
    lcsms_open_file(L);
    lcsms_open_process(L);
    lcsms_open_crypto(L);
    lua_pushstring(L, CSMS_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
