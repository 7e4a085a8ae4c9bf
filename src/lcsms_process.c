/* SPDX-License-Identifier: MIT
 *
 * What a program wants to know of its process and its terminal, in Lua; and its
 * signals.
 */
#include "lcsms.h"

#include <string.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include "csms_signal.h"

/* ---- signals ---------------------------------------------------------- */

/* catch_signals() -> true | nil, err */
static int catch_signals(lua_State *L)
{
    struct csms_err err;

    return lcsms_done(L, csms_signal_catch(&err), &err);
}

/* caught_signal() -> the number of the first one, or nil */
static int caught_signal(lua_State *L)
{
    int number = csms_signal_caught();

    if (number == 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, number);
    return 1;
}

/* release_signals() */
static int release_signals(lua_State *L)
{
    (void)L;
    csms_signal_release();
    return 0;
}

/* ---- the process ------------------------------------------------------ */

/* process() -> host's name, process id */
static int process(lua_State *L)
{
    char host[256];

    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    lua_pushstring(L, host);
    lua_pushinteger(L, (lua_Integer)getpid());
    return 2;
}

/* is_terminal(fd) -> boolean */
static int is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* terminal_width(fd) -> columns, or nil where that is no terminal or one that
 * does not know */
static int terminal_width(lua_State *L)
{
    struct winsize size;

    memset(&size, 0, sizeof size);
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 ||
        size.ws_col == 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, size.ws_col);
    return 1;
}

static const luaL_Reg functions[] = {
    {"catch_signals", catch_signals},
    {"caught_signal", caught_signal},
    {"release_signals", release_signals},
    {"process", process},
    {"is_terminal", is_terminal},
    {"terminal_width", terminal_width},
    {NULL, NULL},
};

void lcsms_open_process(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
