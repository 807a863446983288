/* SPDX-License-Identifier: MIT */
/* The memory floor: boot, what is still held at the end, shutdown, and the checker of all its invariants. */

#include "mm/state.h"
#include "mm/zones.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SYSTEM_PTE_PAGES = 8 << 18,         /* 8 GiB */
    LEAST_PTE_PAGES  = 1 << 18,         /* 1 GiB: below it the machine does not boot */
    PAGED_POOL_PAGES = 1 << 18,         /* 1 GiB */
    SPECIAL_POOL_PAGES = 1 << 18,       /* 1 GiB: the address of a freed block is not used again for 131,072 others */
};

PVOID MmBadPointer = MM_BAD_POINTER;

/* Address space may be refused (ulimit, valgrind): half of it is better than none. */
static struct mm_space *create_system_ptes(struct machine *machine)
{
    for (size_t npages = SYSTEM_PTE_PAGES; npages >= LEAST_PTE_PAGES; npages /= 2) {
        struct mm_space *space = mm_space_create(machine, MM_KIND_SYSTEM_PTE, NULL, npages);

        if (space == NULL)
            continue;
        space->kept = machine->options.verifier == 0 ? mm_kept_create() : NULL;
        return space;
    }
    return NULL;
}

static void end_space(struct machine *machine, struct mm_space *space)
{
    if (space->process != NULL)
        mm_process_free(machine, space->process);
    else
        mm_space_destroy(machine, space);
}

static void shutdown(struct machine *machine)
{
    struct mm_state *mm = machine->mm;

    host_faults_remove();
    mm_pool_shutdown(machine);
    for (unsigned id = 0; id < MM_MAX_SPACES; id++)
        if (mm_space_by_id(machine, (uint8_t)id) != NULL)
            end_space(machine, mm_space_by_id(machine, (uint8_t)id));
    mm_spaces_forget(machine);
    mm_claims_shutdown(machine);
    mm_window_shutdown(machine);
    mm_frames_shutdown(machine);
    host_mutex_destroy(&mm->spaces_lock);
    free(mm);
    machine->mm = NULL;
}

static int boot_memory(struct machine *machine)
{
    struct mm_state *mm = machine->mm;
    int error = mm_frames_boot(machine);

    if (error == 0)
        error = mm_window_boot(machine);
    if (error != 0)
        return error;
    mm->system_ptes = create_system_ptes(machine);
    mm->paged_pool = mm_space_create(machine, MM_KIND_PAGED_POOL, NULL, PAGED_POOL_PAGES);
    if (machine->options.verifier & KE_VERIFIER_SPECIAL_POOL)
        mm->special_pool = mm_space_create(machine, MM_KIND_SPECIAL_POOL, NULL, SPECIAL_POOL_PAGES);
    mm->initial_process = mm_process_new(machine, "initial");
    if (mm->system_ptes == NULL || mm->paged_pool == NULL || mm->initial_process == NULL)
        return -ENOMEM;
    PsInitialSystemProcess = mm->initial_process;
    return mm_pool_boot(machine);
}

static int boot(struct machine *machine)
{
    int error;

    machine->mm = calloc(1, sizeof(*machine->mm));
    if (machine->mm == NULL)
        return -ENOMEM;
    host_mutex_init(&machine->mm->spaces_lock);
    mm_claims_boot(machine);
    error = boot_memory(machine);
    if (error == 0)
        error = host_faults_install(mm_on_fault);
    if (error != 0)
        shutdown(machine);
    return error;
}

static void report_contiguous(void)
{
    const int64_t left = ke_sum(KE_CONTIGUOUS_BLOCKS);

    if (left != 0)
        ke_warn("contiguous-leak", "%lld blocks of contiguous memory were never freed", (long long)left);
}

/* What the verifier's record, which knows who and where, does not tell. */
static void check(struct machine *machine)
{
    const int64_t locked = ke_locked_pages();
    const int64_t mappings = ke_system_mappings();
    const char *why;

    VERIFY(mm_check(machine, &why));
    if (machine->options.verifier & KE_VERIFIER_POOL_TRACKING) {
        mm_pool_report_leaks(machine);
        report_contiguous();
    }
    if (machine->options.verifier != 0)
        return;
    if (locked != 0)
        ke_warn("pages-left-locked", "%lld page locks were never undone; run with verifier=on to see whose", (long long)locked);
    if (mappings != 0)
        ke_warn("mappings-left", "%lld system mappings were never undone; run with verifier=on to see whose", (long long)mappings);
}

const struct ke_floor mm_floor = {
    .name = "mm", .boot = boot, .check = check, .shutdown = shutdown, .thread_exit = mm_claims_leave_thread};

/* ---- the checker ---- */

/* What the table says about neighbours is true of the next one, and so of all of them. */
static bool check_run(const struct machine *machine, const struct mm_space *space, uint32_t i, uint32_t page)
{
    uint32_t next;

    return space->runs[i] >= 1
        && (space->runs[i] == 1
            || (space->region_of[i + 1] == space->region_of[i] && space->runs[i + 1] == space->runs[i] - 1
                && mm_page_of_pfn(machine, space->pfns[i + 1], &next) && next == page + 1));
}

static bool check_used_page(const struct machine *machine, const struct mm_space *space, uint32_t i, const char **why)
{
    const uint8_t attributes = atomic_load(&space->attrs[i]);
    const struct mm_frame *frame;
    uint32_t page;

    if (attributes & MM_ALIAS)
        return true;
    *why = "a page of a region has no frame";
    if (!mm_page_of_pfn(machine, space->pfns[i], &page))
        return false;
    frame = mm_frame(machine, page);
    *why = "a frame does not know the page that owns it";
    if (mm_frame_state(machine, page) != MM_FRAME_SPACE || frame->owner_space != space->id || frame->owner_page != i)
        return false;
    *why = "neighbours in the RAM file are none";
    if (!check_run(machine, space, i, page))
        return false;
    *why = "a zombie page has no region that is pinned";
    return !(attributes & MM_RESIDENT) || !(attributes & MM_ZOMBIE);
}

static bool check_space(const struct machine *machine, struct mm_space *space, const char **why)
{
    uint64_t nused = 0;
    bool holds = true;

    host_mutex_lock(&space->lock);
    for (uint32_t r = 0; r < space->nregions && holds; r++) {
        const struct mm_region *region = &space->regions[r];

        nused += region->npages;
        for (uint32_t i = region->first; i < region->first + region->npages && holds; i++) {
            *why = "attributes and regions disagree";
            holds = atomic_load(&space->attrs[i]) != 0 && space->region_of[i] == r + 1
                && check_used_page(machine, space, i, why);
        }
    }
    if (holds && nused != space->nused) {
        *why = "the number of used pages is not the sum over the regions";
        holds = false;
    }
    holds = holds && mm_kept_check_locked(space, why);
    host_mutex_unlock(&space->lock);
    return holds;
}

static bool check_zones(struct mm_zones *zones, const char **why)
{
    bool holds = true;

    host_mutex_lock(&zones->lock);
    for (unsigned i = 0; i < zones->nzones && holds; i++)
        holds = rtl_buddy_check(&zones->zone[i].buddy, why);
    host_mutex_unlock(&zones->lock);
    return holds;
}

bool mm_check(struct machine *machine, const char **why)
{
    *why = NULL;
    for (unsigned id = 0; id < MM_MAX_SPACES; id++) {
        struct mm_space *space = mm_space_by_id(machine, (uint8_t)id);

        if (space != NULL && !check_space(machine, space, why))
            return false;
    }
    return check_zones(machine->mm->zones, why);
}
