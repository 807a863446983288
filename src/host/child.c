/* SPDX-License-Identifier: MIT */
/*
 * Child processes: work that may end its process is done in one, and the parent lives to tell.
 *
 *     parent                                   child
 *     host_child_receive  <-- pipe ----------  body(to_parent)
 *     host_child_printed  <-- memory file ---  stderr, and stdout with it
 */

#include "host/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the child's side ---- */

/* What a driver prints must not get into what the parent prints on stdout. */
static bool redirect(const struct host_child *child)
{
    return (child->printed < 0 || dup2(child->printed, STDERR_FILENO) >= 0) && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0;
}

static _Noreturn void be_child(const struct host_child *child, int to_parent, pid_t parent, host_child_body *body, void *context)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(child->from);
    if (getppid() != parent || !redirect(child))
        _exit(HOST_CHILD_UNUSABLE);
    exit(body(to_parent, context));
}

/* ---- the parent's side ---- */

static int open_printed(struct host_child *child, bool keep_printed)
{
    child->printed = keep_printed ? memfd_create("printed", MFD_CLOEXEC) : -1;
    return keep_printed && child->printed < 0 ? -errno : 0;
}

int host_child_start(struct host_child *child, bool keep_printed, host_child_body *body, void *context)
{
    const pid_t parent = getpid();
    int ends[2], error;

    *child = (struct host_child){.pid = -1};
    error = open_printed(child, keep_printed);
    if (error != 0)
        return error;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        error = -errno;
        goto close_printed;
    }
    child->from = ends[0];
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0)
        be_child(child, ends[1], parent, body, context);
    error = child->pid < 0 ? -errno : 0;
    close(ends[1]);
    if (error == 0)
        return 0;
    close(ends[0]);
close_printed:
    if (child->printed >= 0)
        close(child->printed);
    return error;
}

static void reap(struct host_child *child, int options)
{
    int status;

    if (child->ended || waitpid(child->pid, &status, options) != child->pid)
        return;
    child->ended = true;
    child->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    child->code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* Its end is what counts: another process may hold the pipe open for ever, and the child may have closed it and run on. */
ssize_t host_child_receive(struct host_child *child, void *buffer, size_t bytes, int64_t timeout_ns)
{
    static const int64_t shortly_ns = 1000000;
    struct pollfd ready = {.fd = child->from, .events = POLLIN};
    ssize_t got;

    if (poll(&ready, 1, child->ended ? 0 : (int)(timeout_ns / 1000000)) <= 0) {
        if (child->ended)
            return 0;
        reap(child, WNOHANG);
        return -EAGAIN;
    }
    do
        got = read(child->from, buffer, bytes);
    while (got < 0 && errno == EINTR);
    if (got != 0)
        return got < 0 ? -errno : got;
    reap(child, WNOHANG);
    if (child->ended)
        return 0;
    host_sleep_ns(shortly_ns);
    return -EAGAIN;
}

void host_child_signal(const struct host_child *child, bool kill_it)
{
    if (!child->ended)
        kill(child->pid, kill_it ? SIGKILL : SIGTERM);
}

void host_child_wait(struct host_child *child)
{
    while (!child->ended)
        reap(child, 0);
    close(child->from);
}

size_t host_child_printed(const struct host_child *child, char *text, size_t bytes)
{
    const off_t end = child->printed < 0 ? 0 : lseek(child->printed, 0, SEEK_END);
    const ssize_t got = end <= 0 ? 0 : pread(child->printed, text, bytes, end > (off_t)bytes ? end - (off_t)bytes : 0);

    return got < 0 ? 0 : (size_t)got;
}

void host_child_close(struct host_child *child)
{
    if (child->printed >= 0)
        close(child->printed);
}

/* ---- both ---- */

int host_write_all(int fd, const void *from, size_t bytes)
{
    const char *at = from;

    while (bytes > 0) {
        const ssize_t written = write(fd, at, bytes);

        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            at += written;
            bytes -= (size_t)written;
        }
    }
    return 0;
}
