/* SPDX-License-Identifier: MIT
 *
 * Files that last, and locks, in Lua.
 */
#include "lcsms.h"

#include <math.h>
#include <string.h>

#include "csms_dir.h"
#include "csms_entries.h"
#include "csms_file.h"
#include "csms_lock.h"
#include "csms_sync.h"

#define DIRECTORY "csms.directory"
#define LOCK "csms.lock"
#define ENTRIES "csms.entries"

#define DEFAULT_MAX_READ (64.0 * 1024 * 1024)
#define MAX_SIZE 9007199254740992.0 /* 2^53: what every Lua counts exactly */

struct directory {
    struct csms_dir *dir; /* NULL once closed */
};

struct lock {
    struct csms_lock *lock; /* NULL once closed */
};

/* ---- arguments -------------------------------------------------------- */

/* NULL, with `err`, once it is closed. */
static struct csms_dir *check_open(lua_State *L, struct csms_err *err)
{
    struct directory *self = luaL_checkudata(L, 1, DIRECTORY);

    if (!self->dir)
        csms_err_set(err, CSMS_STORAGE, "the directory is closed");
    return self->dir;
}

/* NULL, with `err`, for one that C would cut at a NUL. Borrowed from Lua. */
static const char *check_path(lua_State *L, int index, struct csms_err *err)
{
    size_t len = 0;
    const char *path = lua_tolstring(L, index, &len);

    if (strlen(path) == len)
        return path;
    csms_err_set(err, CSMS_STORAGE, "the path of a file holds a NUL: %.200s",
                 path);
    return NULL;
}

/* The directory and the path that nearly every method starts with. Returns -1,
 * with `err`, where either cannot be used. */
static int check_both(lua_State *L, struct csms_dir **dir, const char **path,
                      struct csms_err *err)
{
    (void)luaL_checkstring(L, 2);
    *dir = check_open(L, err);
    *path = *dir ? check_path(L, 2, err) : NULL;
    return *path ? 0 : -1;
}

static double check_size(lua_State *L, int arg, double size)
{
    luaL_argcheck(L, size >= 0 && size <= MAX_SIZE && floor(size) == size, arg,
                  "a number of bytes expected");
    return size;
}

/* ---- directory -------------------------------------------------------- */

/* directory(path [, create]) -> directory | nil, err */
static int directory_new(lua_State *L)
{
    const char *path = NULL;
    bool create = lua_toboolean(L, 2);
    struct directory *self = NULL;
    struct csms_err err;

    (void)luaL_checkstring(L, 1);
    path = check_path(L, 1, &err);
    if (!path)
        return lcsms_fail(L, &err);
    self = lcsms_new_userdata(L, sizeof *self, DIRECTORY);
    self->dir = csms_dir_open(path, create, &err);
    return self->dir ? 1 : lcsms_fail(L, &err);
}

typedef int (*write_function)(const struct csms_dir *, const char *,
                              struct csms_span, struct csms_err *);

static int write_by(lua_State *L, write_function write)
{
    struct csms_span data = lcsms_check_span(L, 3);
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_err err;

    return lcsms_done(
        L, check_both(L, &dir, &path, &err) || write(dir, path, data, &err),
        &err);
}

/* directory:create(path, data) -> true | nil, err */
static int directory_create(lua_State *L)
{
    return write_by(L, csms_file_create);
}

/* directory:append(path, data) -> true | nil, err */
static int directory_append(lua_State *L)
{
    return write_by(L, csms_file_append);
}

/* The strings of the array at index 2, borrowed from it; NULL, with `err`,
 * where one holds a NUL. Its memory is on top of the stack. */
static const char **check_paths(lua_State *L, size_t count,
                                struct csms_err *err)
{
    const char **paths =
        (const char **)lua_newuserdata(L, (count + 1) * sizeof *paths);

    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2,
                      "an array of strings expected");
        paths[i] = check_path(L, -1, err);
        lua_pop(L, 1); /* the array keeps it */
        if (!paths[i])
            return NULL;
    }
    return paths;
}

/* directory:sync(paths) -> true | nil, err */
static int directory_sync(lua_State *L)
{
    struct csms_dir *dir = NULL;
    const char **paths = NULL;
    size_t count = 0;
    struct csms_err err;

    luaL_checktype(L, 2, LUA_TTABLE);
    count = lua_rawlen(L, 2);
    paths = check_paths(L, count, &err);
    if (paths)
        dir = check_open(L, &err);
    return lcsms_done(L, !dir || csms_dir_sync(dir, paths, count, &err), &err);
}

/* directory:rename(from, to) -> true | nil, err */
static int directory_rename(lua_State *L)
{
    struct csms_dir *dir = NULL;
    const char *from = NULL;
    const char *to = NULL;
    struct csms_err err;

    (void)luaL_checkstring(L, 3);
    if (check_both(L, &dir, &from, &err) == 0)
        to = check_path(L, 3, &err);
    return lcsms_done(L, !to || csms_file_rename(dir, from, to, &err), &err);
}

