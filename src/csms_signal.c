/* SPDX-License-Identifier: MIT */
#include "csms_signal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t caught;

static bool catching;
static struct sigaction former_int;
static struct sigaction former_term;

static void note(int number)
{
    if (caught == 0)
        caught = number;
}

int csms_signal_catch(struct csms_err *err)
{
    struct sigaction action;

    if (catching)
        return 0;
    memset(&action, 0, sizeof action);
    action.sa_handler = note;
    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, SIGINT);
    (void)sigaddset(&action.sa_mask, SIGTERM);
    caught = 0;
    if (sigaction(SIGINT, &action, &former_int) != 0)
        goto failed;
    if (sigaction(SIGTERM, &action, &former_term) != 0) {
        (void)sigaction(SIGINT, &former_int, NULL);
        goto failed;
    }
    catching = true;
    return 0;
failed:
    csms_err_set(err, CSMS_CONFIG, "SIGINT and SIGTERM cannot be caught");
    csms_err_cause(err, strerror(errno));
    return -1;
}

int csms_signal_caught(void)
{
    return caught;
}

void csms_signal_release(void)
{
    if (!catching)
        return;
    (void)sigaction(SIGINT, &former_int, NULL);
    (void)sigaction(SIGTERM, &former_term, NULL);
    catching = false;
    caught = 0;
}
