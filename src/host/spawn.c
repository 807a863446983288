/* SPDX-License-Identifier: MIT */
/* Other programs: what the command needs to be a compiler's front. */

#include "host/program.h"

#include <errno.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { SHELL_SIGNAL_BASE = 128 };

int host_run(char *const argv[], int *code)
{
    pid_t child;
    int status, error = posix_spawnp(&child, argv[0], NULL, NULL, argv, environ);

    if (error != 0)
        return -error;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : SHELL_SIGNAL_BASE + WTERMSIG(status);
    return 0;
}
