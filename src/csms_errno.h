/* SPDX-License-Identifier: MIT
 *
 * What the errno of a call on files is called, and what to do about it.
 */
#ifndef CSMS_ERRNO_H
#define CSMS_ERRNO_H

/* Static text. */
struct csms_errno {
    int number;
    const char *name;   /* NULL for a number that is not known here */
    const char *remedy; /* NULL: the system's text says it all */
};

/* Never NULL. */
const struct csms_errno *csms_errno_find(int number);

#endif
