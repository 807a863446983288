/* SPDX-License-Identifier: MIT */
/* pinion_print_mdl: the header as the debugger's `dt nt!_MDL` shows it, the pages, the chain, and what the verifier's record knows. */

#include "debug/debug.h"

#include <stdio.h>

enum { MOST_RUNS = 32, RUNS_IN_LINE = 8, MOST_CHAIN = 16, PFNS_AT_ONCE = 64 };

static const struct debug_bit flags[] = {
    {MDL_MAPPED_TO_SYSTEM_VA, "MDL_MAPPED_TO_SYSTEM_VA"}, {MDL_PAGES_LOCKED, "MDL_PAGES_LOCKED"},
    {MDL_SOURCE_IS_NONPAGED_POOL, "MDL_SOURCE_IS_NONPAGED_POOL"}, {MDL_ALLOCATED_FIXED_SIZE, "MDL_ALLOCATED_FIXED_SIZE"},
    {MDL_PARTIAL, "MDL_PARTIAL"}, {MDL_PARTIAL_HAS_BEEN_MAPPED, "MDL_PARTIAL_HAS_BEEN_MAPPED"}, {MDL_IO_PAGE_READ, "MDL_IO_PAGE_READ"},
    {MDL_WRITE_OPERATION, "MDL_WRITE_OPERATION"}, {MDL_PARENT_MAPPED_SYSTEM_VA, "MDL_PARENT_MAPPED_SYSTEM_VA"},
    {MDL_FREE_EXTRA_PTES, "MDL_FREE_EXTRA_PTES"}, {MDL_DESCRIBES_AWE, "MDL_DESCRIBES_AWE"}, {MDL_IO_SPACE, "MDL_IO_SPACE"},
    {MDL_NETWORK_HEADER, "MDL_NETWORK_HEADER"}, {MDL_MAPPING_CAN_FAIL, "MDL_MAPPING_CAN_FAIL"},
    {MDL_PAGE_CONTENTS_INVARIANT, "MDL_PAGE_CONTENTS_INVARIANT"}, {MDL_INTERNAL, "MDL_INTERNAL"}, {0, NULL}};

/* ---- is it an MDL? ---- */

/* What no MDL has in its header; NULL: it may be one. */
static const char *objection(const MDL *mdl)
{
    const size_t bytes = (USHORT)mdl->Size;

    if (bytes < sizeof(MDL) || bytes % sizeof(PFN_NUMBER) != 0)
        return "Size is no header and a number of pages";
    if ((uintptr_t)mdl->StartVa % PAGE_SIZE != 0)
        return "StartVa is not the start of a page";
    if (mdl->ByteOffset >= PAGE_SIZE)
        return "ByteOffset is a page or more";
    return NULL;
}

/* A copy of the header of a live MDL. False: a line says why it is none. */
static bool read_mdl(struct machine *machine, PMDL va, MDL *mdl)
{
    const char *why = "nothing can be read there";

    if (mdl_block_is_ours(machine, va) && !mdl_block_is_live(machine, va))
        why = "the memory is IoAllocateMdl's, and no MDL is there now";
    else if (debug_peek(va, mdl))
        why = objection(mdl);
    if (why != NULL)
        ke_print("%p is no MDL: %s.\n", (void *)va, why);
    return why == NULL;
}

/* ---- the header ---- */

static void print_header(struct machine *machine, const MDL *mdl)
{
    char name[32];

    ke_print("   +0x000 Next             : %p\n", (void *)mdl->Next);
    ke_print("   +0x008 Size             : %u\n", (USHORT)mdl->Size);
    ke_print("   +0x00a MdlFlags         : 0x%04x", (USHORT)mdl->MdlFlags);
    debug_print_bits(flags, (USHORT)mdl->MdlFlags);
    ke_print("\n   +0x010 Process          : %p", (void *)mdl->Process);
    if (mm_process_name(machine, mdl->Process, name, sizeof(name)))
        ke_print(" (%s)", name);
    ke_print("\n   +0x018 MappedSystemVa   : %p\n", mdl->MappedSystemVa);
    ke_print("   +0x020 StartVa          : %p\n", mdl->StartVa);
    ke_print("   +0x028 ByteCount        : 0x%x\n", mdl->ByteCount);
    ke_print("   +0x02c ByteOffset       : 0x%x\n", mdl->ByteOffset);
}

