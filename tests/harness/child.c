/* SPDX-License-Identifier: MIT */
/*
 * Bodies that may end the process: run in a forked child whose stderr is read through a pipe, and judged by how the
 * child ended and what it printed.
 *
 *     test process                      child
 *     fork ---------------------------> body(context)
 *     read the pipe to its end  <------ stderr: reports, the STOP line
 *     wait                      <------ SIGABRT, or exit code 0 after its end
 */

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend.h"

/* Exit codes of a child that the harness ended. A machine that was copied by fork leaves with 2. */
enum { EXIT_EXPECTATION = 99, EXIT_SKIP = 77, EXIT_COPIED_MACHINE = 2 };

#define SKIP_MARK "harness: skip: "

struct text {
    char *bytes;
    size_t length;
    size_t room;
};

/* More than this of a child's stderr is read but not kept. */
static const size_t most_kept_bytes = 1 << 20;

static bool in_child;

bool child_is_current(void)
{
    return in_child;
}

void child_fail(const struct harness_place *place, const char *message)
{
    fprintf(stderr, "harness: %s:%d: %s\n", place->file, place->line, message);
    _exit(EXIT_EXPECTATION);
}

void child_skip(const char *reason)
{
    fprintf(stderr, SKIP_MARK "%s\n", reason);
    _exit(EXIT_SKIP);
}

static void text_append(struct text *text, const char *bytes, size_t count)
{
    if (text->length + count > most_kept_bytes)
        return;
    if (text->length + count >= text->room) {
        text->room = 2 * (text->length + count) + 1024;
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes)
            abort();
    }
    memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = 0;
}

static char *read_to_end(int fd)
{
    struct text text = {0};
    char bytes[4096];
    ssize_t got;

    text_append(&text, "", 0);
    while ((got = read(fd, bytes, sizeof(bytes))) > 0 || (got < 0 && errno == EINTR)) {
        if (got > 0)
            text_append(&text, bytes, (size_t)got);
    }
    return text.bytes;
}

static int wait_for(pid_t child)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            abort();
    }
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* It leaves by _exit: the exit handlers of the runner's process are not the child's to run. */
static _Noreturn void run_child(int stderr_fd, void (*body)(void *), void *context, void (*end)(void))
{
    in_child = true;
    dup2(stderr_fd, STDERR_FILENO);
    close(stderr_fd);
    body(context);
    end();
    fflush(NULL);
    _exit(0);
}

/* The text of the line that starts with `start`, or NULL. */
static const char *find_line(const char *text, const char *start)
{
    const size_t length = strlen(start);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, start, length) == 0)
            return line + length;
    }
    return NULL;
}

bool stop_parse(const char *text, struct stop *out)
{
    unsigned long long p[4];
    unsigned code;
    char name[sizeof(out->name)];
    const char *const line = find_line(text, "*** STOP: ");

    if (!line || sscanf(line, "0x%8X (0x%llX, 0x%llX, 0x%llX, 0x%llX) %63s", &code, &p[0], &p[1], &p[2],
                        &p[3], name) != 6)
        return false;
    out->code = code;
    for (int i = 0; i < 4; i++)
        out->p[i] = p[i];
    memcpy(out->name, name, sizeof(name));
    return true;
}

unsigned stop_warnings(const struct stop *stop, const char *slug)
{
    char start[128];
    unsigned count = 0;

    snprintf(start, sizeof(start), slug ? "pinion: warning: %s: " : "pinion: warning: ", slug);
    for (const char *rest = find_line(stop->stderr_text, start); rest; rest = find_line(rest, start))
        count++;
    return count;
}

/* What the child decided for the whole test. */
static void pass_on_verdict(const struct harness_place *place, const struct stop *stop)
{
    const char *const reason = find_line(stop->stderr_text, SKIP_MARK);

    if (stop->exit_status == EXIT_SKIP && reason) {
        stop->stderr_text[strlen(stop->stderr_text) - 1] = 0;
        harness_skip(reason);
    }
    if (stop->exit_status == EXIT_EXPECTATION)
        harness_fail(place, "in the child: %s", stop->stderr_text);
    if (stop->exit_status == EXIT_COPIED_MACHINE)
        harness_fail(place, "the child left with %d; was the machine booted before the fork? %s",
                     EXIT_COPIED_MACHINE, stop->stderr_text);
    if (stop->exit_status == -SIGALRM)
        harness_fail(place, "the child took more than %u s: %s", harness_timeout(), stop->stderr_text);
}

static struct stop run(const struct harness_place *place, void (*body)(void *), void *context,
                       void (*end)(void))
{
    static char *kept_text;
    struct stop stop = {0};
    int fds[2];

    if (pipe(fds) != 0)
        abort();
    const pid_t child = harness_fork();
    if (child < 0)
        abort();
    if (child == 0) {
        close(fds[0]);
        run_child(fds[1], body, context, end);
    }
    close(fds[1]);
    alarm(harness_timeout() + 5); /* so that the child's own alarm is first */
    free(kept_text);
    stop.stderr_text = kept_text = read_to_end(fds[0]);
    close(fds[0]);
    stop.exit_status = wait_for(child);
    stop.stopped = stop_parse(stop.stderr_text, &stop) && stop.exit_status == -SIGABRT;
    pass_on_verdict(place, &stop);
    return stop;
}

struct stop harness_run_until_stop(const struct harness_place *place, void (*body)(void *), void *context)
{
    return run(place, body, context, harness_shut_down);
}

void harness_expect_stop(const struct harness_place *place, void (*body)(void *), uint32_t code,
                         bool check_p1, uint64_t p1)
{
    const struct stop stop = harness_run_until_stop(place, body, NULL);

    harness_expectations++;
    if (!stop.stopped)
        harness_fail(place, "expected STOP 0x%08X: the body ended with %d instead, and printed: %s", code,
                     stop.exit_status, stop.stderr_text);
    if (stop.code != code || (check_p1 && stop.p[0] != p1))
        harness_fail(place, "expected STOP 0x%08X (0x%llX, ...): it is 0x%08X (0x%llX, ...) in: %s", code,
                     (unsigned long long)(check_p1 ? p1 : stop.p[0]), stop.code,
                     (unsigned long long)stop.p[0], stop.stderr_text);
}

void harness_expect_warning(const struct harness_place *place, void (*body)(void *), const char *slug)
{
    const struct stop stop = harness_run_until_stop(place, body, NULL);

    harness_expectations++;
    if (stop.exit_status != 0)
        harness_fail(place, "expected a warning and an orderly end: the body ended with %d, and printed: %s",
                     stop.exit_status, stop.stderr_text);
    if (stop_warnings(&stop, slug) != 1 || stop_warnings(&stop, NULL) != 1)
        harness_fail(place, "expected the warning %s once and no other: it came %u times among %u in: %s",
                     slug, stop_warnings(&stop, slug), stop_warnings(&stop, NULL), stop.stderr_text);
}

void harness_expect_silence(const struct harness_place *place, void (*body)(void *))
{
    const struct stop stop = run(place, body, NULL, expect_idle);

    harness_expectations++;
    if (stop.exit_status != 0 || stop_warnings(&stop, NULL) != 0 || find_line(stop.stderr_text, "*** STOP"))
        harness_fail(place, "expected silence: the body ended with %d, and printed: %s", stop.exit_status,
                     stop.stderr_text);
}
