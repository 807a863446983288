/* SPDX-License-Identifier: MIT */
/*
 * What a stop without a rule is about: its parameters name an address, a page, a process, an MDL or a block of pool, and the record knows
 * whose they are.
 */

#include "verifier/verifier.h"

enum { MOST_MDLS = 4, PFNS_AT_ONCE = 64 };

/* ---- a block of pool ---- */

/* The block that ExFreePool was to free, as far as one is known. */
static void print_bad_free(const uint64_t parameters[4])
{
    const uint64_t already_free = 0x07, va = parameters[0] == already_free ? parameters[3] : parameters[1];
    struct ke_pool_block block;

    if (mm_pool_find(&ke_the_machine, va, &block) || mm_pool_find_freed(&ke_the_machine, va, &block))
        vf_block_print(&block);
}

/* ---- an address ---- */

static void print_mapping_of(uint64_t va)
{
    struct vf_mdl entry;

    if (!vf_find_by_fault(&ke_the_machine, va, &entry))
        return;
    ke_print("Address 0x%llx is in, or just behind, the mapping of MDL %p%s:\n", (unsigned long long)va, (void *)entry.mdl,
             entry.where[VF_EVENT_FREED] != NULL               ? ", which was freed"
             : !vf_hold_lasts(&ke_the_machine, entry.source) ? ", whose source holds the pages no longer"
                                                               : "");
    vf_mdl_print(&entry);
}

/* ---- what has it locked ---- */

static bool is_of_process(const struct vf_mdl *entry, uint64_t process)
{
    return (uintptr_t)entry->process == process;
}

/* An MDL in a driver's own memory may be gone, and its numbers with it. */
static bool has_page(const struct vf_mdl *entry, uint64_t wanted)
{
    PFN_NUMBER pfns[PFNS_AT_ONCE];

    for (size_t first = 0; first < entry->npages_locked; first += PFNS_AT_ONCE) {
        const size_t left = entry->npages_locked - first, n = left < PFNS_AT_ONCE ? left : PFNS_AT_ONCE;

        if (!host_peek(mdl_pfns(entry->mdl) + first, pfns, n * sizeof(pfns[0])))
            return false;
        for (size_t i = 0; i < n; i++)
            if (pfns[i] == wanted)
                return true;
    }
    return false;
}

static void print_locked(vf_wanted *wanted, uint64_t what, const char *name)
{
    struct vf_mdl entries[MOST_MDLS];
    const size_t total = vf_find_locked(&ke_the_machine, wanted, what, entries, MOST_MDLS);

    for (size_t i = 0; i < total && i < MOST_MDLS; i++) {
        ke_print("MDL %p has %s locked:\n", (void *)entries[i].mdl, name);
        vf_mdl_print_from(&entries[i], VF_EVENT_LOCKED);
    }
    if (total > MOST_MDLS)
        ke_print("and so have %zu MDLs more\n", total - MOST_MDLS);
}

static void print_lockers_of_process(uint64_t process)
{
    print_locked(is_of_process, process, "pages of the process");
}

static void print_lockers_of_page(uint64_t pfn)
{
    print_locked(has_page, pfn, "the page");
}

/* ---- an MDL ---- */

static void print_mdl_at(uint64_t mdl)
{
    vf_mdl_print_of((PMDL)(uintptr_t)mdl, VF_EVENT_ALLOCATED);
}

/* ---- by code ---- */

/* Codes whose first parameter says what the second is. */
static const struct {
    ULONG    code;
    uint64_t subcode;
    void   (*print)(uint64_t parameter);
} subjects[] = {
    {MEMORY_MANAGEMENT, 0x1235, print_mdl_at},
    {MEMORY_MANAGEMENT, 0x1236, print_mdl_at},
    {MEMORY_MANAGEMENT, 0x1240, print_mdl_at},
    {PFN_LIST_CORRUPT, 0x07, print_lockers_of_page},
    {PFN_LIST_CORRUPT, 0x9A, print_lockers_of_page},
    {PROCESS_HAS_LOCKED_PAGES, 0x00, print_lockers_of_process},
    {PROCESS_HAS_LOCKED_PAGES, 0x01, print_mdl_at},
    {SYSTEM_PTE_MISUSE, 0x02, print_mdl_at},
    {SYSTEM_PTE_MISUSE, 0x03, print_mdl_at},
    {SYSTEM_PTE_MISUSE, 0x04, print_mdl_at},
    {SYSTEM_PTE_MISUSE, 0x06, print_mdl_at},
    {SYSTEM_PTE_MISUSE, 0x103, print_mapping_of},
    {SYSTEM_PTE_MISUSE, 0x107, print_mapping_of},
    {SYSTEM_PTE_MISUSE, 0x10A, print_mapping_of},
    {SYSTEM_PTE_MISUSE, 0x10B, print_mapping_of},
    {SYSTEM_PTE_MISUSE, 0x10C, print_mapping_of},
};

/* Nothing is ever mapped there: what was touched is a field of something that there was not. */
static void print_near_null(const uint64_t parameters[4])
{
    enum { NEAR_NULL = 0x10000 };

    if ((NTSTATUS)parameters[0] == STATUS_ACCESS_VIOLATION && parameters[3] < NEAR_NULL)
        ke_print("Address 0x%llx is near NULL: a pointer was NULL, that of an MDL or an IRP perhaps.\n", (unsigned long long)parameters[3]);
}

static bool is_about_address(ULONG code)
{
    return code == PAGE_FAULT_IN_NONPAGED_AREA || code == ATTEMPTED_WRITE_TO_READONLY_MEMORY || code == DRIVER_IRQL_NOT_LESS_OR_EQUAL;
}

void vf_subject_print(ULONG code, const uint64_t parameters[4])
{
    if (code == BAD_POOL_CALLER)
        print_bad_free(parameters);
    if (code == KMODE_EXCEPTION_NOT_HANDLED)
        print_near_null(parameters);
    if (is_about_address(code))
        print_mapping_of(parameters[0]);
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++)
        if (subjects[i].code == code && subjects[i].subcode == parameters[0])
            subjects[i].print(parameters[1]);
}
