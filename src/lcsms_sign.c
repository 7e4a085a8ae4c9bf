/* SPDX-License-Identifier: MIT
 *
 * csms.core.sign: the stages of csms_sign.h, each callable alone. A request is
 * a table {algorithm, method, path, query, headers = {name, value, ...}, body,
 * date, region, service}. Each function returns a string, or nil and an error.
 */
#include "lcsms.h"

#include <string.h>

#define SIGNER "csms.signer"

static int signer_gc(lua_State *L)
{
    csms_signer_free(luaL_checkudata(L, 1, SIGNER));
    return 0;
}

static enum csms_algorithm check_algorithm(lua_State *L, int arg)
{
    enum csms_algorithm algorithm = CSMS_SDK_HMAC_SHA256;
    const char *name = lcsms_field_string(L, arg, "algorithm");

    if (name && csms_algorithm_parse(name, &algorithm))
        luaL_error(L, "unknown algorithm '%s'", name);
    return algorithm;
}

static struct csms_signer *new_signer(lua_State *L)
{
    return lcsms_new_userdata(L, sizeof(struct csms_signer), SIGNER);
}

/* YYYYMMDDTHHMMSSZ */
static bool is_date(const char *text)
{
    if (strlen(text) != CSMS_SIGN_DATE_LEN)
        return false;
    for (int i = 0; i < CSMS_SIGN_DATE_LEN; i++) {
        char wanted = "00000000T000000Z"[i];

        if (wanted == '0' ? text[i] < '0' || text[i] > '9' : text[i] != wanted)
            return false;
    }
    return true;
}

static void check_request(lua_State *L, int arg,
                          struct csms_sign_request *request)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    memset(request, 0, sizeof *request);
    request->method = lcsms_field_span(L, arg, "method");
    request->path = lcsms_field_span(L, arg, "path");
    request->query = lcsms_field_span(L, arg, "query");
    request->body = lcsms_field_span(L, arg, "body");
    request->date = lcsms_field_string(L, arg, "date");
    request->region = lcsms_field_string(L, arg, "region");
    request->service = lcsms_field_string(L, arg, "service");
    request->header_count =
        lcsms_field_headers(L, arg, request->headers, CSMS_SIGN_MAX_HEADERS);
    csms_sign_sort_headers(request->headers, request->header_count);
    if (!request->date || !is_date(request->date))
        luaL_error(L, "field 'date' must be YYYYMMDDTHHMMSSZ");
}

static int push_result(lua_State *L, int failed, const struct csms_buf *out,
                       const struct csms_err *err)
{
    if (failed)
        return lcsms_fail(L, err);
    lcsms_push_span(L, csms_buf_view(out));
    return 1;
}

/* The stages come in three shapes. */

typedef int text_stage(struct csms_span, struct csms_buf *, struct csms_err *);
typedef int header_stage(const struct csms_header *, size_t, struct csms_buf *,
                         struct csms_err *);
typedef int request_stage(struct csms_signer *,
                          const struct csms_sign_request *, struct csms_buf *,
                          struct csms_err *);

static int run_text_stage(lua_State *L, text_stage *stage)
{
    struct csms_span text = lcsms_check_span(L, 1);
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;

    return push_result(L, stage(text, out, &err), out, &err);
}

static int run_header_stage(lua_State *L, header_stage *stage)
{
    struct csms_sign_request request;
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;

    check_request(L, 1, &request);
    return push_result(
        L, stage(request.headers, request.header_count, out, &err), out, &err);
}

static int run_request_stage(lua_State *L, request_stage *stage)
{
    struct csms_sign_request request;
    struct csms_signer *signer = new_signer(L);
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;
    int failed = 0;

    check_request(L, 1, &request);
    failed = csms_signer_init(signer, check_algorithm(L, 1), &err) ||
             stage(signer, &request, out, &err);
    return push_result(L, failed, out, &err);
}

/* canonical_uri(path) */
static int sign_canonical_uri(lua_State *L)
{
    return run_text_stage(L, csms_sign_canonical_uri);
}

