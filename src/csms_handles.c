/* SPDX-License-Identifier: MIT */
#include "csms_handles.h"

#include <pthread.h>
#include <stdbool.h>

#define MAX_KEPT 256

static struct {
    pthread_mutex_t lock;
    size_t count;
    CURL *easy[MAX_KEPT];
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

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
    CURL *easy = NULL;

    (void)pthread_mutex_lock(&kept.lock);
    if (kept.count > 0)
        easy = kept.easy[--kept.count];
    (void)pthread_mutex_unlock(&kept.lock);
    return easy ? easy : curl_easy_init();
}

void csms_handles_give(CURL *easy)
{
    if (can_reuse) {
        curl_easy_reset(easy); /* it must not point into its transfer */
        (void)pthread_mutex_lock(&kept.lock);
        if (kept.count < MAX_KEPT) {
            kept.easy[kept.count++] = easy;
            easy = NULL;
        }
        (void)pthread_mutex_unlock(&kept.lock);
    }
    curl_easy_cleanup(easy);
}

void csms_handles_free(void)
{
    (void)pthread_mutex_lock(&kept.lock);
    while (kept.count > 0)
        curl_easy_cleanup(kept.easy[--kept.count]);
    (void)pthread_mutex_unlock(&kept.lock);
}

void csms_handles_forget(void)
{
    (void)pthread_mutex_init(&kept.lock, NULL);
    kept.count = 0;
}
