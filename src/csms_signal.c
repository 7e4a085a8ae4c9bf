/* SPDX-License-Identifier: MIT */
#include "csms_signal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t caught;

static void note(int number)
{
    if (caught == 0)
        caught = number;
}

static struct {
    int number;
    void (*handler)(int);
    int flags;
    struct sigaction former;
} signals[] = {
    /* The second one ends the process, whatever it hangs in. Not so SIGTERM,
     * which timeout(1) sends twice at once. */
    {.number = SIGINT, .handler = note, .flags = (int)SA_RESETHAND},
    {.number = SIGTERM, .handler = note},
    {.number = SIGPIPE, .handler = SIG_IGN},
};

#define COUNT (sizeof signals / sizeof *signals)

static bool catching;

/* Puts back the handlers of the first `count`. */
static void restore(size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)sigaction(signals[i].number, &signals[i].former, NULL);
}

/* Sets the handler of one, unless it is ignored: so it is meant to be. */
static int set(size_t i, struct sigaction *action)
{
    if (sigaction(signals[i].number, NULL, &signals[i].former) != 0)
        return -1;
    if (signals[i].former.sa_handler == SIG_IGN)
        return 0;
    action->sa_handler = signals[i].handler;
    action->sa_flags = signals[i].flags;
    return sigaction(signals[i].number, action, NULL);
}

int csms_signal_catch(struct csms_err *err)
{
    struct sigaction action;

    if (catching)
        return 0;
    memset(&action, 0, sizeof action);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaddset(&action.sa_mask, SIGINT);
    (void)sigaddset(&action.sa_mask, SIGTERM);
    caught = 0;
    for (size_t i = 0; i < COUNT; i++) {
        if (set(i, &action) != 0) {
            csms_err_set(err, CSMS_CONFIG, "signals cannot be caught");
            csms_err_cause(err, strerror(errno));
            restore(i);
            return -1;
        }
    }
    catching = true;
    return 0;
}

int csms_signal_caught(void)
{
    return caught;
}

void csms_signal_release(void)
{
    if (!catching)
        return;
    restore(COUNT);
    catching = false;
    caught = 0;
}
