/* SPDX-License-Identifier: MIT
 *
 * Origins, channels and transfers in Lua.
 */
#include "lcsms.h"

#include "csms_http.h"
#include "csms_origin.h"

#define ORIGIN "csms.origin"
#define CHANNEL "csms.channel"
#define TRANSFER "csms.transfer"
#define MAX_WHOLE 9e18 /* fits in what C counts with */
#define LONGEST_STEP 1e9

struct origin {
    struct csms_origin *origin;
};

struct channel {
    struct csms_channel *channel; /* NULL once closed */
};

struct transfer {
    struct csms_transfer *transfer; /* NULL once closed */
};

/* A field that is a whole number in C, which converts no other one. */
static uint64_t field_whole(lua_State *L, int arg, const char *name,
                            double otherwise)
{
    double number = lcsms_field_number(L, arg, name, otherwise);

    if (!(number >= 0 && number <= MAX_WHOLE))
        luaL_error(L, "field '%s' must be from 0 to 9e18", name);
    return (uint64_t)number;
}

/* ---- origin ----------------------------------------------------------- */

/* origin{url=, ca_file=, ...} -> origin | nil, err; the fields are those of
 * struct csms_origin_config. */
static int origin_new(lua_State *L)
{
    struct csms_origin_config config;
    struct origin *self = NULL;
    struct csms_err err;

    luaL_checktype(L, 1, LUA_TTABLE);
    config.url = lcsms_field_string(L, 1, "url");
    config.ca_file = lcsms_field_string(L, 1, "ca_file");
    config.proxy = lcsms_field_string(L, 1, "proxy");
    config.signing = lcsms_field_string(L, 1, "signing");
    config.region = lcsms_field_string(L, 1, "region");
    config.service = lcsms_field_string(L, 1, "service");
    config.user_agent = lcsms_field_string(L, 1, "user_agent");
    config.connect_timeout = lcsms_field_number(L, 1, "connect_timeout", 5);
    config.max_response =
        (size_t)field_whole(L, 1, "max_response", 16.0 * 1024 * 1024);
    config.http1 = lcsms_field_bool(L, 1, "http1");
    config.allow_http = lcsms_field_bool(L, 1, "allow_http");
    config.no_proxy = lcsms_field_bool(L, 1, "no_proxy");
    luaL_argcheck(L, config.url, 1, "field 'url' expected");
    self = lcsms_new_userdata(L, sizeof *self, ORIGIN);
    self->origin = csms_origin_new(&config, &err);
    return self->origin ? 1 : lcsms_fail(L, &err);
}

static int origin_gc(lua_State *L)
{
    struct origin *self = luaL_checkudata(L, 1, ORIGIN);

    csms_origin_unref(self->origin);
    self->origin = NULL;
    return 0;
}

/* tostring(origin) -> "https://host:port" */
static int origin_tostring(lua_State *L)
{
    struct origin *self = luaL_checkudata(L, 1, ORIGIN);

    lua_pushstring(L, self->origin ? self->origin->base : "closed origin");
    return 1;
}

static const luaL_Reg origin_methods[] = {
    {"__gc", origin_gc},
    {"__tostring", origin_tostring},
    {NULL, NULL},
};

/* ---- channel ---------------------------------------------------------- */

static struct channel *check_channel(lua_State *L)
{
    struct channel *self = luaL_checkudata(L, 1, CHANNEL);

    luaL_argcheck(L, self->channel, 1, "the channel is closed");
    return self;
}

/* channel() -> channel | nil, err */
static int channel_new(lua_State *L)
{
    struct channel *self = lcsms_new_userdata(L, sizeof *self, CHANNEL);
    struct csms_err err;

    self->channel = csms_channel_new(&err);
    return self->channel ? 1 : lcsms_fail(L, &err);
}

/* channel:submit(origin, credential | nil, request) -> transfer | nil, err;
 * the request's fields are those of struct csms_request. */
