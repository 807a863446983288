/* SPDX-License-Identifier: MIT */
/*
 * What the command asks of Linux beyond what the library needs: a scratch copy of a file, ctrl-C, and an exit code for stops.
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

/* From now on the first SIGINT or SIGTERM only makes host_interrupted() true; the second ends the process. */
void host_interrupts_catch(void);
bool host_interrupted(void);

/* From now on an abort ends the process with this exit code; a debugger still sees the signal first. */
void host_exit_on_abort(int code);

#endif
