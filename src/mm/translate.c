/* SPDX-License-Identifier: MIT */
/* What an address is, and which frame stands behind it. Reads page tables without a lock; changes nothing. */

#include "mm/state.h"
#include "mm/zones.h"

static bool lies_in(const struct mm_space *space, uintptr_t va)
{
    return space != NULL && va - space->base < (uintptr_t)space->npages * HOST_PAGE_SIZE;
}

static struct mm_space *find_process_space(const struct machine *machine, uintptr_t va)
{
    const unsigned end = atomic_load_explicit(&machine->mm->spaces_end, memory_order_acquire);

    for (unsigned id = 0; id < end; id++) {
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
    const uint32_t page = mm_space_page(space, va);
    const uint8_t attributes = atomic_load_explicit(&space->attrs[page], memory_order_acquire);
    const bool valid = (attributes & MM_RESIDENT) && !(attributes & MM_ZOMBIE);

    return valid ? space->pfns[page] : MM_NO_PFN;
}

static PFN_NUMBER translate_in_window(const struct machine *machine, uintptr_t va)
{
    uint32_t page;

    mm_window_page(machine, va, &page);
    if (mm_frame_state(machine, page) == MM_FRAME_FREE)
        return MM_NO_PFN;
    return mm_pfn_of_page(machine, page);
}

PFN_NUMBER mm_translate(const struct machine *machine, uintptr_t va)
{
    struct mm_space *space;

    switch (mm_classify(machine, va, &space)) {
    case MM_KIND_HOST:
        return mm_is_host_address(va) ? MM_HOST_PFN_BASE + (va >> SPAN_PAGE_SHIFT) : MM_NO_PFN;
    case MM_KIND_WINDOW:
        return translate_in_window(machine, va);
    default:
        return translate_in_space(space, va);
    }
}

static size_t translate_window_range(const struct machine *machine, uint32_t page, size_t npages, PFN_NUMBER *pfns)
{
    const struct mm_zone *zone = zone_of_page(machine, page);
    const uint32_t index = page - zone->first_page;
    const size_t left = machine->mm->npages - page;
    const size_t resident = rtl_count_nonzero(&machine->mm->frame_states[page], npages < left ? npages : left);
    struct rtl_steps numbers;

    if (UNLIKELY(resident > zone->npages - index)) {
        mm_pfns_of_pages(machine, page, resident, pfns);
        return resident;
    }
    numbers = steps_from(zone, pfn_in_zone(zone, index));
    rtl_store_steps(pfns, &numbers, resident);
    return resident;
}

static __attribute__((noinline)) size_t translate_one_by_one(const struct machine *machine, uintptr_t va, size_t npages, PFN_NUMBER *pfns)
{
    for (size_t i = 0; i < npages; i++) {
        const PFN_NUMBER pfn = mm_translate(machine, va + i * HOST_PAGE_SIZE);

        if (pfn == MM_NO_PFN)
            return i;
        pfns[i] = pfn;
    }
    return npages;
}

size_t mm_translate_range(const struct machine *machine, uintptr_t va, size_t npages, PFN_NUMBER *pfns)
{
    uint32_t page;

    if (LIKELY(mm_window_page(machine, va, &page)))
        return translate_window_range(machine, page, npages, pfns);
    return translate_one_by_one(machine, va, npages, pfns);
}

/* ---- host memory that is there ---- */

static bool is_missing_host_page(const struct machine *machine, uintptr_t va)
{
    struct mm_space *space;

    return mm_classify(machine, va, &space) == MM_KIND_HOST && !host_is_readable((const void *)va);
}

size_t mm_count_present(const struct machine *machine, uintptr_t va, size_t npages)
{
    size_t n = 0;

    while (n < npages && !is_missing_host_page(machine, va + n * HOST_PAGE_SIZE))
        n++;
    return n;
}

/* ---- the routines ---- */

/* The PFN behind an address that anybody may ask about: host memory counts where there is some. */
static PFN_NUMBER translate_asked(const struct machine *machine, const void *va)
{
    struct mm_space *space;

    if (mm_classify(machine, (uintptr_t)va, &space) == MM_KIND_HOST && !host_is_readable(va))
        return MM_NO_PFN;
    return mm_translate(machine, (uintptr_t)va);
}

/* The physical address behind a valid address, 0 where there is none. Any IRQL. Doc: ntddk/nf-ntddk-mmgetphysicaladdress */
PHYSICAL_ADDRESS MmGetPhysicalAddress(PVOID BaseAddress)
{
    const PFN_NUMBER pfn = translate_asked(ke_machine(), BaseAddress);
    PHYSICAL_ADDRESS address = {.QuadPart = 0};

    if (pfn != MM_NO_PFN)
        address.QuadPart = (LONGLONG)((pfn << SPAN_PAGE_SHIFT) | span_offset((uintptr_t)BaseAddress));
    return address;
}

/* Of a mapping that permits nothing the pages are known, but no access to them is valid. */
static bool permits_access(const struct machine *machine, const void *va)
{
    struct mm_space *space;

    mm_classify(machine, (uintptr_t)va, &space);
    return space == NULL || (atomic_load(&space->attrs[mm_space_page(space, (uintptr_t)va)]) & MM_ACCESS) != 0;
}

/* Would a read there fault? IRQL: <= DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-mmisaddressvalid */
BOOLEAN MmIsAddressValid(PVOID VirtualAddress)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, irql_check, DISPATCH_LEVEL);
    return translate_asked(machine, VirtualAddress) != MM_NO_PFN && permits_access(machine, VirtualAddress);
}