/* ---- the pages ---- */

/* NULL for memory that cannot be taken away. */
static const char *trouble_with(struct machine *machine, PFN_NUMBER pfn)
{
    if (mm_is_io_pfn(pfn))
        return "a device's";
    if (!mm_pfn_exists(machine, pfn))
        return "no memory";
    return mm_pfn_is_held(machine, pfn) ? NULL : "not held";
}

/* Page numbers that follow each other, or one that repeats. */
struct run {
    PFN_NUMBER first;
    size_t     n;
    bool       repeats;
};

struct runs {
    struct run run;
    size_t     nruns, npages;           /* printed */
};

static void end_run(struct machine *machine, struct runs *runs)
{
    const struct run *run = &runs->run;
    const char *trouble = trouble_with(machine, run->first);

    if (run->n == 0 || runs->nruns == MOST_RUNS)
        return;
    ke_print("%s%llx", runs->nruns % RUNS_IN_LINE == 0 ? "\n      " : "  ", (unsigned long long)run->first);
    if (run->n > 1 && run->repeats)
        ke_print(" %zu times", run->n);
    else if (run->n > 1)
        ke_print("..%llx", (unsigned long long)(run->first + run->n - 1));
    if (trouble != NULL)
        ke_print(" (%s)", trouble);
    runs->nruns++;
    runs->npages += run->n;
}

static bool continues(struct machine *machine, struct run *run, PFN_NUMBER pfn)
{
    if (run->n == 1)
        run->repeats = pfn == run->first;
    return run->n != 0 && pfn == run->first + (run->repeats ? 0 : run->n) && trouble_with(machine, pfn) == trouble_with(machine, run->first);
}

static void add_page(struct machine *machine, struct runs *runs, PFN_NUMBER pfn)
{
    if (!continues(machine, &runs->run, pfn)) {
        end_run(machine, runs);
        runs->run = (struct run){.first = pfn};
    }
    runs->run.n++;
}

static void print_pages(struct machine *machine, PMDL va, const MDL *mdl)
{
    const PFN_NUMBER *pfns = mdl_pfns(va);
    const size_t n = mdl_span(mdl);
    struct runs runs = {0};

    ke_print("   Pages: %zu", n);
    for (size_t done = 0; done < n && runs.nruns < MOST_RUNS; done += PFNS_AT_ONCE) {
        const size_t part = n - done < PFNS_AT_ONCE ? n - done : PFNS_AT_ONCE;
        PFN_NUMBER some[PFNS_AT_ONCE];

        if (!host_peek(pfns + done, some, part * sizeof(some[0]))) {
            ke_print(", whose numbers cannot be read\n");
            return;
        }
        for (size_t i = 0; i < part; i++)
            add_page(machine, &runs, some[i]);
    }
    end_run(machine, &runs);
    ke_print("\n");
    if (runs.npages < n)
        ke_print("      ... and %zu pages more\n", n - runs.npages);
}

/* ---- the chain ---- */

static bool is_among(const PMDL *mdls, size_t n, PMDL mdl)
{
    for (size_t i = 0; i < n; i++)
        if (mdls[i] == mdl)
            return true;
    return false;
}

static void print_chain(PMDL head, const MDL *mdl)
{
    PMDL seen[MOST_CHAIN] = {head};
    PMDL next = mdl->Next;
    MDL copy;
    size_t n = 1;

    for (; next != NULL && n < MOST_CHAIN && !is_among(seen, n, next); next = copy.Next) {
        seen[n++] = next;
        if (!debug_peek(next, &copy) || objection(&copy) != NULL) {
            ke_print("   Next   %p, which is no MDL\n", (void *)next);
            return;
        }
        ke_print("   Next   %p: 0x%x bytes at %p, MdlFlags 0x%04x\n", (void *)next, copy.ByteCount, (void *)mdl_va(&copy),
                 (USHORT)copy.MdlFlags);
    }
    if (is_among(seen, n, next))
        ke_print("   Next   %p: the chain runs in a circle\n", (void *)next);
    else if (next != NULL)
        ke_print("   Next   %p: ... and so on\n", (void *)next);
}

