/* SPDX-License-Identifier: MIT */
/* The scratch copy and the interrupts of the command. */

#include "host/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 20 };

static volatile sig_atomic_t interrupted;

static void remember(int signal)
{
    (void)signal;
    interrupted = 1;
}

void host_interrupts_catch(void)
{
    const struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART | (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool host_interrupted(void)
{
    return interrupted != 0;
}

/* ---- the scratch copy ---- */

static int write_all(int fd, const char *from, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t written = write(fd, from, bytes);

        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            from += written;
            bytes -= (size_t)written;
        }
    }
    return 0;
}

static int copy_chunk(int fd, const struct host_file *from, uint64_t off, char *buffer)
{
    const uint64_t left = from->bytes - off;
    const size_t bytes = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
    int error;

    if (host_interrupted())
        return -EINTR;
    error = host_file_read(from, off, buffer, bytes);
    return error != 0 ? error : write_all(fd, buffer, bytes);
}

static int copy(int fd, const struct host_file *from)
{
    char *buffer = malloc(COPY_BYTES);
    int error = buffer == NULL ? -ENOMEM : 0;

    for (uint64_t off = 0; error == 0 && off < from->bytes; off += COPY_BYTES)
        error = copy_chunk(fd, from, off, buffer);
    free(buffer);
    return error;
}

int host_scratch_create(struct host_scratch *scratch, const struct host_file *from, const char *directory)
{
    char name[4096];
    int error;

    if ((size_t)snprintf(name, sizeof(name), "%s/pinion-XXXXXX", directory) >= sizeof(name))
        return -ENAMETOOLONG;
    scratch->fd = mkstemp(name);
    if (scratch->fd < 0)
        return -errno;
    unlink(name);
    snprintf(scratch->path, sizeof(scratch->path), "/proc/self/fd/%d", scratch->fd);
    error = copy(scratch->fd, from);
    if (error != 0)
        host_scratch_destroy(scratch);
    return error;
}

void host_scratch_destroy(struct host_scratch *scratch)
{
    close(scratch->fd);
}
