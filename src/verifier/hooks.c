/* SPDX-License-Identifier: MIT */
/* The hooks of routines that take an MDL: which rules each is held to, and what it adds to the record. A group of functions per routine. */

#include "verifier/about.h"

/* ---- rules that many routines share ---- */

static void prefer_dispatch(struct ke_site site, PMDL mdl)
{
    if (is_above(DISPATCH_LEVEL))
        vf_warn(VF_IRQL_TOO_HIGH, about(site, mdl));
}

/* All that can be said of a routine that takes an MDL as it is. */
static void use_check(struct ke_site site, PMDL mdl)
{
    vf_require_alive(site, mdl);
    prefer_dispatch(site, mdl);
}

/* Pages that can be described by a partial MDL or mapped: locked on record, nonpaged, partial, or vouched for by a driver's own flags. */
static bool is_held(PMDL mdl)
{
    return has_state(mdl, VF_LOCKED | VF_BUILT | VF_PARTIAL | VF_PAGES)
        || mdl_has(mdl, MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE);
}

static bool is_partial(PMDL mdl)
{
    return has_state(mdl, VF_PARTIAL) || mdl_has(mdl, MDL_PARTIAL);
}

/* Built for nonpaged memory; a driver's own MDL has no entry for that, and its header says so. */
static bool is_built(PMDL mdl)
{
    return mdl_has(mdl, MDL_SOURCE_IS_NONPAGED_POOL) && !mdl_has(mdl, MDL_PARTIAL);
}

/* ---- IoAllocateMdl, IoFreeMdl ---- */

static void allocate_check(struct ke_site site, PVOID va, ULONG length, BOOLEAN secondary, BOOLEAN quota, PIRP irp)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_POOL_NONPAGED_IRQL, about(site, NULL), ke_self()->irql, NonPagedPoolNx, MmSizeOfMdl(va, length), 0);
    if (secondary && irp == NULL)
        vf_warn(VF_SECONDARY_WITHOUT_IRP, about(site, NULL));
    if (secondary && irp != NULL && irp->MdlAddress != NULL)
        vf_require_alive(site, irp->MdlAddress);
    if (quota)
        vf_warn(VF_QUOTA_CHARGED, about(site, NULL));
    if (length == 0)
        vf_warn(VF_ZERO_LENGTH, about(site, NULL));
}

static void allocate_record(struct ke_site site, PMDL mdl, PMDL replaced)
{
    if (replaced != NULL)
        vf_warn(VF_CHAIN_REPLACED, about(site, replaced));
    vf_record(the(), site, mdl, VF_ALLOCATED, 0, VF_EVENT_ALLOCATED);
}

static void lent_record(struct ke_site site, PMDL mdl)
{
    vf_record(the(), site, mdl, VF_LENT, 0, VF_EVENT_ALLOCATED);
}

static void allocate_refused(void)
{
    the()->verifier->mdl_refused = true;
}

static void require_undamaged(struct ke_site site, PMDL mdl)
{
    uintptr_t va;

    if (mdl_special_is_damaged(the(), mdl, &va))
        vf_stop(VF_MDL_DAMAGED, about(site, mdl), address(mdl), va, 0, va < address(mdl) ? DAMAGED_IN_FRONT : DAMAGED_BEHIND);
}

