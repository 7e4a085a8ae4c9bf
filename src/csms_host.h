/* SPDX-License-Identifier: MIT
 *
 * Whether the program that loaded us lets OpenSSL be OpenSSL: one that is
 * linked with a static OpenSSL and exports its symbols (an nginx built so,
 * which links with -Wl,-E) would have libcurl and us call its copy, of another
 * version perhaps, with our library's objects.
 */
#ifndef CSMS_HOST_H
#define CSMS_HOST_H

#include "csms_err.h"

/* Returns 0, or -1 with `err` (kind config) that says what to do. */
int csms_host_check(struct csms_err *err);

#endif
