/* SPDX-License-Identifier: MIT
 *
 * A program that exports an SSL_CTX_new of its own, as an nginx with a static
 * OpenSSL does, and loads csms.core.
 */
#include <stdio.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

void *SSL_CTX_new(const void *method);

void *SSL_CTX_new(const void *method)
{
    (void)method;
    return NULL;
}

int main(void)
{
    lua_State *L = luaL_newstate();

    if (!L)
        return 2;
    luaL_openlibs(L);
    if (luaL_dostring(L, "require 'csms.core'"))
        (void)printf("%s\n", lua_tostring(L, -1));
    lua_close(L);
    return 0;
}