static void free_check(struct ke_site site, PMDL mdl)
{
    const struct vf_mdl entry = vf_lookup(the(), mdl);

    vf_forget_not_mapped();
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_POOL_FREE_NONPAGED_IRQL, about(site, mdl), ke_self()->irql, NonPagedPoolNx, address(mdl), 0);
    vf_require_alive(site, mdl);
    if (entry.state & VF_LENT)
        vf_stop(VF_LIST_MDL_FREED, about(site, mdl), address(mdl), 0, 0, 0);
    if (entry.state & (VF_PAGES | VF_POOL_MDL))
        vf_stop(VF_PAGES_FREED_BY_IO_FREE_MDL, about(site, mdl), address(mdl), 0, 0, 0);
    if (entry.user_mappings != 0)
        vf_stop(VF_FREED_WHILE_USER_MAPPED, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
    if ((entry.state & VF_MAPPED) && !is_partial(mdl))
        vf_stop(VF_FREED_WHILE_MAPPED, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
    require_undamaged(site, mdl);
    if (entry.state & VF_LOCKED)
        vf_stop(VF_FREED_WHILE_LOCKED, about(site, mdl), address(entry.where[VF_EVENT_LOCKED]), 0, address(mdl), mdl_span(mdl));
}

static void free_record(struct ke_site site, PMDL mdl)
{
    vf_record_freed(the(), site, mdl, false);
}

/* The I/O manager's MDL of a request, say: a driver that passed the request on may have freed it. */
static void destroy_record(struct ke_site site, PMDL mdl)
{
    vf_require_alive(site, mdl);
    require_undamaged(site, mdl);
    vf_record_freed(the(), site, mdl, true);
}

/* A lock that the MDL loses sight of. What is left of it in the end has been told then. */
static void warn_of_orphans(struct ke_site site, PMDL mdl, enum vf_rule rule)
{
    const struct vf_mdl entry = vf_lookup(the(), mdl);

    if (!(entry.state & VF_LOCKED))
        return;
    vf_warn(rule, about(site, mdl));
    vf_record_told(the(), (int64_t)entry.npages_locked, 0);
}

/* ---- IoBuildPartialMdl, MmPrepareMdlForReuse ---- */

static void require_range(struct ke_site site, PMDL source, PMDL target, uintptr_t va, ULONG length)
{
    const uintptr_t start = mdl_va(source);
    const size_t rest = source->ByteCount - (va - start);

    if (!span_contains(start, source->ByteCount, va, length != 0 ? length : 1))
        vf_stop(VF_OUTSIDE_SOURCE, (struct vf_case){.site = site, .mdl = source, .va = va}, address(source), address(target), va, length);
    if (span_pages(va, length != 0 ? length : rest) > mdl_capacity(the(), target))
        vf_stop(VF_TARGET_TOO_SMALL, about(site, target), 0, 0, 0, 0);
}

static void partial_check(struct ke_site site, PMDL source, PMDL target, PVOID va, ULONG length)
{
    vf_require_alive(site, source);
    use_check(site, target);
    require_range(site, source, target, address(va), length);
    if (!is_held(source))
        vf_warn(VF_PARTIAL_OF_UNLOCKED, about(site, source));
    vf_check_source(site, source);
    warn_of_orphans(site, target, VF_PARTIAL_OVER_LOCKED);
    if (has_state(target, VF_MAPPED)) {
        vf_warn(VF_PARTIAL_MAPPING_LEAKED, about(site, target));
        vf_record_told(the(), 0, 1);
    }
}

static void partial_record(struct ke_site site, PMDL source, PMDL target)
{
    vf_record(the(), site, target, VF_PARTIAL, VF_LOCKED | VF_BUILT | VF_MAPPED, VF_EVENT_PARTIAL);
    vf_record_lineage(the(), source, target);
}

static void reuse_check(struct ke_site site, PMDL mdl)
{
    use_check(site, mdl);
    if (has_state(mdl, VF_MAPPED) && !is_partial(mdl))
        vf_warn(VF_REUSE_OF_MAPPED, about(site, mdl));
}

/* ---- MmBuildMdlForNonPagedPool ---- */

static bool is_on_stack(uintptr_t va)
{
    uintptr_t low, high;

    host_stack_bounds(&low, &high);
    return va >= low && va < high;
}

/*
 * A length beyond the block is a habit; pages beyond its own are another block's, or nobody's. Of special pool, where each block ends
 * with its page, only what would not fit into a page wherever the block lay.
 */
static bool runs_past_pool_block(enum mm_kind kind, const MDL *mdl)
{
    const uintptr_t va = mdl_va(mdl);
    struct ke_pool_block block;

    if (mdl->ByteCount == 0 || !mm_pool_find(the(), va, &block))
        return false;
    if (kind == MM_KIND_SPECIAL_POOL)
        return va - block.va + mdl->ByteCount > SPAN_PAGE_SIZE;
    return span_page_base(va + mdl->ByteCount - 1) > span_page_base(block.va + block.bytes - 1);
}

static void build_check(struct ke_site site, PMDL mdl)
{
    struct mm_space *space;
    enum mm_kind kind;
    uintptr_t va;

    use_check(site, mdl);
    vf_require_room(site, mdl);
    va = mdl_va(mdl);
    kind = mm_classify(the(), va, &space);
    if (kind == MM_KIND_PAGED_POOL || kind == MM_KIND_PROCESS)
        vf_stop(VF_BUILD_PAGED, about(site, mdl), ke_self()->irql, address(mdl), flags_of(mdl), 0);
    if (kind == MM_KIND_HOST && is_on_stack(va))
        vf_stop(VF_BUILD_STACK, about(site, mdl), ke_self()->irql, address(mdl), va, 0);
    warn_of_orphans(site, mdl, VF_BUILD_OVER_LOCKED);
    if ((kind == MM_KIND_WINDOW || kind == MM_KIND_SPECIAL_POOL) && runs_past_pool_block(kind, mdl))
        vf_warn(VF_BUILD_PAST_BLOCK, about(site, mdl));
}

static void build_record(struct ke_site site, PMDL mdl)
{
    vf_record(the(), site, mdl, VF_BUILT, VF_LOCKED | VF_PARTIAL | VF_MAPPED, VF_EVENT_BUILT);
}

/* ---- MmProbeAndLockPages, MmUnlockPages ---- */

static bool is_pageable(uintptr_t va)
{
    struct mm_space *space;
    const enum mm_kind kind = mm_classify(the(), va, &space);

    return kind == MM_KIND_PROCESS || kind == MM_KIND_PAGED_POOL;
}

/* A page that happens to be resident hides the mistake; the next trim brings it out. */
static void prefer_apc_for_pageable(struct ke_site site, PMDL mdl)
{
    if (is_above(APC_LEVEL) && is_pageable(mdl_va(mdl)))
        vf_warn(VF_LOCK_PAGEABLE_IRQL, about(site, mdl));
}

/* `rule` is the one that is broken by an MDL that cannot be locked now. */
static void require_lockable(struct ke_site site, PMDL mdl, enum vf_rule rule)
{
    const unsigned forbidden = MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA | MDL_IO_SPACE;

    vf_require_alive(site, mdl);
    if (mdl_has(mdl, forbidden) || has_state(mdl, VF_LOCKED | VF_MAPPED))
        vf_stop(rule, about(site, mdl), address(mdl), flags_of(mdl), flags_of(mdl) & forbidden, 0);
    vf_require_room(site, mdl);
}

/* A mapping of a device's memory has pages that no PFN database holds. */
static void refuse_device_memory(struct ke_site site, PMDL mdl)
{
    struct mm_space *space;

    if (mm_classify(the(), mdl_va(mdl), &space) != MM_KIND_SYSTEM_PTE)
        return;
    for (size_t i = 0; i < mdl_span(mdl); i++) {
        const PFN_NUMBER pfn = mm_translate(the(), address(mdl->StartVa) + i * PAGE_SIZE);

        if (mm_is_io_pfn(pfn))
            vf_stop(VF_LOCK_DEVICE_MEMORY, about(site, mdl), address(mdl), pfn, mm_highest_pfn(the()), 0);
    }
}

static void lock_check(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_LOCK_IRQL, about(site, mdl), ke_self()->irql, address(mdl), (uint64_t)mode, 0);
    require_lockable(site, mdl, VF_LOCK_BAD_FLAGS);
    refuse_device_memory(site, mdl);
    prefer_apc_for_pageable(site, mdl);
}

