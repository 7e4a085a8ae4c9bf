/* SPDX-License-Identifier: MIT
 *
 * In a program that exports it: a thread that wants to drive the engine comes
 * up to 2 ms late, so that another one may have ended its call meanwhile.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define LATEST 2000000 /* nanoseconds */

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    static _Thread_local unsigned seed;
    struct timespec time = {0, 0};
    int (*real)(pthread_mutex_t *) = NULL;

    *(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_trylock");
    if (seed == 0)
        seed = (unsigned)(size_t)&seed >> 6;
    time.tv_nsec = rand_r(&seed) % LATEST;
    (void)nanosleep(&time, NULL);
    return real(mutex);
}
