/* SPDX-License-Identifier: MIT
 *
 * How libcurl is used: every option that is set, and the callbacks.
 */
#ifndef CSMS_OPTIONS_H
#define CSMS_OPTIONS_H

#include "csms_transfer.h"

/* Sets up the transfer's easy handle, which must be new; its headers
 * and its body are there already. The first failure ends it. */
CURLcode csms_options_set(struct csms_transfer *transfer);

#endif
