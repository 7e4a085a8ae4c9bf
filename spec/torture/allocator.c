/* SPDX-License-Identifier: MIT
 *
 * Runs a Lua script in phases, in a state whose allocator can be made to fail:
 *
 * allocator SCRIPT PHASE MODE FIRST STEP
 *
 * The script returns an array of functions, each a phase that gets what the one
 * before returned. Phase number PHASE is done again and again, each time in a
 * new state and after the phases before it, with the n-th allocation in it
 * failing: n is FIRST, FIRST + STEP ... until the phase needs fewer. MODE
 * "once": that allocation alone, even when Lua asks again after a collection;
 * "on": all from there to the end of the phase. Then the state is closed, the
 * whole is done in another that has memory, and LeakSanitizer looks for what is
 * left.
 *
 * Prints "N failed, M times in vain" where M phases came to their end all the
 * same.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#define LEAK_CHECK 25 /* so many failures share one search for leaks */

/* Of LeakSanitizer: whether anything has leaked so far. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static struct {
    bool armed;
    bool on;      /* all further ones fail too */
    long left;    /* allocations until one fails */
    bool failing; /* the one that fails now, and is asked for again */
    size_t old_size;
    size_t size;
    long failures;
} plan;

static bool fails(void *block, size_t old_size, size_t size)
{
    if (!plan.armed || size == 0 || (block && size <= old_size))
        return false;
    if (plan.left > 1) {
        plan.left--;
        return false;
    }
    if (plan.left == 1) {
        plan.left = 0;
        plan.failing = true;
        plan.old_size = old_size;
        plan.size = size;
        plan.failures++;
        return true;
    }
    if (plan.on)
        return true;
    /* Lua collects and asks for the same once more. */
    plan.failing = plan.failing && plan.old_size == old_size &&
                   plan.size == size && plan.failures == 1;
    plan.failures += plan.failing;
    return plan.failing;
}

static void *allocate(void *user, void *block, size_t old_size, size_t size)
{
    (void)user;
    if (fails(block, old_size, size))
        return NULL;
    if (size > 0)
        return realloc(block, size);
    free(block);
    return NULL;
}

/* Whether the text speaks of memory, as Lua, lua-cjson and the core do. */
static bool is_about_memory(const char *text)
{
    return text && strcasestr(text, "memory");
}

/* The script's functions are at index 1. Runs the phases up to `last`, of which
 * the last one has the failing allocation. Returns Lua's status of that one. */
static int run_phases(lua_State *L, int last, bool failing)
{
    int status = LUA_OK;

    lua_pushnil(L);
    for (int phase = 1; phase <= last && status == LUA_OK; phase++) {
        lua_rawgeti(L, 1, phase);
        lua_insert(L, -2);
        plan.armed = failing && phase == last;
        status = lua_pcall(L, 1, 1, 0);
        plan.armed = false;
    }
    return status;
}

static int open_script(lua_State *L, const char *script)
{
    luaL_openlibs(L);
    if (luaL_loadfile(L, script) != LUA_OK || lua_pcall(L, 0, 1, 0) != LUA_OK) {
        (void)fprintf(stderr, "%s\n", lua_tostring(L, -1));
        exit(2);
    }
    return (int)lua_rawlen(L, 1);
}

/* Returns Lua's status of the last phase. */
static int run_state(const char *script, int last, long number, bool failing)
{
    lua_State *L = lua_newstate(allocate, NULL);
    int phases = 0;
    int status = LUA_OK;

    if (!L)
        exit(2);
    phases = open_script(L, script);
    status = run_phases(L, last > 0 ? last : phases, failing);
    if (status != LUA_OK && status != LUA_ERRMEM) {
        const char *text = lua_tostring(L, -1);

        if (!failing || !is_about_memory(text)) {
            (void)fprintf(stderr, "phase %d, allocation %ld: %s\n", last,
                          number, text ? text : "(no message)");
            exit(3);
        }
    }
    lua_close(L);
    return status;
}

/* Whether the phase came as far as the n-th allocation. */
static bool try_allocation(const char *script, int phase, long number,
                           long *in_vain)
{
    int status = LUA_OK;

    plan.left = number;
    plan.failing = false;
    plan.failures = 0;
    status = run_state(script, phase, number, true);
    *in_vain += plan.left == 0 && status == LUA_OK;
    return plan.left == 0;
}

static void check_leaks(int phase, long from, long to)
{
    if (!__lsan_do_recoverable_leak_check ||
        !__lsan_do_recoverable_leak_check())
        return;
    (void)fprintf(stderr, "phase %d leaks, allocation %ld to %ld\n", phase,
                  from, to);
    exit(4);
}

/* So that no state's end unloads the modules, whose names a leak's report
 * needs. */
static lua_State *keep_modules(const char *script)
{
    lua_State *L = luaL_newstate();

    if (!L)
        exit(2);
    (void)open_script(L, script);
    if (run_phases(L, 1, false) != LUA_OK)
        exit(2);
    return L;
}

int main(int argc, char **argv)
{
    lua_State *keeper = NULL;
    long count = 0;
    long in_vain = 0;
    long checked = 0;
    long n = 0;
    int phase = 0;

    if (argc != 6)
        return 2;
    keeper = keep_modules(argv[1]);
    phase = atoi(argv[2]);
    plan.on = strcmp(argv[3], "on") == 0;
    for (n = atol(argv[4]); try_allocation(argv[1], phase, n, &in_vain);
         n += atol(argv[5])) {
        if (++count % LEAK_CHECK == 0) {
            check_leaks(phase, checked, n);
            checked = n;
        }
    }
    (void)run_state(argv[1], 0, 0, false);
    check_leaks(phase, checked, n);
    lua_close(keeper);
    (void)printf("%ld failed, %ld times in vain\n", count, in_vain);
    return 0;
}
