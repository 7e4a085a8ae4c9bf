/* SPDX-License-Identifier: MIT
 *
 * What the bindings share. A binding converts in, calls one engine function
 * and converts out. Whatever it allocates hangs off a userdata before any Lua
 * call that can raise, so that the collector frees it then. The collector runs
 * finalizers, and one may close a credential or a directory: their pointers are
 * taken when nothing is allocated in Lua any more.
 */
#ifndef LCSMS_H
#define LCSMS_H

#include <lauxlib.h>
#include <lua.h>

#include "csms_buf.h"
#include "csms_cred.h"
#include "csms_err.h"
#include "csms_sign.h"

/* The one place that knows Lua versions: 5.4, and LuaJIT, which has 5.1's API
 * with luaL_setfuncs and luaL_testudata. */
#if LUA_VERSION_NUM < 502
#ifndef LUA_LJDIR
#error "Lua 5.4's or LuaJIT's wanted: LUA_INCDIR=/usr/include/luajit-2.1"
#endif
#define lua_rawlen lua_objlen
#endif

/* Pushes nil and the error as a plain table; returns 2. */
int lcsms_fail(lua_State *L, const struct csms_err *err);

/* What a function without a result returns: true, or nil and the error where
 * it failed. */
int lcsms_done(lua_State *L, int failed, const struct csms_err *err);

/* A new buffer that the collector frees; on top of the stack. */
struct csms_buf *lcsms_new_buf(lua_State *L, size_t cap);

/* A new userdata of a type made by lcsms_new_type(), zeroed, so that its __gc
 * may come at any time; on top of the stack. */
void *lcsms_new_userdata(lua_State *L, size_t size, const char *type);

/* Pushes a copy of the text. */
void lcsms_push_span(lua_State *L, struct csms_span span);

/* The string argument; raises for anything else. Borrowed from the stack. */
struct csms_span lcsms_check_span(lua_State *L, int arg);

/* Fields of the table at `arg`; absent ones give the default. A wrong type
 * raises, a NUL in what C takes as a string too. Strings are borrowed from the
 * table, which has no metatable. */
struct csms_span lcsms_field_span(lua_State *L, int arg, const char *name);
const char *lcsms_field_string(lua_State *L, int arg, const char *name);
double lcsms_field_number(lua_State *L, int arg, const char *name,
                          double otherwise);
bool lcsms_field_bool(lua_State *L, int arg, const char *name);

/* The flat list {name, value, ...} in field `headers` of the table at `arg`;
 * raises where it has more than `max` pairs. Returns the number of pairs. */
size_t lcsms_field_headers(lua_State *L, int arg, struct csms_header *out,
                           size_t max);

/* Makes the metatable `name` with these methods; __index is itself, and
 * __close is the same function as __gc. */
void lcsms_new_type(lua_State *L, const char *name, const luaL_Reg *methods);

/* Gives the key pair or token at `arg`, NULL where the argument is nil; raises
 * for another type. Returns 0, or -1 with `err` for one that is closed. */
int lcsms_opt_cred(lua_State *L, int arg, struct csms_cred **cred,
                   struct csms_err *err);

/* Each registers its types and adds its functions to the table on top. */
void lcsms_open_sign(lua_State *L);
void lcsms_open_cred(lua_State *L);
void lcsms_open_http(lua_State *L);
void lcsms_open_file(lua_State *L);
void lcsms_open_process(lua_State *L);
void lcsms_open_crypto(lua_State *L);

#endif
