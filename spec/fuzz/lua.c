/* SPDX-License-Identifier: MIT
 *
 * A target whose property is written in Lua: FUZZ_TARGET names the module
 * spec.fuzz.<name>, a function that is called with each input and raises where
 * the property does not hold. Lines that follow each other in lua/csms count as
 * coverage, as branches of C do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "fuzz.h"

#define COUNTERS 16384

/* libFuzzer looks for a section of this name and clears it before each run. */
__attribute__((section("__libfuzzer_extra_counters"),
               used)) static unsigned char counters[COUNTERS];

int luaopen_csms_core(lua_State *L);

static lua_State *lua;
static unsigned last_line;

static void on_line(lua_State *L, lua_Debug *where)
{
    unsigned here = 5381;

    if (!lua_getinfo(L, "S", where) || !strstr(where->source, "lua/csms/"))
        return;
    for (const char *c = where->source; *c; c++)
        here = here * 33 + (unsigned char)*c;
    here = here * 2654435761U + (unsigned)where->currentline * 40503U;
    counters[(here ^ last_line) % COUNTERS]++;
    last_line = here >> 1;
}

static int traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static int load(lua_State *L)
{
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_pushliteral(L, "./lua/?.lua;./lua/?/init.lua;./?.lua");
    lua_setfield(L, -2, "path");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_csms_core);
    lua_setfield(L, -2, "csms.core");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "spec.fuzz." FUZZ_TARGET);
    lua_call(L, 1, 1);
    return 1;
}

static void require_success(lua_State *L, int status)
{
    if (status == LUA_OK)
        return;
    (void)fprintf(stderr, "%s\n", lua_tostring(L, -1));
    abort();
}

/* Leaves the message handler and the property on the stack. */
static lua_State *open_lua(void)
{
    lua_State *L = luaL_newstate();

    CHECK(L);
    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, load);
    require_success(L, lua_pcall(L, 0, 1, 1));
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!lua)
        lua = open_lua();
    last_line = 0;
    lua_pushvalue(lua, -1);
    lua_pushlstring(lua, (const char *)data, size);
    require_success(lua, lua_pcall(lua, 1, 0, 1));
    return 0;
}
