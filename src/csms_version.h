/* SPDX-License-Identifier: MIT
 *
 * The version, written here alone: csms._VERSION and the Makefile read it.
 */
#ifndef CSMS_VERSION_H
#define CSMS_VERSION_H

#define CSMS_VERSION "0.1.0"

#endif
