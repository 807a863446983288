/* SPDX-License-Identifier: MIT */
/*
 * What the command asks of Linux beyond what the library needs: a scratch copy of a file, ctrl-C, an exit code for stops, and
 * child processes (child.c), other programs (spawn.c), directories and names (paths.c).
 * The rules of host.h hold here too.
 */
#ifndef PINION_HOST_PROGRAM_H
#define PINION_HOST_PROGRAM_H

#include "host/host.h"

/* A copy of a file that has no name: it is gone when the process is, however that ends. */
struct host_scratch {
    int  fd;
    char path[32];              /* opens it, in this process */
};

/* Make the copy in that directory. -EINTR after an interrupt. */
int  host_scratch_create(struct host_scratch *scratch, const struct host_file *from, const char *directory);
void host_scratch_destroy(struct host_scratch *scratch);

/* From now on the first SIGINT, SIGTERM or SIGHUP only makes host_interrupted() true; the second ends the process. */
void host_interrupts_catch(void);

/* In a child, which gets the terminal's signals and its parent's: none ends it, the parent does. */
void host_interrupts_leave_to_parent(void);
bool host_interrupted(void);

/* From now on an abort ends the process with this exit code; a debugger still sees the signal first. */
void host_exit_on_abort(int code);

/* ---- child.c ---- */

struct host_child {
    int  pid;
    int  from;                  /* what it sends */
    int  printed;               /* what it prints; -1: that is not kept */
    bool ended;
    int  signal, code;          /* once it has ended: the signal that ended it, or 0 and its exit code */
};

/* Its result is the exit code. */
typedef int host_child_body(int to_parent, void *context);

/* A child ends with these codes where it could not be set up, and (by host_exit_on_abort) where it aborted. */
enum { HOST_CHILD_UNUSABLE = 125, HOST_CHILD_ABORTED = 134 };

/*
 * Run the body in a child of this process, which must have no other threads. What it prints on stdout goes to stderr; kept, both go to a
 * memory file. It dies with its parent.
 */
int host_child_start(struct host_child *child, bool keep_printed, host_child_body *body, void *context);

/* Bytes that it sent: how many; 0: it has ended, and none will come any more; -EAGAIN: none for so long. */
ssize_t host_child_receive(struct host_child *child, void *buffer, size_t bytes, int64_t timeout_ns);

void   host_child_signal(const struct host_child *child, bool kill_it);     /* SIGTERM, or SIGKILL */
void   host_child_wait(struct host_child *child);
size_t host_child_printed(const struct host_child *child, char *text, size_t bytes);    /* the last of it; how many bytes */
void   host_child_close(struct host_child *child);                          /* forget what it printed */

/* ---- dwarf.c ---- */

/* Called for each frame, the innermost of each thread first; threads are counted from 1. */
typedef void host_frame_fn(unsigned thread, const struct host_place *place, void *context);

/* Where the threads of a child are. It is stopped meanwhile. No frame: the system does not permit it to be looked at. */
void host_process_stacks(int pid, host_frame_fn *frame, void *context);

/* ---- child.c ---- */

int host_write_all(int fd, const void *from, size_t bytes);

/* ---- spawn.c ---- */

/* Run a program that is found as the shell finds it, and wait: *code is its exit code, or 128 and the signal that ended it. */
int  host_run(char *const argv[], int *code);

/* ---- paths.c ---- */

/* A directory of the caller's own under $TMPDIR; remove it with all that is in it. */
int  host_directory_create(char *path, size_t bytes);
void host_directory_remove(const char *path);

/* Where this program's file lies. */
int  host_program_directory(char *path, size_t bytes);

/* Make all directories that this file's path goes through. */
int  host_directories_make(const char *path);
bool host_file_exists(const char *path);        /* and is no directory */

/* All of a file, and a 0 behind it, in memory to be freed; NULL: it cannot be read. */
char *host_file_text(const char *path);

/* The file of that name below a directory as Windows finds it: in any case, behind '/' or '\'. */
bool host_find_ignoring_case(const char *directory, const char *name, char *path, size_t bytes);

#endif