/* ---- what is known about it ---- */

static void print_home(struct machine *machine, PMDL mdl)
{
    static const char *const homes[] = {
        [MM_KIND_HOST] = "the driver's own", [MM_KIND_WINDOW] = "nonpaged memory of the system, such as pool",
        [MM_KIND_SYSTEM_PTE] = "a system mapping", [MM_KIND_SPECIAL_POOL] = "special pool", [MM_KIND_PAGED_POOL] = "paged pool",
        [MM_KIND_PROCESS] = "a process's"};
    struct mm_space *space;

    if (mdl_block_is_live(machine, mdl))
        ke_print("   Memory: of IoAllocateMdl, with room for %zu pages\n", mdl_capacity(machine, mdl));
    else
        ke_print("   Memory: %s\n", homes[mm_classify(machine, (uintptr_t)mdl, &space)]);
}

static bool is_gone(struct vf_hold lock)
{
    struct vf_mdl source;

    return vf_ask(&ke_the_machine, lock.mdl, &source) != VF_BUSY && source.hold.number != lock.number;
}

static void print_state(const struct vf_mdl *entry)
{
    static const struct debug_bit states[] = {
        {VF_ALLOCATED, "allocated"}, {VF_LENT, "lent by the system"}, {VF_LOCKED, "locked"}, {VF_BUILT, "built for nonpaged memory"},
        {VF_PARTIAL, "partial"}, {VF_MAPPED, "mapped"}, {VF_PAGES, "with pages of its own"}, {VF_POOL_MDL, "in pool"}, {0, NULL}};

    ke_print("   On record:");
    debug_print_bits(states, entry->state);
    ke_print("\n");
    if (entry->state & VF_LOCKED)
        ke_print("      locks %u pages\n", entry->npages_locked);
    if (entry->mapping.mdl != NULL)
        ke_print("      mapped at %p\n", (void *)entry->mapped_at);
    if (entry->user_mappings != 0)
        ke_print("      mapped %u times into processes\n", entry->user_mappings);
    if (entry->source.mdl != NULL)
        ke_print("      lives on the lock of MDL %p%s\n", (void *)entry->source.mdl, is_gone(entry->source) ? ", which is gone" : "");
}

static void print_record(struct machine *machine, PMDL mdl)
{
    struct vf_mdl entry;

    switch (vf_ask(machine, mdl, &entry)) {
    case VF_BUSY:
        ke_print("   The record is busy\n");
        return;
    case VF_UNKNOWN:
        ke_print("   Not on record\n");
        return;
    case VF_FREED:
        ke_print("   Freed\n");
        break;
    case VF_ALIVE:
        print_state(&entry);
        break;
    }
    vf_mdl_print(&entry);
}

static void print_whole(struct machine *machine, PMDL mdl, const MDL *copy)
{
    ke_print("MDL %p: 0x%x bytes at %p\n", (void *)mdl, copy->ByteCount, (void *)mdl_va(copy));
    print_header(machine, copy);
    print_pages(machine, mdl, copy);
    print_chain(mdl, copy);
    print_home(machine, mdl);
    if (machine->verifier == NULL)
        ke_print("   The verifier is off: nobody knows who made it\n");
    else
        print_record(machine, mdl);
}

/* What is no MDL any more may still be on record, with who freed it. */
void pinion_print_mdl(PMDL mdl)
{
    struct machine *machine = debug_begin();
    struct vf_mdl entry;
    MDL copy;

    if (machine != NULL && read_mdl(machine, mdl, &copy))
        print_whole(machine, mdl, &copy);
    else if (machine != NULL && machine->verifier != NULL && vf_ask(machine, mdl, &entry) == VF_FREED)
        print_record(machine, mdl);
    debug_end();
}
