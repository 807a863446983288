/* SPDX-License-Identifier: MIT */
/* The MDL floor: boot, what is still alive at the end, shutdown. */

#include "mdl/state.h"

#include <errno.h>
#include <stdlib.h>

static int boot_blocks(struct machine *machine)
{
    int error = mdl_blocks_boot(machine);

    if (error != 0)
        return error;
    error = mdl_special_boot(machine);
    if (error != 0)
        mdl_blocks_shutdown(machine);
    return error;
}

static int boot(struct machine *machine)
{
    int error;

    machine->mdl = calloc(1, sizeof(*machine->mdl));
    if (machine->mdl == NULL)
        return -ENOMEM;
    error = boot_blocks(machine);
    if (error != 0) {
        free(machine->mdl);
        machine->mdl = NULL;
    }
    return error;
}

static void check(struct machine *machine)
{
    const int64_t live = ke_live_mdls();

    if (machine->options.verifier == 0 && live != 0)
        ke_warn("mdl-leak", "%lld MDLs were never freed; run with verifier=on to see whose", (long long)live);
}

static void shutdown(struct machine *machine)
{
    mdl_special_shutdown(machine);
    mdl_blocks_shutdown(machine);
    free(machine->mdl);
    machine->mdl = NULL;
}

const struct ke_floor mdl_floor = {
    .name = "mdl", .boot = boot, .check = check, .shutdown = shutdown, .thread_exit = mdl_blocks_leave_thread};
