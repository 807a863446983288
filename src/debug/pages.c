/* SPDX-License-Identifier: MIT */
/* pinion_print_locked_pages and pinion_print_system_ptes: who holds pages, and where they are mapped in system space. */

#include "debug/debug.h"

#include <stdio.h>

/* ---- locked pages ---- */

static void print_spaces(const struct mm_locked_space *spaces, size_t n, int64_t all)
{
    int64_t rest = all;
    bool known = true;

    ke_print("Process or pool                  Locked\n");
    for (size_t i = 0; i < n; i++) {
        rest -= (int64_t)spaces[i].pins;
        known &= !spaces[i].busy;
        if (spaces[i].busy)
            ke_print("%-32s busy\n", spaces[i].name);
        else if (spaces[i].pins != 0)
            ke_print("%-32s %llu\n", spaces[i].name, (unsigned long long)spaces[i].pins);
    }
    if (known && rest > 0)
        ke_print("%-32s %lld\n", "other system and host memory", (long long)rest);
}

static void print_lockers(struct machine *machine)
{
    struct vf_mdl entries[DEBUG_ROWS];
    char caller[DEBUG_PLACE], name[32];
    size_t total;

    if (!vf_list(machine, VF_LOCKED, entries, DEBUG_ROWS, &total)) {
        ke_print("The record is busy: which MDLs lock them cannot be said.\n");
        return;
    }
    if (total != 0)
        ke_print("\nMDL              Process          PageCount  Caller\n");
    for (size_t i = 0; i < total && i < DEBUG_ROWS; i++) {
        MDL copy;
        const bool named = debug_peek(entries[i].mdl, &copy) && mm_process_name(machine, copy.Process, name, sizeof(name));

        ke_print("%016lx %-16s %9u  %s\n", (unsigned long)entries[i].mdl, named ? name : "-", entries[i].npages_locked,
                 debug_caller(entries[i].where[VF_EVENT_LOCKED], caller));
    }
    debug_print_more(DEBUG_ROWS, total);
}

void pinion_print_locked_pages(void)
{
    struct machine *machine = debug_begin();
    struct mm_locked_space spaces[MM_MAX_SPACES];
    int64_t sums[KE_SUMS];
    size_t n;

    if (machine != NULL && (!ke_sums(sums) || !mm_list_locked(machine, spaces, MM_MAX_SPACES, &n))) {
        ke_print("The machine is busy: its locked pages cannot be counted.\n");
    } else if (machine != NULL) {
        ke_print("%lld page locks are held\n", (long long)sums[KE_LOCKED_PAGES]);
        if (sums[KE_LOCKED_PAGES] != 0)
            print_spaces(spaces, n, sums[KE_LOCKED_PAGES]);
        if (machine->verifier == NULL)
            ke_print("The verifier is off: which MDLs lock them is not known.\n");
        else
            print_lockers(machine);
    }
    debug_end();
}

/* ---- system PTEs ---- */

/* What is mapped by the region, as the last column says it when there is no MDL on record. */
static const char *what_of(const struct mm_region *region)
{
    switch (region->kind) {
    case MM_REGION_RESERVED:
        return region->mapped != 0 ? "(reserved addresses)" : "(reserved addresses, nothing mapped)";
    case MM_REGION_SYSTEM_MAPPING:
        return region->mdl == NULL ? "(physical memory, by MmMapIoSpace)" : "-";
    default:
        return "(memory)";
    }
}

/* Once the record was busy, it is not asked again: each row would wait. */
static const char *caller_of(struct machine *machine, const struct mm_region *region, bool *busy, char text[DEBUG_PLACE])
{
    struct vf_mdl entry;

    if (region->mdl == NULL || machine->verifier == NULL)
        return what_of(region);
    if (!*busy)
        *busy = vf_ask(machine, (PMDL)region->mdl, &entry) == VF_BUSY;
    if (*busy)
        return "(the record is busy)";
    return entry.where[VF_EVENT_MAPPED] == NULL ? what_of(region) : debug_caller(entry.where[VF_EVENT_MAPPED], text);
}

static void print_regions(struct machine *machine, const struct mm_space *space, const struct mm_region *regions, size_t n)
{
    char text[DEBUG_PLACE];
    bool busy = false;

    ke_print("\nVA               MDL              PageCount  Caller\n");
    for (size_t i = 0; i < n; i++) {
        const char *caller = caller_of(machine, &regions[i], &busy, text);

        ke_print("%016lx %016lx %9u  %s\n", (unsigned long)(space->base + (uintptr_t)regions[i].live_first * PAGE_SIZE),
                 (unsigned long)regions[i].mdl, regions[i].first + regions[i].npages - regions[i].live_first, caller);
    }
}

void pinion_print_system_ptes(void)
{
    struct machine *machine = debug_begin();
    struct mm_region regions[DEBUG_ROWS];
    const struct mm_space *space = machine == NULL ? NULL : machine->mm->system_ptes;
    size_t total, npages;

    if (machine != NULL && !mm_list_regions(machine->mm->system_ptes, regions, DEBUG_ROWS, &total, &npages)) {
        ke_print("The system PTEs are busy.\n");
    } else if (machine != NULL) {
        ke_print("System PTE Information\n  Total System Ptes %u\n  In use %zu, by %zu mappings\n", space->npages, npages, total);
        if (total != 0)
            print_regions(machine, space, regions, total < DEBUG_ROWS ? total : DEBUG_ROWS);
        debug_print_more(DEBUG_ROWS, total);
        if (machine->verifier == NULL)
            ke_print("The verifier is off: MDLs of contiguous pages are mapped by the RAM window and take no system PTEs.\n");
    }
    debug_end();
}
