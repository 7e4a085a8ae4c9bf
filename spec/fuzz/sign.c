/* SPDX-License-Identifier: MIT
 *
 * Signing against a second implementation (naive.c). Fields: algorithm (one
 * byte), ak, sk, date, region, service, method, path, query, headers as
 * "name:value" up to an empty field; the rest is the body.
 */
#include <stdlib.h>
#include <string.h>

#include "naive.h"

static const char *const names[] = {"SDK-HMAC-SHA256", "SDK-HMAC-SM3",
                                    "V11-HMAC-SHA256"};

struct input {
    enum csms_algorithm algorithm;
    char *ak;
    char *sk;
    char *date;
    char *region;
    char *service;
    struct csms_sign_request request;
};

static void read_headers(struct csms_span *rest,
                         struct csms_sign_request *request)
{
    for (;;) {
        struct csms_span field = fuzz_field(rest);
        const char *colon = memchr(field.data, ':', field.len);
        size_t name = colon ? (size_t)(colon - field.data) : field.len;

        if (field.len == 0 || request->header_count == CSMS_SIGN_MAX_HEADERS)
            return;
        request->headers[request->header_count++] = (struct csms_header){
            {field.data, name},
            {colon ? colon + 1 : "", colon ? field.len - name - 1 : 0}};
    }
}

/* A credential refuses empty keys; a date has 16 characters (csms_sign.h). */
static char *or_default(char *string, const char *otherwise)
{
    if (string)
        return string;
    string = strdup(otherwise);
    CHECK(string);
    return string;
}

static void read_input(struct csms_span rest, struct input *input)
{
    struct csms_sign_request *request = &input->request;

    memset(input, 0, sizeof *input);
    input->algorithm = (enum csms_algorithm)(fuzz_byte(fuzz_field(&rest)) % 3);
    input->ak = or_default(fuzz_string(fuzz_field(&rest)), "AK");
    input->sk = or_default(fuzz_string(fuzz_field(&rest)), "SK");
    input->date = fuzz_string(fuzz_field(&rest));
    if (input->date && strlen(input->date) != CSMS_SIGN_DATE_LEN) {
        free(input->date);
        input->date = NULL;
    }
    input->date = or_default(input->date, "20261121T160000Z");
    input->region = fuzz_string(fuzz_field(&rest));
    input->service = fuzz_string(fuzz_field(&rest));
    request->date = input->date;
    request->region = input->region;
    request->service = input->service;
    request->method = fuzz_field(&rest);
    request->path = fuzz_field(&rest);
    request->query = fuzz_field(&rest);
    read_headers(&rest, request);
    request->body = rest;
}

static void free_input(struct input *input)
{
    free(input->ak);
    free(input->sk);
    free(input->date);
    free(input->region);
    free(input->service);
}

/* What cannot be signed: V11 without a scope or with one over its cap, and a
 * query of too many parameters. */
static bool can_be_signed(const struct input *input)
{
    const struct csms_sign_request *request = &input->request;
    struct fuzz_text query = {NULL, 0, 0};
    size_t pairs = 0;

    query = naive_query(request->query, &pairs);
    free(query.data);
    if (pairs > CSMS_SIGN_MAX_QUERY)
        return false;
    if (input->algorithm != CSMS_V11_HMAC_SHA256)
        return true;
    return request->region && *request->region && request->service &&
           *request->service &&
           strlen(request->region) + strlen(request->service) + 10 <= 256;
}

/* What is canonical already stays as it is. */
static void check_idempotence(const struct csms_sign_request *request)
{
    struct fuzz_text uri = naive_uri(request->path);
    size_t pairs = 0;
    struct fuzz_text query = naive_query(request->query, &pairs);
    struct csms_buf again;
    struct csms_err err;

    csms_buf_init(&again, CSMS_SIGN_MAX_TEXT);
    CHECK(csms_sign_canonical_uri(fuzz_view(&uri), &again, &err) == 0);
    fuzz_check_same("the canonical path's canonical path",
                    csms_buf_view(&again), fuzz_view(&uri));
    csms_buf_reset(&again);
    CHECK(csms_sign_canonical_query(fuzz_view(&query), &again, &err) == 0);
    fuzz_check_same("the canonical query's canonical query",
                    csms_buf_view(&again), fuzz_view(&query));
    csms_buf_free(&again);
    free(uri.data);
    free(query.data);
}

static int sign(struct csms_signer *signer, const struct input *input,
                struct csms_buf *out, struct csms_err *err)
{
    struct csms_sign_request request = input->request; /* it sorts headers */

    csms_buf_reset(out);
    return csms_sign(signer, input->ak, input->sk, &request, out, err);
}

/* The same signature from the same signer after one for another scope. */
static void check_again(struct csms_signer *signer, const struct input *input,
                        struct csms_span expected)
{
    struct input other = *input;
    struct csms_buf out;
    struct csms_err err;

    csms_buf_init(&out, CSMS_SIGN_MAX_TEXT);
    other.request.region = "elsewhere-1";
    other.request.service = "csms";
    CHECK(sign(signer, &other, &out, &err) == 0);
    CHECK(sign(signer, input, &out, &err) == 0);
    fuzz_check_same("a second signature", csms_buf_view(&out), expected);
    csms_buf_free(&out);
}

static void check_signature(struct csms_signer *signer,
                            const struct input *input, struct csms_span ours)
{
    const char *name = names[input->algorithm];
    struct fuzz_text canonical = naive_request(name, &input->request);
    struct fuzz_text expected =
        naive_authorization(name, input->ak, input->sk, &input->request);

    fuzz_check_same("the canonical request", csms_buf_view(&signer->canonical),
                    fuzz_view(&canonical));
    fuzz_check_same("Authorization", ours, fuzz_view(&expected));
    check_again(signer, input, fuzz_view(&expected));
    check_idempotence(&input->request);
    free(canonical.data);
    free(expected.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_text text = fuzz_input(data, size);
    struct csms_signer signer;
    struct input input;
    struct csms_buf out;
    struct csms_err err;

    read_input(fuzz_view(&text), &input);
    csms_buf_init(&out, CSMS_SIGN_MAX_TEXT);
    CHECK(csms_signer_init(&signer, input.algorithm, &err) == 0);
    if (sign(&signer, &input, &out, &err) == 0) {
        CHECK(can_be_signed(&input));
        check_signature(&signer, &input, csms_buf_view(&out));
    } else {
        CHECK(!can_be_signed(&input));
        fuzz_check_error(&err);
    }
    csms_signer_free(&signer);
    csms_buf_free(&out);
    free_input(&input);
    free(text.data);
    return 0;
}
