/* SPDX-License-Identifier: MIT */
#include "csms_handles.h"

#include <stdbool.h>

#define MAX_KEPT 256

static struct {
    size_t count;
    CURL *easy[MAX_KEPT];
} kept;

/* Before 8.1.0 libcurl keeps a pointer to the last header of a handle's last
 * answer, and writes there where the handle's next answer begins with a folded
 * line (curl/curl#11101). */
static bool can_reuse;

void csms_handles_init(void)
{
    can_reuse = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080100;
}

CURL *csms_handles_take(void)
{
    return kept.count > 0 ? kept.easy[--kept.count] : curl_easy_init();
}

void csms_handles_give(CURL *easy)
{
    if (easy && can_reuse && kept.count < MAX_KEPT) {
        curl_easy_reset(easy); /* it must not point into its transfer */
        kept.easy[kept.count++] = easy;
    } else {
        curl_easy_cleanup(easy);
    }
}

void csms_handles_free(void)
{
    while (kept.count > 0)
        curl_easy_cleanup(kept.easy[--kept.count]);
}

void csms_handles_forget(void)
{
    kept.count = 0;
}