/* directory:read(path [, max]) -> data | nil, err */
static int directory_read(lua_State *L)
{
    double max = check_size(L, 3, luaL_optnumber(L, 3, DEFAULT_MAX_READ));
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_buf *out = NULL;
    struct csms_err err;

    lua_settop(L, 2);
    out = lcsms_new_buf(L, (size_t)max);
    if (check_both(L, &dir, &path, &err) ||
        csms_file_read(dir, path, out, &err))
        return lcsms_fail(L, &err);
    lcsms_push_span(L, csms_buf_view(out));
    csms_buf_free(out); /* Lua's collector does not see how large it is */
    return 1;
}

/* directory:truncate(path, size) -> true | nil, err */
static int directory_truncate(lua_State *L)
{
    double size = check_size(L, 3, luaL_checknumber(L, 3));
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_err err;

    return lcsms_done(L,
                      check_both(L, &dir, &path, &err) ||
                          csms_file_truncate(dir, path, (uint64_t)size, &err),
                      &err);
}

/* directory:remove(path) -> true | nil, err */
static int directory_remove(lua_State *L)
{
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_err err;

    return lcsms_done(L,
                      check_both(L, &dir, &path, &err) ||
                          csms_file_remove(dir, path, &err),
                      &err);
}

static void push_entries(lua_State *L, const struct csms_entries *entries)
{
    lua_createtable(L, (int)entries->count, 0);
    for (size_t i = 0; i < entries->count; i++) {
        const struct csms_entry *entry = &entries->items[i];

        lua_createtable(L, 0, 2);
        lua_pushstring(L, entry->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, csms_file_type_name(entry->type));
        lua_setfield(L, -2, "type");
        lua_rawseti(L, -2, (int)i + 1);
    }
}

/* directory:entries([path]) -> array of {name=, type=} | nil, err; the types
 * are those of csms_file_type_name() */
static int directory_entries(lua_State *L)
{
    struct csms_entries *entries = NULL;
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_err err;

    lua_settop(L, 2);
    entries = lcsms_new_userdata(L, sizeof *entries, ENTRIES);
    if (lua_isnil(L, 2))
        dir = check_open(L, &err);
    else if (check_both(L, &dir, &path, &err))
        dir = NULL;
    if (!dir)
        return lcsms_fail(L, &err);
    if (csms_entries_list(dir, path, entries, &err))
        return lcsms_fail(L, &err);
    push_entries(L, entries);
    csms_entries_free(entries);
    return 1;
}

static int entries_gc(lua_State *L)
{
    csms_entries_free(luaL_checkudata(L, 1, ENTRIES));
    return 0;
}

/* directory:stat(path) -> {type=, size=} | nil, err; the fields are those of
 * struct csms_file_status */
static int directory_stat(lua_State *L)
{
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_file_status status;
    struct csms_err err;

    if (check_both(L, &dir, &path, &err) ||
        csms_file_stat(dir, path, &status, &err))
        return lcsms_fail(L, &err);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, csms_file_type_name(status.type));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, (lua_Integer)status.size);
    lua_setfield(L, -2, "size");
    return 1;
}

/* directory:lock(path, text) -> lock | nil, err */
static int directory_lock(lua_State *L)
{
    struct csms_span text = lcsms_check_span(L, 3);
    struct lock *self = lcsms_new_userdata(L, sizeof *self, LOCK);
    struct csms_dir *dir = NULL;
    const char *path = NULL;
    struct csms_err err;

    if (check_both(L, &dir, &path, &err) == 0)
        self->lock = csms_lock_take(dir, path, text, &err);
    return self->lock ? 1 : lcsms_fail(L, &err);
}

/* directory:close(), also __gc and __close; may be called again */
static int directory_close(lua_State *L)
{
    struct directory *self = luaL_checkudata(L, 1, DIRECTORY);

    csms_dir_free(self->dir);
    self->dir = NULL;
    return 0;
}

/* lock:close(), also __gc and __close; may be called again */
static int lock_close(lua_State *L)
{
    struct lock *self = luaL_checkudata(L, 1, LOCK);

    csms_lock_free(self->lock);
    self->lock = NULL;
    return 0;
}

static const luaL_Reg directory_methods[] = {
    {"create", directory_create},
    {"append", directory_append},
    {"sync", directory_sync},
    {"rename", directory_rename},
    {"read", directory_read},
    {"truncate", directory_truncate},
    {"remove", directory_remove},
    {"entries", directory_entries},
    {"stat", directory_stat},
    {"lock", directory_lock},
    {"close", directory_close},
    {"__gc", directory_close},
    {NULL, NULL},
};

static const luaL_Reg lock_methods[] = {
    {"close", lock_close},
    {"__gc", lock_close},
    {NULL, NULL},
};

static const luaL_Reg entries_methods[] = {
    {"__gc", entries_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"directory", directory_new},
    {NULL, NULL},
};

void lcsms_open_file(lua_State *L)
{
    lcsms_new_type(L, DIRECTORY, directory_methods);
    lcsms_new_type(L, LOCK, lock_methods);
    lcsms_new_type(L, ENTRIES, entries_methods);
    luaL_setfuncs(L, functions, 0);
}