static int channel_submit(lua_State *L)
{
    struct csms_header headers[CSMS_SIGN_MAX_HEADERS];
    struct csms_request request;
    struct transfer *transfer = NULL;
    struct channel *self = NULL;
    struct origin *origin = NULL;
    struct csms_cred *cred = NULL;
    struct csms_err err;

    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    transfer = lcsms_new_userdata(L, sizeof *transfer, TRANSFER);
    request.method = lcsms_field_string(L, 4, "method");
    request.target = lcsms_field_span(L, 4, "target");
    request.body = lcsms_field_span(L, 4, "body");
    request.project = lcsms_field_string(L, 4, "project");
    request.timeout = lcsms_field_number(L, 4, "timeout", 30);
    request.time = (int64_t)field_whole(L, 4, "time", 0);
    request.fresh = lcsms_field_bool(L, 4, "fresh");
    request.headers = headers;
    request.header_count =
        lcsms_field_headers(L, 4, headers, CSMS_SIGN_MAX_HEADERS);
    luaL_argcheck(L, request.method, 4, "field 'method' expected");
    self = check_channel(L);
    origin = luaL_checkudata(L, 2, ORIGIN);
    luaL_argcheck(L, origin->origin, 2, "the origin is closed");
    if (lcsms_opt_cred(L, 3, &cred, &err))
        return lcsms_fail(L, &err);
    transfer->transfer =
        csms_http_submit(self->channel, origin->origin, &request, cred, &err);
    return transfer->transfer ? 1 : lcsms_fail(L, &err);
}

/* channel:drain() -> id of the next transfer that ended, or nil */
static int channel_drain(lua_State *L)
{
    struct channel *self = check_channel(L);
    struct csms_transfer *transfer = csms_http_drain(self->channel);

    if (!transfer)
        return 0;
    lua_pushinteger(L, (lua_Integer)csms_transfer_id(transfer));
    csms_transfer_unref(transfer);
    return 1;
}

/* channel:start() -> true | nil, err: a thread drives the engine from now on */
static int channel_start(lua_State *L)
{
    struct channel *self = check_channel(L);
    struct csms_err err;

    return lcsms_done(L, csms_http_start(self->channel, &err), &err);
}

/* channel:stop(): this channel needs the thread no longer; may be called again
 */
static int channel_stop(lua_State *L)
{
    csms_http_stop(check_channel(L)->channel);
    return 0;
}

/* channel:in_flight() -> number of transfers that have not ended */
static int channel_in_flight(lua_State *L)
{
    struct channel *self = check_channel(L);

    lua_pushinteger(L, (lua_Integer)csms_channel_in_flight(self->channel));
    return 1;
}

/* channel:fd() -> descriptor to poll for reading | nil, err */
static int channel_fd(lua_State *L)
{
    struct channel *self = check_channel(L);
    struct csms_err err;
    int fd = csms_channel_fd(self->channel, &err);

    if (fd < 0)
        return lcsms_fail(L, &err);
    lua_pushinteger(L, fd);
    return 1;
}

/* channel:listen() -> path of a unix socket for one connection | nil, err */
static int channel_listen(lua_State *L)
{
    struct channel *self = check_channel(L);
    char path[108];
    struct csms_err err;

    if (csms_channel_listen(self->channel, path, sizeof path, &err))
        return lcsms_fail(L, &err);
    lua_pushstring(L, path);
    return 1;
}

/* channel:accept() -> true | nil, err */
static int channel_accept(lua_State *L)
{
    struct channel *self = check_channel(L);
    struct csms_err err;

    return lcsms_done(L, csms_channel_accept(self->channel, &err), &err);
}

/* channel:detach(): nobody reads the descriptor any more */
static int channel_detach(lua_State *L)
{
    csms_channel_detach(check_channel(L)->channel);
    return 0;
}

/* channel:close(), also __gc and __close; cancels; may be called again */
static int channel_close(lua_State *L)
{
    struct channel *self = luaL_checkudata(L, 1, CHANNEL);

    csms_channel_close(self->channel);
    self->channel = NULL;
    return 0;
}

static const luaL_Reg channel_methods[] = {
    {"submit", channel_submit},       {"drain", channel_drain},
    {"in_flight", channel_in_flight}, {"start", channel_start},
    {"stop", channel_stop},           {"fd", channel_fd},
    {"listen", channel_listen},       {"accept", channel_accept},
    {"detach", channel_detach},       {"close", channel_close},
    {"__gc", channel_close},          {NULL, NULL},
};

/* ---- transfer --------------------------------------------------------- */

