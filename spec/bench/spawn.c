/* SPDX-License-Identifier: MIT
 *
 * Whole processes, in turns:
 *
 *     spawn ROUNDS -- COMMAND... [-- COMMAND...]...
 *
 * Prints a line for each command: medians of seconds, CPU seconds and peak
 * resident KiB. Their standard output is thrown away; a failure ends it all.
 * It is small, because a child's peak begins with what its parent has.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define MAX_COMMANDS 8
#define MAX_ROUNDS 999

extern char **environ;

static double results[MAX_COMMANDS][3][MAX_ROUNDS];

static void fail(const char *what)
{
    fprintf(stderr, "spawn: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec time = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void run(char **command, int index, int round)
{
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    pid_t pid = 0;
    int status = 0;
    double from = 0;

    if (posix_spawn_file_actions_init(&actions) ||
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0))
        fail("no memory");
    from = now();
    if (posix_spawnp(&pid, command[0], &actions, NULL, command, environ))
        fail(command[0]);
    if (wait4(pid, &status, 0, &usage) != pid || status != 0)
        fail("a command failed");
    results[index][0][round] = now() - from;
    results[index][1][round] =
        seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    results[index][2][round] = (double)usage.ru_maxrss;
    (void)posix_spawn_file_actions_destroy(&actions);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *list, int count)
{
    qsort(list, (size_t)count, sizeof *list, compare);
    return list[count / 2];
}

int main(int argc, char **argv)
{
    char **commands[MAX_COMMANDS];
    int count = 0;
    int rounds = argc > 3 ? atoi(argv[1]) : 0;

    if (rounds < 1 || rounds > MAX_ROUNDS)
        fail("ROUNDS -- COMMAND...");
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        argv[i] = NULL;
        if (count == MAX_COMMANDS)
            fail("too many commands");
        commands[count++] = &argv[i + 1];
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < count; i++)
            run(commands[(round + i) % count], (round + i) % count, round);
    for (int i = 0; i < count; i++)
        printf("%.6f %.6f %.0f\n", median(results[i][0], rounds),
               median(results[i][1], rounds), median(results[i][2], rounds));
    return 0;
}
