/* SPDX-License-Identifier: MIT */
/* The scratch copy, the interrupts and the stops of the command. */

#include "host/program.h"

#include <errno.h>
#include <fcntl.h>
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

static void catch_interrupts(int flags)
{
    const struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART | flags};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

void host_interrupts_catch(void)
{
    catch_interrupts((int)SA_RESETHAND);
}

void host_interrupts_leave_to_parent(void)
{
    catch_interrupts(0);
}

bool host_interrupted(void)
{
    return interrupted != 0;
}

static int abort_code;

static void leave(int signal)
{
    (void)signal;
    _exit(abort_code);
}

void host_exit_on_abort(int code)
{
    const struct sigaction action = {.sa_handler = leave};

    abort_code = code;
    sigaction(SIGABRT, &action, NULL);
}

/* ---- the scratch copy ---- */

static int copy_chunk(int fd, const struct host_file *from, uint64_t off, char *buffer)
{
    const uint64_t left = from->bytes - off;
    const size_t bytes = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
    int error;

    if (host_interrupted())
        return -EINTR;
    error = host_file_read(from, off, buffer, bytes);
    return error != 0 ? error : host_write_all(fd, buffer, bytes);
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

/* A new file without a name; where the file system has none such, one whose name lives only for a moment. */
static int open_nameless(const char *directory)
{
    const int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char name[4096];
    int named;

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    if ((size_t)snprintf(name, sizeof(name), "%s/pinion-scratch-%d", directory, (int)getpid()) >= sizeof(name)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    named = open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (named >= 0)
        unlink(name);
    return named;
}

int host_scratch_create(struct host_scratch *scratch, const struct host_file *from, const char *directory)
{
    int error;

    scratch->fd = open_nameless(directory);
    if (scratch->fd < 0)
        return -errno;
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