static void lock_process_check(struct ke_site site, PMDL mdl, PEPROCESS process)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_LOCK_PROCESS_IRQL, about(site, mdl), ke_self()->irql, address(mdl), address(process), 0);
    require_lockable(site, mdl, VF_LOCK_PROCESS_BAD_FLAGS);
    prefer_apc_for_pageable(site, mdl);
}

static void lock_selected_check(struct ke_site site, PMDL mdl)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_LOCK_SELECTED_IRQL, about(site, mdl), ke_self()->irql, address(mdl),
                address(mm_current_process(the())), 0);
    require_lockable(site, mdl, VF_LOCK_BAD_FLAGS);
    if (is_above(APC_LEVEL))
        vf_warn(VF_LOCK_PAGEABLE_IRQL, about(site, mdl));
}

static void lock_record(struct ke_site site, PMDL mdl)
{
    vf_record(the(), site, mdl, VF_LOCKED, VF_PARTIAL | VF_BUILT, VF_EVENT_LOCKED);
}

/* Drivers adjust StartVa and ByteCount of an MDL that is in use; its pages are unlocked by them, so that they must be back by then. */
static void check_unchanged(struct ke_site site, PMDL mdl)
{
    const int64_t orphans = (int64_t)vf_lookup(the(), mdl).npages_locked - (int64_t)mdl_span(mdl);

    if (orphans == 0)
        return;
    vf_warn(VF_CHANGED_WHILE_LOCKED, about(site, mdl));
    vf_record_told(the(), orphans, 0);
}

