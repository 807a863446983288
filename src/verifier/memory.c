/* SPDX-License-Identifier: MIT */
/* The hooks of memory that no MDL is needed for: device memory, contiguous memory, pool; and of accesses that met none. */

#include "verifier/about.h"

#include "io/io.h"

static void irql_check(struct ke_site site, KIRQL most)
{
    if (is_above(most))
        vf_warn(VF_IRQL_TOO_HIGH, about(site, NULL));
}

/* ---- device memory ---- */

static void io_space_map_check(struct ke_site site, uint64_t pa, SIZE_T bytes)
{
    const size_t npages = span_pages(pa, bytes);

    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_IO_MAP_IRQL, about(site, NULL), ke_self()->irql, pa, bytes, 0);
    for (size_t i = 0; i < npages; i++) {
        const PFN_NUMBER pfn = (pa >> SPAN_PAGE_SHIFT) + i;
        uint32_t page;

        if (mm_page_of_pfn(the(), pfn, &page) && !mm_pfn_is_held(the(), pfn))
            vf_stop(VF_IO_MAP_UNLOCKED, about(site, NULL), pa, bytes, pfn, 0);
    }
}

static void io_space_unmap_check(struct ke_site site, PVOID va, SIZE_T bytes)
{
    if (is_above(APC_LEVEL))
        vf_stop(VF_IO_UNMAP_IRQL, about(site, NULL), ke_self()->irql, address(va), bytes, 0);
}

/* ---- contiguous memory ---- */

/* Freeing it was for APC_LEVEL and below before Windows Server 2008. */
static void contiguous_check(struct ke_site site, bool freeing)
{
    irql_check(site, freeing && the()->options.windows < KE_WINDOWS_VISTA ? APC_LEVEL : DISPATCH_LEVEL);
}

static void contiguous_mismatch_check(struct ke_site site, PVOID va)
{
    (void)va;
    vf_warn(VF_CONTIGUOUS_MISMATCH, about(site, NULL));
}

/* ---- pool ---- */

static void pool_allocate_check(struct ke_site site, ULONG pool, SIZE_T bytes, ULONG tag)
{
    const bool paged = pool & PagedPool;
    const bool executable = !paged && !(pool & NonPagedPoolNx) && can_ask_for_no_execute();

    if (bytes == 0)
        vf_stop(VF_POOL_ZERO_BYTES, about(site, NULL), ke_self()->irql, pool, 0, 0);
    if (tag == 0)
        vf_warn(VF_POOL_NO_TAG, about(site, NULL));
    if (is_above(paged ? APC_LEVEL : DISPATCH_LEVEL))
        vf_stop(paged ? VF_POOL_PAGED_IRQL : VF_POOL_NONPAGED_IRQL, about(site, NULL), ke_self()->irql, pool, bytes, 0);
    if (executable && (the()->options.verifier & KE_VERIFIER_CODE_INTEGRITY))
        vf_stop(VF_POOL_EXECUTABLE_STOP, about(site, NULL), site.ip, pool, tag, 0);
    if (executable && vf_first_warning_at(the(), site.ip))
        vf_warn(VF_POOL_EXECUTABLE, about(site, NULL));
}

/* Whoever frees memory that a process still sees gives that process what the next owner writes there. */
static void memory_free_check(struct ke_site site, PVOID va, SIZE_T bytes)
{
    PMDL mdl;

    if (vf_find_shared(the(), address(va), bytes, &mdl))
        vf_warn(VF_FREED_WHILE_SHARED, about(site, mdl));
}

static void pool_free_check(struct ke_site site, PVOID va, ULONG tag)
{
    struct mm_space *space;
    struct ke_pool_block block;
    const bool paged = mm_classify(the(), address(va), &space) == MM_KIND_PAGED_POOL;

    (void)tag;
    if (io_slot_of(the(), va) != NULL)
        vf_stop(VF_POOL_FREE_OF_IRP, about(site, NULL), address(va), 0, 0, 0);
    if (is_above(paged ? APC_LEVEL : DISPATCH_LEVEL))
        vf_stop(paged ? VF_POOL_FREE_PAGED_IRQL : VF_POOL_FREE_NONPAGED_IRQL, about(site, NULL), ke_self()->irql,
                paged ? PagedPool : NonPagedPoolNx, address(va), 0);
    if (mm_pool_find(the(), address(va), &block))
        memory_free_check(site, va, block.bytes);
    if (has_state(va, VF_POOL_MDL) && !has_state(va, VF_PAGES))
        vf_record(the(), site, va, 0, VF_POOL_MDL, VF_EVENT_FREED);
}

static const void *remember(struct ke_site site)
{
    return vf_stack_at(the(), site);
}

static void pool_damaged(struct ke_site site, const struct ke_pool_damage *damage)
{
    const struct vf_case of = {.site = site, .block = &damage->block};
    const uint64_t block = damage->block.va, va = damage->va;

    if (!damage->special)
        vf_stop(VF_POOL_OVERRUN, of, block, va, damage->block.bytes, 0);
    if (damage->one_bit)
        vf_stop(VF_SPECIAL_ONE_BIT, of, block, va, 0, DAMAGED_IN_ONE_BIT);
    if (va < block)
        vf_stop(VF_SPECIAL_UNDERRUN, of, block, va, 0, DAMAGED_IN_FRONT);
    vf_stop(VF_SPECIAL_OVERRUN, of, block, va, 0, DAMAGED_BEHIND);
}

/* ---- special pool ---- */

/* The code says whether a driver is known to have done it, or the program that drives it. */
static void stop_for_access(const enum vf_rule rules[2], struct vf_case of, const struct ke_access *access)
{
    const bool by_driver = ke_self()->driver != NULL;

    vf_stop(rules[by_driver], of, access->va, access->write, access->ip, 0);
}

static void pool_fault(const struct ke_pool_fault *fault)
{
    static const enum vf_rule beyond[2] = {VF_SPECIAL_BEYOND, VF_SPECIAL_BEYOND_BY_DRIVER};
    static const enum vf_rule freed[2] = {VF_SPECIAL_FREED, VF_SPECIAL_FREED_BY_DRIVER};

    stop_for_access(fault->freed ? freed : beyond, (struct vf_case){.block = &fault->block}, &fault->access);
}

static void access_met_nothing(const struct ke_access *access)
{
    static const enum vf_rule beyond[2] = {VF_BEYOND_MDL, VF_BEYOND_MDL_BY_DRIVER};
    static const enum vf_rule freed[2] = {VF_TOUCHED_AFTER_FREE, VF_TOUCHED_AFTER_FREE_BY_DRIVER};
    bool is_freed;
    PMDL mdl;

    if (mdl_special_meets(the(), access->va, &mdl, &is_freed))
        stop_for_access(is_freed ? freed : beyond, (struct vf_case){.mdl = mdl, .event = is_freed ? VF_EVENT_FREED : VF_EVENT_ALLOCATED}, access);
}

void vf_memory_hooks_install(struct ke_hooks *hooks)
{
    hooks->irql_check = irql_check;
    hooks->access_met_nothing = access_met_nothing;
    hooks->io_space_map_check = io_space_map_check;
    hooks->io_space_unmap_check = io_space_unmap_check;
    hooks->memory_free_check = memory_free_check;
    hooks->contiguous_check = contiguous_check;
    hooks->contiguous_mismatch_check = contiguous_mismatch_check;
    hooks->pool_allocate_check = pool_allocate_check;
    hooks->pool_free_check = pool_free_check;
    hooks->remember = remember;
    hooks->pool_damaged = pool_damaged;
    hooks->pool_fault = pool_fault;
}
