/* SPDX-License-Identifier: MIT */
/* The executive's own floor: its state at boot and shutdown, and what drivers print. */

#include "ke/state.h"

#include <errno.h>
#include <stdlib.h>

static int boot(struct machine *machine)
{
    struct ke_state *ke = calloc(1, sizeof(*ke));

    if (ke == NULL)
        return -ENOMEM;
    host_mutex_init(&ke->dispatcher);
    host_mutex_init(&ke->dpc_lock);
    ke_init_workers(ke);
    machine->ke = ke;
    return 0;
}

static void shutdown(struct machine *machine)
{
    struct ke_state *ke = machine->ke;

    ke_stop_workers(ke);
    host_mutex_destroy(&ke->dpc_lock);
    host_mutex_destroy(&ke->dispatcher);
    free(ke);
    machine->ke = NULL;
}

extern const struct ke_floor ke_own_floor;
const struct ke_floor ke_own_floor = {.name = "ke", .boot = boot, .shutdown = shutdown};