/* canonical_query(query) */
static int sign_canonical_query(lua_State *L)
{
    return run_text_stage(L, csms_sign_canonical_query);
}

/* canonical_headers(request) */
static int sign_canonical_headers(lua_State *L)
{
    return run_header_stage(L, csms_sign_canonical_headers);
}

/* signed_headers(request) */
static int sign_signed_headers(lua_State *L)
{
    return run_header_stage(L, csms_sign_signed_headers);
}

/* payload_hash(request) */
static int sign_payload_hash(lua_State *L)
{
    return run_request_stage(L, csms_sign_payload_hash);
}

/* canonical_request(request) */
static int sign_canonical_request(lua_State *L)
{
    return run_request_stage(L, csms_sign_canonical_request);
}

/* scope(request) */
static int sign_scope(lua_State *L)
{
    struct csms_sign_request request;
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;

    check_request(L, 1, &request);
    return push_result(
        L, csms_sign_scope(check_algorithm(L, 1), &request, out, &err), out,
        &err);
}

/* string_to_sign(request, canonical_request) */
static int sign_string_to_sign(lua_State *L)
{
    struct csms_sign_request request;
    struct csms_span canonical = lcsms_check_span(L, 2);
    struct csms_signer *signer = new_signer(L);
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;
    int failed = 0;

    check_request(L, 1, &request);
    failed = csms_signer_init(signer, check_algorithm(L, 1), &err) ||
             csms_sign_string_to_sign(signer, &request, canonical, out, &err);
    return push_result(L, failed, out, &err);
}

/* key(request, ak, sk, scope): the key of the HMAC */
static int sign_key(lua_State *L)
{
    const char *ak = luaL_checkstring(L, 2);
    const char *sk = luaL_checkstring(L, 3);
    struct csms_span scope = lcsms_check_span(L, 4);
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;

    luaL_checktype(L, 1, LUA_TTABLE);
    return push_result(
        L, csms_sign_key(check_algorithm(L, 1), ak, sk, scope, out, &err), out,
        &err);
}

/* signature(request, key, string_to_sign) */
static int sign_signature(lua_State *L)
{
    struct csms_span key = lcsms_check_span(L, 2);
    struct csms_span text = lcsms_check_span(L, 3);
    struct csms_signer *signer = new_signer(L);
    struct csms_buf *out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    struct csms_err err;
    int failed = 0;

    luaL_checktype(L, 1, LUA_TTABLE);
    failed = csms_signer_init(signer, check_algorithm(L, 1), &err) ||
             csms_signer_set_key(signer, key, &err) ||
             csms_sign_signature(signer, text, out, &err);
    return push_result(L, failed, out, &err);
}

/* authorization(request, credential): all stages, the header's value */
static int sign_authorization(lua_State *L)
{
    struct csms_sign_request request;
    struct csms_buf *out = NULL;
    struct csms_cred *cred = NULL;
    struct csms_err err;

    lua_settop(L, 2);
    out = lcsms_new_buf(L, CSMS_SIGN_MAX_TEXT);
    check_request(L, 1, &request);
    if (lcsms_opt_cred(L, 2, &cred, &err))
        return lcsms_fail(L, &err);
    luaL_argcheck(L, cred && !csms_cred_auth_token(cred), 2,
                  "a credential with keys expected");
    return push_result(
        L, csms_cred_sign(cred, check_algorithm(L, 1), &request, out, &err),
        out, &err);
}

static const luaL_Reg signer_methods[] = {
    {"__gc", signer_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"canonical_uri", sign_canonical_uri},
    {"canonical_query", sign_canonical_query},
    {"canonical_headers", sign_canonical_headers},
    {"signed_headers", sign_signed_headers},
    {"payload_hash", sign_payload_hash},
    {"canonical_request", sign_canonical_request},
    {"scope", sign_scope},
    {"string_to_sign", sign_string_to_sign},
    {"key", sign_key},
    {"signature", sign_signature},
    {"authorization", sign_authorization},
    {NULL, NULL},
};

void lcsms_open_sign(lua_State *L)
{
    lcsms_new_type(L, SIGNER, signer_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    lua_setfield(L, -2, "sign");
}