static struct csms_transfer *check_transfer(lua_State *L)
{
    struct transfer *self = luaL_checkudata(L, 1, TRANSFER);

    luaL_argcheck(L, self->transfer, 1, "the transfer is closed");
    return self->transfer;
}

static struct csms_transfer *check_done(lua_State *L)
{
    struct csms_transfer *transfer = check_transfer(L);

    luaL_argcheck(L, csms_transfer_done(transfer), 1,
                  "the transfer is not done");
    return transfer;
}

/* transfer:id() -> what channel:drain() will return for it */
static int transfer_id(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)csms_transfer_id(check_transfer(L)));
    return 1;
}

/* transfer:done() -> boolean */
static int transfer_done(lua_State *L)
{
    lua_pushboolean(L, csms_transfer_done(check_transfer(L)));
    return 1;
}

/* transfer:result() -> status, body | nil, err; with err.status where a server
 * did answer, but more than it may */
static int transfer_result(lua_State *L)
{
    struct csms_transfer *transfer = check_done(L);
    const struct csms_err *err = csms_transfer_error(transfer);

    if (err) {
        lcsms_fail(L, err);
        if (err->kind == CSMS_PROTOCOL && csms_transfer_status(transfer) > 0) {
            lua_pushinteger(L, (lua_Integer)csms_transfer_status(transfer));
            lua_setfield(L, -2, "status");
        }
        return 2;
    }
    lua_pushinteger(L, (lua_Integer)csms_transfer_status(transfer));
    lcsms_push_span(L, csms_transfer_body(transfer));
    return 2;
}

/* transfer:header(name) -> value | nil */
static int transfer_header(lua_State *L)
{
    struct csms_transfer *transfer = check_done(L);
    struct csms_span value = {NULL, 0};

    if (!csms_transfer_header(transfer, luaL_checkstring(L, 2), &value))
        return 0;
    lcsms_push_span(L, value);
    return 1;
}

/* transfer:sent() -> whether any of it may have reached the service */
static int transfer_sent(lua_State *L)
{
    lua_pushboolean(L, csms_transfer_sent(check_done(L)));
    return 1;
}

/* transfer:port() -> local port of its connection; 0 without one */
static int transfer_port(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)csms_transfer_port(check_done(L)));
    return 1;
}

/* transfer:cancel(): it will end with kind cancelled, unless it is done */
static int transfer_cancel(lua_State *L)
{
    csms_http_cancel(check_transfer(L));
    return 0;
}

/* transfer:close(), also __gc and __close; cancels; may be called again */
static int transfer_close(lua_State *L)
{
    struct transfer *self = luaL_checkudata(L, 1, TRANSFER);

    if (self->transfer) {
        csms_http_cancel(self->transfer);
        csms_transfer_unref(self->transfer);
    }
    self->transfer = NULL;
    return 0;
}

static const luaL_Reg transfer_methods[] = {
    {"id", transfer_id},         {"done", transfer_done},
    {"result", transfer_result}, {"header", transfer_header},
    {"sent", transfer_sent},     {"port", transfer_port},
    {"cancel", transfer_cancel}, {"close", transfer_close},
    {"__gc", transfer_close},    {NULL, NULL},
};

/* ---- engine ----------------------------------------------------------- */

/* step(seconds): works on all transfers; returns early when one is done */
static int step(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);

    if (!(seconds > 0)) /* not a number, too */
        seconds = 0;
    csms_http_step(seconds < LONGEST_STEP ? seconds : LONGEST_STEP,
                   lua_touserdata(L, lua_upvalueindex(1)));
    return 0;
}

/* With what the Lua state's last step has seen. */
static void push_step(lua_State *L)
{
    uint64_t *seen = lua_newuserdata(L, sizeof *seen);

    *seen = 0;
    lua_pushcclosure(L, step, 1);
}

static const luaL_Reg functions[] = {
    {"origin", origin_new},
    {"channel", channel_new},
    {NULL, NULL},
};

void lcsms_open_http(lua_State *L)
{
    lcsms_new_type(L, ORIGIN, origin_methods);
    lcsms_new_type(L, CHANNEL, channel_methods);
    lcsms_new_type(L, TRANSFER, transfer_methods);
    luaL_setfuncs(L, functions, 0);
    push_step(L);
    lua_setfield(L, -2, "step");
}
