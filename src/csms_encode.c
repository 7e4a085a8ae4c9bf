/* SPDX-License-Identifier: MIT */
#include "csms_encode.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

void csms_encode_hex(struct csms_buf *out, const unsigned char *bytes,
                     size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * EVP_MAX_MD_SIZE];

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    csms_buf_append(out, text, 2 * len);
    OPENSSL_cleanse(text, 2 * len);
}

static bool is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
           c == '~';
}

bool csms_encode_is_unreserved(struct csms_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_unreserved((unsigned char)text.data[i]))
            return false;
    return true;
}

void csms_encode_percent(struct csms_buf *out, struct csms_span text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t plain = 0; /* start of the run that needs no encoding */

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (!is_unreserved(c)) {
            char escape[3] = {'%', digits[c >> 4], digits[c & 15]};

            csms_buf_append(out, text.data + plain, i - plain);
            csms_buf_append(out, escape, sizeof escape);
            plain = i + 1;
        }
    }
    csms_buf_append(out, text.data + plain, text.len - plain);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void csms_decode_percent(struct csms_buf *out, struct csms_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        int high = -1;
        int low = -1;

        if (text.data[i] == '%' && text.len - i > 2) {
            high = hex_value(text.data[i + 1]);
            low = hex_value(text.data[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            csms_buf_char(out, (char)(high * 16 + low));
            i += 2;
        } else {
            csms_buf_char(out, text.data[i]);
        }
    }
}
