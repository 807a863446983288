/* SPDX-License-Identifier: MIT */
/*
 * Copies of what there is, for printers. A printer may run while any lock is held, by its own thread too: it asks for one only for a
 * moment, and says that it could not look when it does not get it.
 */

#include "mm/state.h"

#include <stdio.h>

bool mm_list_regions(struct mm_space *space, struct mm_region *regions, size_t room, size_t *total, size_t *npages)
{
    *total = 0;
    if (!host_mutex_lock_within(&space->lock, ke_patience_ns()))
        return false;
    for (uint32_t i = 0; i < space->nregions; i++) {
        if (space->regions[i].npages == 0 || space->regions[i].kind == MM_REGION_KEPT)
            continue;
        if (*total < room)
            regions[*total] = space->regions[i];
        ++*total;
    }
    *npages = space->nused - mm_kept_pages(space);
    host_mutex_unlock(&space->lock);
    return true;
}

static struct mm_locked_space locks_of(const struct machine *machine, struct mm_space *space)
{
    struct mm_locked_space out = {.busy = !host_mutex_lock_within(&space->lock, ke_patience_ns())};

    snprintf(out.name, sizeof(out.name), "%s", space->process != NULL ? space->process->name : "paged pool");
    for (uint32_t i = 0; i < space->nregions && !out.busy; i++)
        out.pins += mm_space_pins_on(machine, space, space->regions[i].first, space->regions[i].npages);
    if (!out.busy)
        host_mutex_unlock(&space->lock);
    return out;
}

/* The table's lock keeps spaces from going away. */
bool mm_list_locked(struct machine *machine, struct mm_locked_space *spaces, size_t room, size_t *n)
{
    *n = 0;
    if (!host_mutex_lock_within(&machine->mm->spaces_lock, ke_patience_ns()))
        return false;
    for (unsigned id = 0; id < MM_MAX_SPACES && *n < room; id++) {
        struct mm_space *space = mm_space_by_id(machine, (uint8_t)id);

        if (space != NULL && space->pins != NULL)
            spaces[(*n)++] = locks_of(machine, space);
    }
    host_mutex_unlock(&machine->mm->spaces_lock);
    return true;
}

/* The address is compared only; a process whose space is in the table has not ended. */
bool mm_process_name(struct machine *machine, const void *process, char *name, size_t bytes)
{
    bool found = false;

    if (process == NULL || !host_mutex_lock_within(&machine->mm->spaces_lock, ke_patience_ns()))
        return false;
    for (unsigned id = 0; id < MM_MAX_SPACES && !found; id++) {
        const struct mm_space *space = mm_space_by_id(machine, (uint8_t)id);

        found = space != NULL && space->process == process;
        if (found)
            snprintf(name, bytes, "%s", space->process->name);
    }
    host_mutex_unlock(&machine->mm->spaces_lock);
    return found;
}