/* A process that still sees the pages would see their next owner's. */
static void check_not_shared(struct ke_site site, PMDL mdl)
{
    if (vf_lookup(the(), mdl).user_mappings != 0)
        vf_warn(VF_UNLOCKED_WHILE_SHARED, about(site, mdl));
}

static void unlock_check(struct ke_site site, PMDL mdl)
{
    vf_forget_not_mapped();
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_UNLOCK_IRQL, about(site, mdl), ke_self()->irql, address(mdl), 0, 0);
    vf_require_alive(site, mdl);
    check_not_shared(site, mdl);
    if (has_state(mdl, VF_LOCKED)) {
        check_unchanged(site, mdl);
        return;
    }
    if (is_partial(mdl))
        vf_stop(VF_UNLOCK_PARTIAL, about(site, mdl), address(mdl), flags_of(mdl), MDL_PARTIAL, 0);
    if (is_built(mdl))
        vf_stop(VF_UNLOCK_NONPAGED, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
    vf_stop(VF_UNLOCK_UNLOCKED, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
}

static void check_time_held(PMDL mdl)
{
    struct vf_case of = {.mdl = mdl};

    if (the()->options.lock_limit_ms == 0)
        return;
    of.held_ms = vf_now_ms() - vf_lookup(the(), mdl).locked_at_ms;
    if (of.held_ms > the()->options.lock_limit_ms)
        vf_warn(VF_LOCK_HELD_LONG, of);
}

static void unlock_record(struct ke_site site, PMDL mdl)
{
    check_time_held(mdl);
    vf_revoke_borrowed(mdl);
    vf_record(the(), site, mdl, 0, VF_LOCKED | VF_MAPPED, VF_EVENT_LOCKED);
}

/* ---- mapping ---- */

static void require_pages_held(struct ke_site site, PMDL mdl)
{
    const PPFN_NUMBER pfns = mdl_pfns(mdl);
    const size_t n = mdl_span(mdl);
    void *va;

    for (size_t i = 0; i < n; i++) {
        const bool memory = mm_first_run(the(), &pfns[i], 1, &va) != 0 && !mm_is_io_pfn(pfns[i]);

        if (!memory && !mdl_has(mdl, MDL_IO_SPACE))
            vf_stop(VF_MAP_NO_MEMORY, about(site, mdl), address(mdl), address(&pfns[i]), pfns[i], 0);
        if (mm_pfn_exists(the(), pfns[i]) && !mm_pfn_is_held(the(), pfns[i]))
            vf_stop(VF_MAP_PAGES_UNLOCKED, about(site, mdl), address(mdl), n, pfns[i], 0);
    }
}

static void check_executable(struct ke_site site, const struct ke_map_call *call)
{
    if (!call->priority_given || (call->priority & MdlMappingNoExecute) || !can_ask_for_no_execute())
        return;
    if (the()->options.verifier & KE_VERIFIER_CODE_INTEGRITY)
        vf_stop(VF_MAP_EXECUTABLE_STOP, about(site, call->mdl), site.ip, call->priority, 0, 0);
    if (vf_first_warning_at(the(), site.ip))
        vf_warn(VF_MAP_EXECUTABLE, about(site, NULL));
}

static void protection_check(struct ke_site site, ULONG protection)
{
    const ULONG executable = PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY;

    if ((protection & executable) && (the()->options.verifier & KE_VERIFIER_CODE_INTEGRITY))
        vf_stop(VF_PROTECTION_EXECUTABLE, about(site, NULL), site.ip, protection, 0, 0);
}

static void check_system_mapping(struct ke_site site, PMDL mdl)
{
    if (is_built(mdl) || has_state(mdl, VF_MAPPED) || mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA))
        vf_stop(VF_MAP_TWICE, about(site, mdl), address(mdl), flags_of(mdl),
                flags_of(mdl) & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL), 0);
}

