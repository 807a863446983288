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

static void report_left(const struct vf_mdl *entry)
{
    const struct vf_case of = {.mdl = entry->mdl};

    if ((entry->state & VF_MAPPED) || entry->user_mappings != 0)
        vf_warn(VF_MAPPING_LEAK, of);
    if (entry->state & VF_LOCKED)
        vf_warn(VF_LOCK_LEAK, of);
    if (entry->state & VF_ALLOCATED)
        vf_warn(entry->head_freed != NULL ? VF_CHAIN_LEAK : VF_MDL_LEAK, of);
    if (entry->state & VF_PAGES)
        vf_warn(VF_PAGES_LEAK, of);
    else if (entry->state & VF_POOL_MDL)
        vf_warn(VF_PAGES_MDL_LEAK, of);
}

/*
 * What no MDL has any more, and nobody can give back: pages of an MDL that was shortened before they were unlocked, a mapping that was made
 * twice at the same moment, device memory.
 */
static void report_orphans(struct machine *machine)
{
    const struct vf_held held = vf_sum_held(machine), told = machine->verifier->told;
    const int64_t pages = ke_locked_pages() - held.pages - told.pages;
    const int64_t mappings = ke_system_mappings() - held.mappings - told.mappings;

    if (pages > 0)
        ke_warn("pages-left-locked", "%lld page locks were never undone, and no MDL has them; an MDL was changed while it was locked", (long long)pages);
    if (mappings > 0)
        ke_warn("mappings-left", "%lld system mappings were never undone, and no MDL has them", (long long)mappings);
}

/* Nobody else is at work any more. */
static void report_reservations(struct machine *machine)
{
    const struct mm_space *space = machine->mm->system_ptes;

    for (uint32_t i = 0; i < space->nregions; i++)
        if (space->regions[i].npages != 0 && space->regions[i].kind == MM_REGION_RESERVED)
            vf_warn(VF_RESERVATION_LEAK, (struct vf_case){.made = space->regions[i].where});
}

static void check(struct machine *machine)
{
    if (machine->verifier == NULL)
        return;
    vf_mark_rest_of_chains(machine);
    vf_each(machine, report_left);
    report_orphans(machine);
    report_reservations(machine);
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
