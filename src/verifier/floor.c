/* SPDX-License-Identifier: MIT */
/* The verifier's floor: with verifier=off it boots to nothing; at the end it names each object that was left. */

#include "verifier/verifier.h"

#include <errno.h>
#include <stdlib.h>

/* What is touched at DISPATCH_LEVEL without having been locked is then found out, whether or not memory was short. */
static void trim_paged_pool(void)
{
    mm_space_trim(&ke_the_machine, ke_the_machine.mm->paged_pool);
}

static int boot(struct machine *machine)
{
    int error;

    if (machine->options.verifier == 0)
        return 0;
    machine->verifier = calloc(1, sizeof(*machine->verifier));
    if (machine->verifier == NULL)
        return -ENOMEM;
    error = vf_record_boot(machine->verifier);
    if (error != 0) {
        free(machine->verifier);
        machine->verifier = NULL;
        return error;
    }
    vf_hooks_install(&machine->hooks);
    if (machine->options.verifier & KE_VERIFIER_FORCE_IRQL)
        machine->hooks.irql_raised = trim_paged_pool;
    if (machine->options.verifier & KE_VERIFIER_DMA)
        vf_dma_hooks_install(&machine->hooks);
    return 0;
}

static void check(struct machine *machine)
{
    if (machine->verifier != NULL)
        vf_report_leaks(machine);
}

static void shutdown(struct machine *machine)
{
    if (machine->verifier == NULL)
        return;
    machine->hooks = (struct ke_hooks){0};
    vf_record_shutdown(machine->verifier);
    free(machine->verifier);
    machine->verifier = NULL;
}

const struct ke_floor verifier_floor = {.name = "verifier", .boot = boot, .check = check, .shutdown = shutdown};
