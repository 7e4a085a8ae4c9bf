/* SPDX-License-Identifier: MIT
 *
 * The credentials file of the official SDKs ($HOME/.huaweicloud/credentials):
 * an INI file whose section [basic] has ak, sk and perhaps security_token,
 * project_id and iam_endpoint (csms-api.md 4.1). It is read and parsed here, so
 * that the secret key is nowhere but in wiped C memory.
 */
#ifndef CSMS_PROFILE_H
#define CSMS_PROFILE_H

#include <stdbool.h>

#include "csms_buf.h"
#include "csms_cred.h"
#include "csms_err.h"

struct csms_profile {
    struct csms_cred *cred; /* NULL where [basic] has not both ak and sk */
    struct csms_buf project_id;
    struct csms_buf iam_endpoint;
    bool found; /* false: there is no such file, or no section [basic] */
    bool loose; /* others than the owner may read the file */
};

/* Reads `path`. Returns 0, or -1 with `err` (kind credentials) for a file that
 * cannot be read or is no such INI file. What it fills is the caller's to free,
 * after a failure too. `profile` may be uninitialised. */
int csms_profile_read(const char *path, struct csms_profile *profile,
                      struct csms_err *err);

/* Wipes and frees what it still holds. */
void csms_profile_free(struct csms_profile *profile);

#endif
