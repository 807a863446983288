/* SPDX-License-Identifier: MIT */
/* What an address is, and which frame stands behind it. Reads page tables without a lock; changes nothing. */

#include "mm/state.h"

static bool lies_in(const struct mm_space *space, uintptr_t va)
{
    return space != NULL && va - space->base < (uintptr_t)space->npages * HOST_PAGE_SIZE;
}

static struct mm_space *find_process_space(const struct machine *machine, uintptr_t va)
{
    for (unsigned id = 0; id < MM_MAX_SPACES; id++) {
        struct mm_space *space = atomic_load_explicit(&machine->mm->spaces[id], memory_order_acquire);

        if (lies_in(space, va))
            return space;
    }
    return NULL;
}

enum mm_kind mm_classify(const struct machine *machine, uintptr_t va, struct mm_space **space)
{
    uint32_t page;

    *space = NULL;
    if (mm_window_page(machine, va, &page))
        return MM_KIND_WINDOW;
    *space = find_process_space(machine, va);
    return *space == NULL ? MM_KIND_HOST : (*space)->kind;
}

static PFN_NUMBER translate_in_space(const struct mm_space *space, uintptr_t va)
{
    const size_t page = (va - space->base) >> SPAN_PAGE_SHIFT;
    const uint8_t attributes = atomic_load_explicit(&space->attrs[page], memory_order_acquire);
    const bool valid = (attributes & MM_RESIDENT) && !(attributes & MM_ZOMBIE);

    return valid ? space->pfns[page] : MM_NO_PFN;
}

static PFN_NUMBER translate_in_window(const struct machine *machine, uintptr_t va)
{
    uint32_t page;

    mm_window_page(machine, va, &page);
    if (atomic_load(&mm_frame(machine, page)->state) == MM_FRAME_FREE)
        return MM_NO_PFN;
    return mm_pfn_of_page(machine, page);
}

PFN_NUMBER mm_translate(const struct machine *machine, uintptr_t va)
{
    struct mm_space *space;

    switch (mm_classify(machine, va, &space)) {
    case MM_KIND_HOST:
        return MM_HOST_PFN_BASE + (va >> SPAN_PAGE_SHIFT);
    case MM_KIND_WINDOW:
        return translate_in_window(machine, va);
    default:
        return translate_in_space(space, va);
    }
}

/* ---- the routines ---- */

PHYSICAL_ADDRESS MmGetPhysicalAddress(PVOID BaseAddress)
{
    const PFN_NUMBER pfn = mm_translate(ke_machine(), (uintptr_t)BaseAddress);
    PHYSICAL_ADDRESS address = {.QuadPart = 0};

    if (pfn != MM_NO_PFN)
        address.QuadPart = (LONGLONG)((pfn << SPAN_PAGE_SHIFT) | span_offset((uintptr_t)BaseAddress));
    return address;
}

static void read_one_byte(void *va)
{
    host_probe_read(va);
}

BOOLEAN MmIsAddressValid(PVOID VirtualAddress)
{
    struct machine *machine = ke_machine();
    struct mm_space *space;

    if (mm_classify(machine, (uintptr_t)VirtualAddress, &space) == MM_KIND_HOST)
        return pinion_try(read_one_byte, VirtualAddress) == STATUS_SUCCESS;
    return mm_translate(machine, (uintptr_t)VirtualAddress) != MM_NO_PFN;
}
