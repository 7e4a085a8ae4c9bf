/* SPDX-License-Identifier: MIT
 *
 * Runs a Lua script in several threads at once, each with a Lua state of its
 * own: thread_stress SCRIPT THREADS. Built with ThreadSanitizer (make tsan);
 * the script gets the thread's number.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#define MAX_THREADS 32

struct job {
    pthread_t thread;
    const char *script;
    int number;
    int failed;
};

static void *run(void *user)
{
    struct job *job = user;
    lua_State *L = luaL_newstate();

    job->failed = 1;
    if (!L)
        return NULL;
    luaL_openlibs(L);
    if (luaL_loadfile(L, job->script) == LUA_OK) {
        lua_pushinteger(L, job->number);
        job->failed = lua_pcall(L, 1, 0, 0) != LUA_OK;
    }
    if (job->failed)
        (void)fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return NULL;
}

int main(int argc, char **argv)
{
    static struct job jobs[MAX_THREADS];
    int count = argc > 2 ? atoi(argv[2]) : 0;
    int failed = 0;

    if (count < 1 || count > MAX_THREADS)
        return 2;
    for (int i = 0; i < count; i++) {
        jobs[i].script = argv[1];
        jobs[i].number = i + 1;
        if (pthread_create(&jobs[i].thread, NULL, run, &jobs[i]) != 0)
            return 2;
    }
    for (int i = 0; i < count; i++) {
        (void)pthread_join(jobs[i].thread, NULL);
        failed |= jobs[i].failed;
    }
    return failed;
}