static void map_check(struct ke_site site, const struct ke_map_call *call)
{
    const bool user = call->mode != KernelMode;
    PMDL mdl = call->mdl;

    if (is_above(user ? APC_LEVEL : DISPATCH_LEVEL))
        vf_stop(user ? VF_MAP_USER_IRQL : VF_MAP_KERNEL_IRQL, about(site, mdl), ke_self()->irql, address(mdl), (uint64_t)call->mode, 0);
    vf_require_alive(site, mdl);
    if (call->bug_check_on_failure)
        vf_stop(VF_MAP_BUG_CHECK, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
    if (!user)
        check_system_mapping(site, mdl);
    if (!is_held(mdl))
        vf_stop(VF_MAP_UNLOCKED, about(site, mdl), address(mdl), flags_of(mdl), MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL, 0);
    require_pages_held(site, mdl);
    vf_check_source(site, mdl);
    if (!user)
        check_executable(site, call);
}

static void map_obsolete_check(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode)
{
    const bool user = mode != KernelMode;

    if (is_above(user ? APC_LEVEL : DISPATCH_LEVEL))
        vf_stop(user ? VF_MAP_OBSOLETE_USER_IRQL : VF_MAP_OBSOLETE_KERNEL_IRQL, about(site, mdl), ke_self()->irql, address(mdl),
                (uint64_t)mode, 0);
    vf_require_alive(site, mdl);
    if (!user)
        check_system_mapping(site, mdl);
    if (!is_held(mdl))
        vf_stop(VF_MAP_UNLOCKED, about(site, mdl), address(mdl), flags_of(mdl), MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL, 0);
    vf_stop(VF_MAP_OBSOLETE, about(site, mdl), address(mdl), flags_of(mdl), 0, 0);
}

static void reserved_map_check(struct ke_site site, PMDL mdl)
{
    if (is_above(DISPATCH_LEVEL))
        vf_warn(VF_IRQL_TOO_HIGH, about(site, mdl));
    vf_require_alive(site, mdl);
    check_system_mapping(site, mdl);
    if (!is_held(mdl))
        vf_stop(VF_MAP_UNLOCKED, about(site, mdl), address(mdl), flags_of(mdl), MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL, 0);
    require_pages_held(site, mdl);
}

static bool is_locked(PMDL mdl)
{
    return has_state(mdl, VF_LOCKED);
}

static bool is_read_locked(PMDL mdl)
{
    return vf_lookup(the(), mdl).read_locked;
}

static void map_record(struct ke_site site, PMDL mdl, PVOID va, KPROCESSOR_MODE mode)
{
    vf_forget_not_mapped();
    if (mode != KernelMode) {
        vf_record_user_mapping(the(), site, mdl, true);
        return;
    }
    vf_record(the(), site, mdl, VF_MAPPED, 0, VF_EVENT_MAPPED);
    vf_record_mapped_at(the(), mdl, address(va));
}

static void unmap_check(struct ke_site site, PVOID va, PMDL mdl, bool user, bool mine)
{
    const struct vf_mdl entry = vf_lookup(the(), mdl);

    if (is_above(user ? APC_LEVEL : DISPATCH_LEVEL))
        vf_stop(user ? VF_UNMAP_USER_IRQL : VF_UNMAP_KERNEL_IRQL, about(site, mdl), ke_self()->irql, address(va), address(mdl), 0);
    vf_require_alive(site, mdl);
    if (user && !mine)
        vf_stop(VF_UNMAP_NOT_MINE, about(site, mdl), address(va), address(mdl), 0, 0);
    if (user || (entry.state & VF_MAPPED))
        return;
    if (is_partial(mdl))
        vf_stop(VF_UNMAP_PARTIAL, about(site, mdl), address(mdl), flags_of(mdl), MDL_PARTIAL, 0);
    vf_stop(VF_UNMAP_UNMAPPED, about(site, mdl), address(mdl), flags_of(mdl), MDL_MAPPED_TO_SYSTEM_VA, 0);
}

static void unmap_record(struct ke_site site, PMDL mdl, bool user)
{
    if (user)
        vf_record_user_mapping(the(), site, mdl, false);
    else
        vf_record(the(), site, mdl, 0, VF_MAPPED, VF_EVENT_MAPPED);
}

static void system_address_check(struct ke_site site, PMDL mdl)
{
    if (mdl == NULL) {
        vf_warn(VF_NULL_MDL, about(site, NULL));
        return;
    }
    vf_require_alive(site, mdl);
    if (is_above(DISPATCH_LEVEL) && !mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        vf_stop(VF_MAP_KERNEL_IRQL, about(site, mdl), ke_self()->irql, address(mdl), KernelMode, 0);
    prefer_dispatch(site, mdl);
    vf_check_lent_mapping(site, mdl);
    if (has_state(mdl, VF_MAPPED))
        vf_check_source(site, mdl);
}

/* ---- MmAdvanceMdl ---- */

/* A driver has to try and fail to allocate another MDL first. What the host program does is its own. */
static void advance_check(struct ke_site site, PMDL mdl, ULONG bytes)
{
    (void)bytes;
    use_check(site, mdl);
    vf_check_source(site, mdl);
    if (ke_self()->driver != NULL && !the()->verifier->mdl_refused && vf_first_warning_at(the(), site.ip))
        vf_warn(VF_ADVANCE_UNNEEDED, about(site, mdl));
}

static void advance_record(struct ke_site site, PMDL mdl, size_t passed)
{
    (void)site;
    vf_record_advanced(the(), mdl, passed);
}

/* ---- pages of MmAllocatePagesForMdl and its kin ---- */

static void pages_allocate_check(struct ke_site site)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_PAGES_IRQL, about(site, NULL), ke_self()->irql, DISPATCH_LEVEL, 0, 0);
}

