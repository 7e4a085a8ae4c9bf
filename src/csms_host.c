/* SPDX-License-Identifier: MIT */
#include "csms_host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dlfcn.h>
#include <link.h>
#include <openssl/crypto.h>
#include <openssl/opensslv.h>

struct question {
    uintptr_t address;
    bool in_program;
};

/* The first object is the program itself (dl_iterate_phdr(3)). */
static int look_at_program(struct dl_phdr_info *info, size_t size, void *user)
{
    struct question *question = user;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            question->address >= start &&
            question->address - start < info->dlpi_phdr[i].p_memsz)
            question->in_program = true;
    }
    return 1;
}

/* Whether the dynamic linker finds `symbol` in the program itself. */
static bool comes_from_program(const char *symbol)
{
    struct question question = {(uintptr_t)dlsym(RTLD_DEFAULT, symbol), false};

    if (question.address != 0)
        (void)dl_iterate_phdr(look_at_program, &question);
    return question.in_program;
}

int csms_host_check(struct csms_err *err)
{
    if (comes_from_program("SSL_CTX_new") ||
        comes_from_program("EVP_DigestInit_ex"))
        return csms_err_set(err, CSMS_CONFIG,
                            "this program brings an OpenSSL of its own and "
                            "exports it, so that libcurl would call it; use "
                            "one that is linked with the system's libssl "
                            "(Debian's nginx is)");
    if (OPENSSL_version_major() != OPENSSL_VERSION_MAJOR)
        return csms_err_set(err, CSMS_CONFIG,
                            "built for OpenSSL %d, but OpenSSL %u is loaded; "
                            "build csms again",
                            OPENSSL_VERSION_MAJOR, OPENSSL_version_major());
    return 0;
}
