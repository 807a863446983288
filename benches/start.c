/* SPDX-License-Identifier: MIT */
/* How long does a program wait for its machine? A new process boots one with 4 GiB and calls its first routine. */

#include "bench.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child: a process that has booted cannot be forked. */
static bool start_once(const char *options)
{
    const pid_t child = fork();
    int status;

    if (child == 0)
        _exit(pinion_boot(options) == 0 && IoAllocateMdl((PVOID)0x10000, PAGE_SIZE, FALSE, FALSE, NULL) != NULL ? 0 : 1);
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void start(void *context, uint64_t times)
{
    while (times-- > 0)
        if (!start_once(context))
            abort();
}

static bool is_started(void *context)
{
    return start_once(context);
}

int main(int argc, char **argv)
{
    static char plain[] = "ram=4G:verifier=off", verified[] = "ram=4G:verifier=on";
    const struct bench_case cases[] = {
        {"14", "boot to the first routine, 4 GiB", "-", 0, 10e6, start, NULL, is_started, plain, NULL},
        {"14", "the same with the verifier", "-", 0, 10e6, start, NULL, is_started, verified, NULL},
    };

    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
