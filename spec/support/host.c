/* SPDX-License-Identifier: MIT
 *
 * Runs a Lua script with its arguments, or -e CODE, as lua5.4 does, but built
 * here, so that a sanitizer can be linked into the program itself.
 */
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

static int traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

static int load(lua_State *L, int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "-e") == 0)
        return luaL_loadstring(L, argv[2]);
    return luaL_loadfile(L, argv[1]);
}

static int run(lua_State *L, int argc, char **argv)
{
    luaL_openlibs(L);
    lua_newtable(L);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    lua_pushcfunction(L, traceback);
    if (load(L, argc, argv))
        return 1;
    for (int i = 2; i < argc; i++)
        lua_pushstring(L, argv[i]);
    return lua_pcall(L, argc - 2, 0, 1);
}

int main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    int status = 1;

    if (!L || argc < 2)
        return 2;
    status = run(L, argc, argv);
    if (status != LUA_OK)
        (void)fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return status != LUA_OK;
}
