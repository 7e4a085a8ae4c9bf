/* SPDX-License-Identifier: MIT
 *
 * The Lua state of spec/support/host.c, where no object of the core's survives
 * that is not anchored. Within a function of core.so all garbage is collected
 * wherever Lua may, with finalizers, and also before each new object, as where
 * memory is short: then the allocator says at first that there is none, and Lua
 * collects and asks once more. What is freed is overwritten.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

struct stress {
    bool on;      /* a function of the core's runs */
    bool refused; /* the next object is the same request */
};

lua_State *stressed_newstate(void);

/* Lua tells the type of a new object in place of the old size. What grows is
 * not refused: the buffers of lauxlib do not ask again. */
static bool is_object(const void *block, size_t old_size, size_t size)
{
    return !block && size > 0 && old_size >= LUA_TSTRING;
}

static void *allocate(void *user, void *block, size_t old_size, size_t size)
{
    struct stress *stress = user;
    void *moved = NULL;

    if (is_object(block, old_size, size)) {
        stress->refused = stress->on && !stress->refused;
        if (stress->refused)
            return NULL;
    }
    if (size > 0 && !(moved = malloc(size)))
        return NULL;
    if (block) {
        if (moved)
            memcpy(moved, block, size < old_size ? size : old_size);
        memset(block, 0x5a, old_size);
        free(block);
    }
    return moved;
}

static bool is_core(lua_State *L, int level)
{
    lua_Debug function;
    lua_CFunction address = NULL;
    Dl_info file;

    if (!lua_getstack(L, level, &function))
        return false;
    lua_getinfo(L, "f", &function);
    address = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return address && dladdr(*(void **)&address, &file) &&
           strstr(file.dli_fname, "csms/core.so");
}

/* Called before each function and after it, wherever it was called from. */
static void watch(lua_State *L, lua_Debug *event)
{
    struct stress *stress = NULL;

    (void)lua_getallocf(L, (void **)&stress);
    stress->on = is_core(L, event->event == LUA_HOOKRET ? 1 : 0);
    if (stress->on)
        (void)lua_gc(L, LUA_GCINC, 1, 1000, 100); /* no pause, whole cycles */
    else
        (void)lua_gc(L, LUA_GCINC, 200, 100, 13); /* Lua's own */
}

lua_State *stressed_newstate(void)
{
    static struct stress stress;
    lua_State *L = lua_newstate(allocate, &stress);

    if (L)
        lua_sethook(L, watch, LUA_MASKCALL | LUA_MASKRET, 0);
    return L;
}
