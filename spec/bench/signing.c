/* SPDX-License-Identifier: MIT
 *
 * What a signature costs beside the SHA-256 blocks that it cannot do without.
 *
 *     signing ROUNDS CALLS
 *
 * Prints: the blocks; nanoseconds of a signature, of that many blocks in one
 * digest, and of digests of the same messages (medians of the rounds); and how
 * often our objects allocated in all calls after the first. Linked so that
 * allocations of the objects, and not of libraries, come here first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "csms_sign.h"

#define MAX_ROUNDS 99

static size_t allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size)
{
    allocations++;
    return __real_realloc(old, size);
}

void *__real_CRYPTO_malloc(size_t size, const char *file, int line);
void *__wrap_CRYPTO_malloc(size_t size, const char *file, int line);
void *__wrap_CRYPTO_malloc(size_t size, const char *file, int line)
{
    allocations++;
    return __real_CRYPTO_malloc(size, file, line);
}

void *__real_CRYPTO_zalloc(size_t size, const char *file, int line);
void *__wrap_CRYPTO_zalloc(size_t size, const char *file, int line);
void *__wrap_CRYPTO_zalloc(size_t size, const char *file, int line)
{
    allocations++;
    return __real_CRYPTO_zalloc(size, file, line);
}

void *__real_CRYPTO_clear_realloc(void *old, size_t from, size_t to,
                                  const char *file, int line);
void *__wrap_CRYPTO_clear_realloc(void *old, size_t from, size_t to,
                                  const char *file, int line);
void *__wrap_CRYPTO_clear_realloc(void *old, size_t from, size_t to,
                                  const char *file, int line)
{
    allocations++;
    return __real_CRYPTO_clear_realloc(old, from, to, file, line);
}

static struct csms_signer signer;
static struct csms_buf authorization;

static void check(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "signing: %s\n", what);
    exit(1);
}

static struct csms_header header(const char *name, const char *value)
{
    return (struct csms_header){csms_span_of(name), csms_span_of(value)};
}

/* A backup, as the library sends it. */
static void make_request(struct csms_sign_request *request)
{
    memset(request, 0, sizeof *request);
    request->method = csms_span_of("POST");
    request->path = csms_span_of("/v1/0123456789abcdef0123456789abcdef/secrets/"
                                 "production-database/backup");
    request->date = "20261121T160000Z";
    request->headers[0] = header("Content-Type", "application/json");
    request->headers[1] = header("Host", "kms.cn-north-4.myhuaweicloud.com");
    request->headers[2] = header("X-Sdk-Date", request->date);
    request->headers[3] =
        header("X-Project-Id", "0123456789abcdef0123456789abcdef");
    request->header_count = 4;
}

static void sign_once(void)
{
    struct csms_sign_request request;
    struct csms_err err;

    make_request(&request);
    csms_buf_reset(&authorization);
    check(csms_sign(&signer, "AKIDBENCHMARK0123456",
                    "0123456789abcdefghijklmnopqrstuvwxyzABCD", &request,
                    &authorization, &err) == 0,
          "the signature");
}

/* Of a message: its bytes, 0x80 and the length. */
static size_t blocks_of(size_t len)
{
    return (len + 9 + 63) / 64;
}

#define MESSAGES 3

/* The lengths of what is hashed for each call: the canonical request, and what
 * the two halves of the HMAC hash after the key's block, which is hashed once a
 * key. There is no body; its digest is always the same. */
static void measure_messages(size_t lengths[MESSAGES])
{
    struct csms_sign_request request;
    struct csms_buf canonical;
    struct csms_buf text;
    struct csms_err err;

    make_request(&request);
    csms_buf_init(&canonical, CSMS_SIGN_MAX_TEXT);
    csms_buf_init(&text, CSMS_SIGN_MAX_TEXT);
    csms_sign_sort_headers(request.headers, request.header_count);
    check(
        csms_sign_canonical_request(&signer, &request, &canonical, &err) == 0 &&
            csms_sign_string_to_sign(
                &signer, &request, csms_buf_view(&canonical), &text, &err) == 0,
        "the texts");
    lengths[0] = canonical.len;
    lengths[1] = text.len;
    lengths[2] = SHA256_DIGEST_LENGTH;
    csms_buf_free(&canonical);
    csms_buf_free(&text);
}

static double now(void)
{
    struct timespec time = {0, 0};

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double time_signatures(int calls)
{
    double from = now();

    for (int i = 0; i < calls; i++)
        sign_once();
    return (now() - from) / calls;
}

static unsigned char message[4096];

/* Of digests of messages of these lengths, `calls` times. */
static double time_digests(int calls, const size_t *lengths, int count)
{
    EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    double from = now();

    check(md && ctx, "no SHA-256");
    for (int i = 0; i < calls; i++)
        for (int part = 0; part < count; part++)
            check(EVP_DigestInit_ex2(ctx, md, NULL) &&
                      EVP_DigestUpdate(ctx, message, lengths[part]) &&
                      EVP_DigestFinal_ex(ctx, digest, NULL),
                  "a digest");
    from = (now() - from) / calls;
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(md);
    return from;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *list, int count)
{
    qsort(list, (size_t)count, sizeof *list, compare);
    return list[count / 2];
}

int main(int argc, char **argv)
{
    static double signatures[MAX_ROUNDS];
    static double blocks[MAX_ROUNDS];
    static double messages[MAX_ROUNDS];
    size_t lengths[MESSAGES];
    size_t count = 0;
    size_t allocated = 0;
    size_t whole = 0; /* the length of a message of all the blocks */
    int rounds = argc == 3 ? atoi(argv[1]) : 0;
    int calls = argc == 3 ? atoi(argv[2]) : 0;
    struct csms_err err;

    check(rounds > 0 && rounds <= MAX_ROUNDS && calls > 0, "ROUNDS CALLS");
    csms_buf_init(&authorization, CSMS_SIGN_MAX_TEXT);
    check(csms_signer_init(&signer, CSMS_SDK_HMAC_SHA256, &err) == 0,
          "the signer");
    sign_once();
    check(allocations > 0, "allocations are not counted");
    measure_messages(lengths);
    for (int part = 0; part < MESSAGES; part++)
        count += blocks_of(lengths[part]);
    whole = 64 * count - 9;
    for (int i = 0; i < rounds; i++) {
        size_t before = allocations;

        signatures[i] = time_signatures(calls);
        allocated += allocations - before;
        blocks[i] = time_digests(calls, &whole, 1);
        messages[i] = time_digests(calls, lengths, MESSAGES);
    }
    printf("%zu %.1f %.1f %.1f %zu\n", count, median(signatures, rounds),
           median(blocks, rounds), median(messages, rounds), allocated);
    return 0;
}