static void pages_allocate_record(struct ke_site site, PMDL mdl)
{
    vf_record(the(), site, mdl, VF_PAGES | VF_POOL_MDL, 0, VF_EVENT_ALLOCATED);
}

static void pages_free_check(struct ke_site site, PMDL mdl)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_PAGES_IRQL, about(site, mdl), ke_self()->irql, DISPATCH_LEVEL, 0, 0);
    vf_require_alive(site, mdl);
    check_not_shared(site, mdl);
    if (has_state(mdl, VF_POOL_MDL) && !has_state(mdl, VF_PAGES))
        vf_stop(VF_PAGES_FREED_TWICE, about(site, mdl), address(mdl), address(mdl_pfns(mdl)), mdl_pfns(mdl)[0], 0);
    if (has_state(mdl, VF_MAPPED) && the()->options.windows < KE_WINDOWS_7)
        vf_warn(VF_PAGES_FREED_MAPPED, about(site, mdl));
}

static void pages_free_record(struct ke_site site, PMDL mdl)
{
    vf_revoke_borrowed(mdl);
    vf_record(the(), site, mdl, 0, VF_PAGES | VF_MAPPED, VF_EVENT_ALLOCATED);
}

void vf_hooks_install(struct ke_hooks *hooks)
{
    *hooks = (struct ke_hooks){
        .mdl_allocate_check = allocate_check,
        .mdl_allocate_record = allocate_record,
        .mdl_allocate_refused = allocate_refused,
        .mdl_free_check = free_check,
        .mdl_free_record = free_record,
        .mdl_lent_record = lent_record,
        .mdl_destroy_record = destroy_record,
        .mdl_partial_check = partial_check,
        .mdl_partial_record = partial_record,
        .mdl_build_check = build_check,
        .mdl_build_record = build_record,
        .mdl_lock_check = lock_check,
        .mdl_lock_process_check = lock_process_check,
        .mdl_lock_selected_check = lock_selected_check,
        .mdl_lock_record = lock_record,
        .mdl_unlock_check = unlock_check,
        .mdl_unlock_record = unlock_record,
        .mdl_map_check = map_check,
        .mdl_map_obsolete_check = map_obsolete_check,
        .mdl_reserved_map_check = reserved_map_check,
        .mdl_is_locked = is_locked,
        .mdl_is_read_locked = is_read_locked,
        .mdl_map_record = map_record,
        .mdl_map_failed_record = vf_note_not_mapped,
        .access_refused = vf_check_access,
        .pages_allocate_check = pages_allocate_check,
        .pages_allocate_record = pages_allocate_record,
        .pages_free_check = pages_free_check,
        .pages_free_record = pages_free_record,
        .protection_check = protection_check,
        .mdl_unmap_check = unmap_check,
        .mdl_unmap_record = unmap_record,
        .mdl_system_address_check = system_address_check,
        .mdl_advance_check = advance_check,
        .mdl_advance_record = advance_record,
        .mdl_reuse_check = reuse_check,
        .mdl_use_check = use_check,
        .advise = vf_advice,
        .tell_code = vf_code_print,
        .tell_block = vf_block_print,
        .bug_check_report = vf_report,
    };
    vf_memory_hooks_install(hooks);
    vf_irp_hooks_install(hooks);
}
