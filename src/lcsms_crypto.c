/* SPDX-License-Identifier: MIT
 *
 * Digests and random numbers as text, in Lua.
 */
#include "lcsms.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "csms_encode.h"

static int push_hex(lua_State *L, const unsigned char *bytes, size_t len)
{
    struct csms_buf *out = lcsms_new_buf(L, 2 * len);

    csms_encode_hex(out, bytes, len);
    if (out->failure)
        return luaL_error(L, "out of memory");
    lcsms_push_span(L, csms_buf_view(out));
    /* Not left to the collector: a store that is closed as its Lua state ends
     * makes one that no collector sees. */
    csms_buf_free(out);
    return 1;
}

/* sha256(data) -> 64 lower-case hex characters */
static int sha256(lua_State *L)
{
    struct csms_span data = lcsms_check_span(L, 1);
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (!EVP_Digest(data.data, data.len, bytes, &len, EVP_sha256(), NULL))
        return luaL_error(L, "OpenSSL computes no SHA-256");
    return push_hex(L, bytes, len);
}

/* random_hex(bytes) -> twice as many hex characters */
static int random_hex(lua_State *L)
{
    double len = luaL_checknumber(L, 1);
    unsigned char bytes[EVP_MAX_MD_SIZE];

    luaL_argcheck(L, len >= 1 && len <= (double)sizeof bytes, 1,
                  "1 to 64 bytes expected");
    if (RAND_bytes(bytes, (int)len) != 1)
        return luaL_error(L, "OpenSSL gives no random numbers");
    return push_hex(L, bytes, (size_t)len);
}

static const luaL_Reg functions[] = {
    {"sha256", sha256},
    {"random_hex", random_hex},
    {NULL, NULL},
};

void lcsms_open_crypto(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
