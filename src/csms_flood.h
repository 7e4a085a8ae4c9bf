/* SPDX-License-Identifier: MIT
 *
 * Ends connections that flood. Over HTTP/2 libcurl reads on, without a look at
 * its clock, for as long as there is something to read and it is no header or
 * body of the transfer: a server that sends such frames (GOAWAY, empty DATA...)
 * faster than they are read holds it in one call, and all transfers with it.
 * But OpenSSL tells us of each record that comes, and can be told that the peer
 * has closed. So ends a connection that is read for some seconds in one call;
 * its transfers fail as on any connection that breaks.
 *
 * This takes a libcurl on the OpenSSL that we see; with another there is no
 * guard. HTTP/1 needs none: of that, libcurl reads only so much at a time.
 */
#ifndef CSMS_FLOOD_H
#define CSMS_FLOOD_H

#include <curl/curl.h>

/* Once a process, after curl_global_init(). */
void csms_flood_init(void);

/* Guards the connections that the handle opens, a new one. */
CURLcode csms_flood_set(CURL *easy);

/* Whoever drives the engine is about to call libcurl. */
void csms_flood_enter(void);

#endif
