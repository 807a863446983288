/* SPDX-License-Identifier: MIT */
/* The I/O floor: boot, what is still held at the end, shutdown. */

#include "io/io.h"

#include <errno.h>
#include <stdlib.h>

static void shutdown(struct machine *machine)
{
    struct io_state *io = machine->io;

    io_caches_shutdown(machine);
    io_files_shutdown(machine);
    io_devices_shutdown(machine);
    io_drivers_shutdown(machine);
    io_irps_shutdown(machine);
    io_disks_shutdown(machine);
    host_mutex_destroy(&io->requests_lock);
    host_mutex_destroy(&io->lock);
    free(io);
    machine->io = NULL;
}

static int boot(struct machine *machine)
{
    int error;

    machine->io = calloc(1, sizeof(*machine->io));
    if (machine->io == NULL)
        return -ENOMEM;
    host_mutex_init(&machine->io->lock);
    host_mutex_init(&machine->io->requests_lock);
    InitializeListHead(&machine->io->requests);
    error = io_irps_boot(machine);
    if (error == 0)
        error = io_disks_boot(machine);
    if (error == 0)
        error = io_physical_boot(machine);
    if (error != 0)
        shutdown(machine);
    return error;
}

/* First of all the disks come to rest: what is still in flight completes while the machine runs. */
static void check(struct machine *machine)
{
    io_disks_stop(machine);
    io_irps_check(machine);
    io_completions_check(machine);
    io_caches_check(machine);
    io_files_check(machine);
    io_physical_remove(machine);
    io_devices_check(machine);
}

/* Requests first: what they free goes through the thread's caches. */
static void thread_exit(struct machine *machine)
{
    io_requests_thread_exit(machine);
    io_irps_thread_exit(machine);
}

const struct ke_floor io_floor = {
    .name = "io", .boot = boot, .check = check, .shutdown = shutdown, .thread_exit = thread_exit,
    .frames_left = io_requests_frames_left};
