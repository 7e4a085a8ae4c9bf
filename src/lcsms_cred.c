/* SPDX-License-Identifier: MIT
 *
 * Credentials in Lua: an opaque userdata that owns the keys and wipes them.
 */
#include "lcsms.h"

#include "csms_profile.h"

#define CREDENTIAL "csms.credential"
#define PROFILE "csms.profile"

struct credential {
    struct csms_cred *cred; /* NULL once closed */
};

static struct credential *check(lua_State *L)
{
    return luaL_checkudata(L, 1, CREDENTIAL);
}

static struct credential *new_credential(lua_State *L)
{
    return lcsms_new_userdata(L, sizeof(struct credential), CREDENTIAL);
}

int lcsms_opt_cred(lua_State *L, int arg, struct csms_cred **cred,
                   struct csms_err *err)
{
    struct credential *self = NULL;

    *cred = NULL;
    if (lua_isnoneornil(L, arg))
        return 0;
    self = luaL_checkudata(L, arg, CREDENTIAL);
    if (!self->cred)
        return csms_err_set(err, CSMS_CREDENTIALS, "the credential is closed");
    *cred = self->cred;
    return 0;
}

/* keys(ak, sk [, security_token]) -> credential | nil, err */
static int credential_keys(lua_State *L)
{
    struct csms_span ak = lcsms_check_span(L, 1);
    struct csms_span sk = lcsms_check_span(L, 2);
    struct csms_span token = {"", 0};
    struct credential *self = NULL;
    struct csms_err err;

    if (!lua_isnoneornil(L, 3))
        token = lcsms_check_span(L, 3);
    self = new_credential(L);
    self->cred = csms_cred_keys(ak, sk, token, &err);
    return self->cred ? 1 : lcsms_fail(L, &err);
}

/* token(x_auth_token) -> credential | nil, err */
static int credential_token(lua_State *L)
{
    struct csms_span token = lcsms_check_span(L, 1);
    struct credential *self = new_credential(L);
    struct csms_err err;

    self->cred = csms_cred_token(token, &err);
    return self->cred ? 1 : lcsms_fail(L, &err);
}

static int profile_gc(lua_State *L)
{
    csms_profile_free(luaL_checkudata(L, 1, PROFILE));
    return 0;
}

static void set_text(lua_State *L, const char *name,
                     const struct csms_buf *text)
{
    if (text->len > 0) {
        lcsms_push_span(L, csms_buf_view(text));
        lua_setfield(L, -2, name);
    }
}

/* profile(path) -> {credential, project_id, iam_endpoint, found, loose} | nil,
 * err; the fields are those of struct csms_profile. */
static int credential_profile(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct csms_profile *profile =
        lcsms_new_userdata(L, sizeof *profile, PROFILE);
    struct credential *self = new_credential(L);
    struct csms_err err;

    if (csms_profile_read(path, profile, &err))
        return lcsms_fail(L, &err);
    self->cred = profile->cred;
    profile->cred = NULL;
    lua_createtable(L, 0, 5);
    if (self->cred) {
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "credential");
    }
    set_text(L, "project_id", &profile->project_id);
    set_text(L, "iam_endpoint", &profile->iam_endpoint);
    lua_pushboolean(L, profile->found);
    lua_setfield(L, -2, "found");
    lua_pushboolean(L, profile->loose);
    lua_setfield(L, -2, "loose");
    return 1;
}

/* credential:same(other) -> whether both hold the same keys or token */
static int credential_same(lua_State *L)
{
    struct credential *self = check(L);
    struct credential *other = luaL_checkudata(L, 2, CREDENTIAL);

    lua_pushboolean(L, self->cred && other->cred &&
                           csms_cred_same(self->cred, other->cred));
    return 1;
}

/* credential:redact(text) -> text without the credential's secrets */
static int credential_redact(lua_State *L)
{
    struct credential *self = check(L);
    struct csms_span text = lcsms_check_span(L, 2);
    struct csms_buf *out = NULL;
    struct csms_err err;

    if (self->cred && !csms_cred_occurs(self->cred, text)) {
        lua_settop(L, 2);
        return 1;
    }
    out = lcsms_new_buf(L, 4 * text.len + 16);
    if (!self->cred || csms_cred_redact(self->cred, text, out, &err))
        lua_pushliteral(L, "(text withheld: its credential is closed)");
    else
        lcsms_push_span(L, csms_buf_view(out));
    return 1;
}

/* is_open(value) -> whether it is a credential that has not been closed */
static int credential_is_open(lua_State *L)
{
    struct credential *self = luaL_testudata(L, 1, CREDENTIAL);

    lua_pushboolean(L, self && self->cred);
    return 1;
}

/* credential:uses_token() -> true for an X-Auth-Token */
static int credential_uses_token(lua_State *L)
{
    struct credential *self = check(L);

    lua_pushboolean(L, self->cred && csms_cred_auth_token(self->cred));
    return 1;
}

/* credential:temporary() -> true for keys with a security token */
static int credential_temporary(lua_State *L)
{
    struct credential *self = check(L);

    lua_pushboolean(L, self->cred && csms_cred_security_token(self->cred));
    return 1;
}

/* credential:close(), also __gc and __close; wipes; may be called again */
static int credential_close(lua_State *L)
{
    struct credential *self = check(L);

    csms_cred_free(self->cred);
    self->cred = NULL;
    return 0;
}

static int credential_tostring(lua_State *L)
{
    struct credential *self = check(L);
    char text[32] = "closed";

    if (self->cred)
        csms_cred_describe(self->cred, text, sizeof text);
    lua_pushfstring(L, "csms credential (%s)", text);
    return 1;
}

static const luaL_Reg methods[] = {
    {"redact", credential_redact},         {"same", credential_same},
    {"uses_token", credential_uses_token}, {"temporary", credential_temporary},
    {"close", credential_close},           {"__gc", credential_close},
    {"__tostring", credential_tostring},   {NULL, NULL},
};

static const luaL_Reg profile_methods[] = {
    {"__gc", profile_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"keys", credential_keys},
    {"token", credential_token},
    {"profile", credential_profile},
    {"is_open", credential_is_open},
    {NULL, NULL},
};

void lcsms_open_cred(lua_State *L)
{
    lcsms_new_type(L, CREDENTIAL, methods);
    lcsms_new_type(L, PROFILE, profile_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "credential");
}