/* A frame of special pool is known by the address that its driver has. */
static PVOID system_address_of(const struct machine *machine, uint32_t page)
{
    const struct mm_frame *frame = mm_frame(machine, page);
    const struct mm_space *special = machine->mm->special_pool;

    if (special == NULL || mm_frame_state(machine, page) != MM_FRAME_POOL || frame->owner_space != special->id
        || special->pfns[frame->owner_page] != mm_pfn_of_page(machine, page))
        return mm_window_va(machine, page);
    return (PVOID)(special->base + (uintptr_t)frame->owner_page * PAGE_SIZE);
}

/* The system address at which a physical address of RAM is always mapped; NULL for one that is none. Any IRQL.
 * Doc: ntddk/nf-ntddk-mmgetvirtualforphysical */
PVOID MmGetVirtualForPhysical(PHYSICAL_ADDRESS PhysicalAddress)
{
    struct machine *machine = ke_machine();
    const uint64_t pa = (uint64_t)PhysicalAddress.QuadPart;
    uint32_t page;

    if (mm_is_io_pfn(pa >> SPAN_PAGE_SHIFT) || !mm_page_of_pfn(machine, pa >> SPAN_PAGE_SHIFT, &page))
        return NULL;
    return (PCHAR)system_address_of(machine, page) + span_offset(pa);
}

/*
 * Is the address system memory that is always there: nonpaged pool, contiguous memory, or a mapping?
 *
 * Doc: ntddk/nf-ntddk-mmisnonpagedsystemaddressvalid
 */
BOOLEAN MmIsNonPagedSystemAddressValid(PVOID VirtualAddress)
{
    struct machine *machine = ke_machine();
    struct mm_space *space;
    const enum mm_kind kind = mm_classify(machine, (uintptr_t)VirtualAddress, &space);

    return (kind == MM_KIND_WINDOW || kind == MM_KIND_SYSTEM_PTE || kind == MM_KIND_SPECIAL_POOL)
        && mm_translate(machine, (uintptr_t)VirtualAddress) != MM_NO_PFN;
}

/* ---- probes ---- */

/* User space, as far as there is one: memory of the host program and the current process's own. */
static bool is_user_range(struct machine *machine, uintptr_t va, SIZE_T bytes)
{
    struct mm_space *first, *last;
    const enum mm_kind kind = mm_classify(machine, va, &first);

    if (span_wraps(va, bytes) || va + (bytes - 1) > MM_HIGHEST_USER_ADDRESS || mm_classify(machine, va + bytes - 1, &last) != kind || first != last)
        return false;
    return kind == MM_KIND_HOST || first == mm_current_space(machine);
}

static void probe_range(const volatile VOID *address, SIZE_T bytes, ULONG alignment, uintptr_t ip)
{
    const uintptr_t va = (uintptr_t)address;

    if (alignment > 1 && (va & (alignment - 1)) != 0)
        ke_raise(STATUS_DATATYPE_MISALIGNMENT, ip);
    if (!is_user_range(ke_machine(), va, bytes))
        ke_raise(STATUS_ACCESS_VIOLATION, ip);
}

/*
 * Raise unless [Address, Address + Length) lies in user space and is aligned. No bytes: nothing is checked.
 *
 * STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT. IRQL: <= APC_LEVEL.
 * Doc:  wdm/nf-wdm-probeforread
 */
VOID ProbeForRead(const volatile VOID *Address, SIZE_T Length, ULONG Alignment)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, irql_check, APC_LEVEL);
    if (Length != 0)
        probe_range(Address, Length, Alignment, (uintptr_t)__builtin_return_address(0));
}

/* As ProbeForRead, and raise unless every page can be written. Doc: wdm/nf-wdm-probeforwrite */
VOID ProbeForWrite(volatile VOID *Address, SIZE_T Length, ULONG Alignment)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, irql_check, APC_LEVEL);
    if (Length == 0)
        return;
    probe_range(Address, Length, Alignment, (uintptr_t)__builtin_return_address(0));
    host_probe_write(Address, Length);
}
