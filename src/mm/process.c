/* SPDX-License-Identifier: MIT */
/*
 * Processes: an address space with a name, the thread's current one, and the host API for their memory.
 *
 * Every process has room for all of RAM in its range. The machine boots with one, so that a program which needs no
 * second never has to think of it.
 */

#include "mm/state.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLACK_PAGES = 16384 };           /* of address space beyond the size of RAM: guards, and mappings by drivers */

PEPROCESS PsInitialSystemProcess;

PEPROCESS mm_process_new(struct machine *machine, const char *name)
{
    const size_t npages = machine->options.ram_bytes / HOST_PAGE_SIZE + SLACK_PAGES;
    PEPROCESS process = ke_internal_fails() ? NULL : calloc(1, sizeof(*process));

    if (process == NULL)
        return NULL;
    snprintf(process->name, sizeof(process->name), "%s", name == NULL ? "process" : name);
    process->space = mm_space_create(machine, MM_KIND_PROCESS, process, npages);
    if (process->space == NULL) {
        free(process);
        return NULL;
    }
    return process;
}

void mm_process_free(struct machine *machine, PEPROCESS process)
{
    mm_space_destroy(machine, process->space);
    free(process);
}

/* ---- the current process ---- */

struct mm_space *mm_current_space(struct machine *machine)
{
    return mm_current_process(machine)->space;
}

static void attach(struct machine *machine, PEPROCESS process)
{
    ke_self()->process = process;
    ke_self()->process_generation = machine->generation;
}

PEPROCESS PsGetCurrentProcess(VOID)
{
    return mm_current_process(ke_machine());
}

PEPROCESS IoGetCurrentProcess(VOID)
{
    return mm_current_process(ke_machine());
}

/* The state that a driver keeps for us: the process to return to is all there is to it. */
VOID KeStackAttachProcess(PRKPROCESS Process, PRKAPC_STATE ApcState)
{
    struct machine *machine = ke_machine();

    ApcState->Process = (PKPROCESS)mm_current_process(machine);
    attach(machine, (PEPROCESS)Process);
}

VOID KeUnstackDetachProcess(PRKAPC_STATE ApcState)
{
    attach(ke_machine(), (PEPROCESS)ApcState->Process);
}

/* ---- the host API ---- */

PEPROCESS pinion_process_create(const char *name)
{
    return mm_process_new(ke_machine(), name);
}

void pinion_process_attach(PEPROCESS process)
{
    struct machine *machine = ke_machine();

    attach(machine, process == NULL ? machine->mm->initial_process : process);
}

/* The mappings of MDLs go with the addresses they are at; nobody is left who could unmap them. */
static void forget_mappings(struct machine *machine, struct mm_space *space)
{
    for (uint32_t i = 0; i < space->nregions; i++) {
        const struct mm_region *region = &space->regions[i];

        if (region->npages != 0 && region->kind == MM_REGION_USER_MAPPING)
            KE_HOOK(machine, mdl_unmap_record, (PMDL)region->mdl, true);
    }
}

void pinion_process_exit(PEPROCESS process)
{
    struct machine *machine = ke_machine();
    uint64_t locked;

    if (process == NULL || process == machine->mm->initial_process)
        ke_usage("pinion_process_exit: only a process that pinion_process_create made can be ended");
    locked = mm_space_pins(process->space);
    if (locked != 0)
        ke_bug_check(PROCESS_HAS_LOCKED_PAGES, 0x00, (uintptr_t)process, locked, 0);
    forget_mappings(machine, process->space);
    if (mm_current_process(machine) == process)
        attach(machine, machine->mm->initial_process);
    mm_process_free(machine, process);
}

/* The attributes that a PAGE_* protection asks for; false: it is none that memory of a process can have. */
static bool attributes_of_protection(ULONG protection, uint8_t *attributes)
{
    const bool guard = (protection & PAGE_GUARD) != 0;

    if (!mm_access_of_protection(protection & ~(ULONG)(PAGE_GUARD | PAGE_NOCACHE | PAGE_WRITECOMBINE), attributes))
        return false;
    if (!guard)
        return true;
    *attributes |= MM_GUARD;
    return (*attributes & MM_ACCESS) != 0;
}

void *pinion_user_alloc(size_t bytes, ULONG protection)
{
    struct machine *machine = ke_machine();
    uint8_t attributes;

    if (bytes == 0 || !attributes_of_protection(protection, &attributes))
        return NULL;
    return (void *)mm_space_allocate(machine, mm_current_space(machine), span_bytes_to_pages(bytes), attributes);
}

/* Page-aligned range inside the current process's address range. */
static bool in_current_process(struct machine *machine, const void *va, size_t bytes)
{
    const struct mm_space *space = mm_current_space(machine);

    return span_contains(space->base, (size_t)space->npages * HOST_PAGE_SIZE, (uintptr_t)va, bytes);
}

void pinion_user_protect(void *va, size_t bytes, ULONG protection)
{
    struct machine *machine = ke_machine();
    uint8_t attributes;

    if (!attributes_of_protection(protection, &attributes))
        ke_usage("pinion_user_protect: 0x%X is no protection for process memory; use PAGE_READWRITE and its kin", protection);
    if (!in_current_process(machine, va, bytes)
        || !mm_space_protect(machine, mm_current_space(machine), span_page_base((uintptr_t)va),
                             span_pages((uintptr_t)va, bytes), attributes))
        ke_usage("pinion_user_protect: [%p, +0x%zx) is not inside one allocation of the current process", va, bytes);
}

void pinion_user_free(void *va)
{
    struct machine *machine = ke_machine();

    if (va == NULL)
        return;
    if (!in_current_process(machine, va, 1) || !mm_space_free(machine, mm_current_space(machine), (uintptr_t)va))
        ke_usage("pinion_user_free: %p is not the start of an allocation of the current process", va);
}

void pinion_user_resident(void *va, size_t bytes)
{
    struct machine *machine = ke_machine();
    struct mm_space *space = mm_current_space(machine);

    if (!in_current_process(machine, va, bytes))
        ke_usage("pinion_user_resident: [%p, +0x%zx) is not memory of the current process", va, bytes);
    mm_space_page_in(machine, space, mm_space_page(space, (uintptr_t)va), span_pages((uintptr_t)va, bytes));
}

size_t pinion_trim(void)
{
    struct machine *machine = ke_machine();
    size_t trimmed = 0;

    host_mutex_lock(&machine->mm->spaces_lock);
    for (unsigned id = 0; id < MM_MAX_SPACES; id++) {
        struct mm_space *space = mm_space_by_id(machine, (uint8_t)id);

        if (space != NULL && space->pins != NULL)
            trimmed += mm_space_trim(machine, space);
    }
    host_mutex_unlock(&machine->mm->spaces_lock);
    return trimmed;
}
