/* SPDX-License-Identifier: MIT */
/* Other programs, and files that live for one of their runs: what the command needs to be a compiler's front. */

#include "host/program.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { SHELL_SIGNAL_BASE = 128, OPEN_DIRECTORIES = 8 };

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

int host_directory_create(char *path, size_t bytes)
{
    const char *parent = getenv("TMPDIR");

    if (parent == NULL || *parent == '\0')
        parent = "/tmp";
    if ((size_t)snprintf(path, bytes, "%s/pinion-XXXXXX", parent) >= bytes)
        return -ENAMETOOLONG;
    return mkdtemp(path) == NULL ? -errno : 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void host_directory_remove(const char *path)
{
    nftw(path, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

int host_program_directory(char *path, size_t bytes)
{
    const ssize_t length = readlink("/proc/self/exe", path, bytes - 1);

    if (length < 0)
        return -errno;
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    return 0;
}
