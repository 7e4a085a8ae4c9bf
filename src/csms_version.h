/* SPDX-License-Identifier: MIT
 *
 * The version, written here alone: csms._VERSION reads it, and a
 * spec compares the rockspec and the CHANGELOG.
 */
#ifndef CSMS_VERSION_H
#define CSMS_VERSION_H

#define CSMS_VERSION "0.1.0"

#endif
