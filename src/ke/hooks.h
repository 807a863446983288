/* SPDX-License-Identifier: MIT */
/*
 * Hooks: the places where the floors tell the verifier what a driver is about to do, and what was done.
 *
 * A `_check` hook runs before anything has changed and may stop the machine or warn. A `_record` hook runs after the
 * routine has done its work. With the verifier off every pointer is NULL, and a call costs one load and one branch.
 */
#ifndef PINION_KE_HOOKS_H
#define PINION_KE_HOOKS_H

#include <ntifs.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a driver called a DDI: the address it returns to, and the caller's frame pointer. */
struct ke_site {
    uintptr_t ip;
    uintptr_t frame;
};

/* The arguments of MmMapLockedPagesSpecifyCache that rules look at. */
struct ke_map_call {
    PMDL            mdl;
    KPROCESSOR_MODE mode;
    bool            bug_check_on_failure;
    bool            priority_given;         /* false: the routine cannot ask for a non-executable mapping */
    ULONG           priority;
};

struct ke_hooks {
    /* mdl */
    void (*mdl_allocate_check)(struct ke_site site, PVOID va, ULONG length, BOOLEAN secondary, BOOLEAN quota, PIRP irp);
    void (*mdl_allocate_record)(struct ke_site site, PMDL mdl);
    void (*mdl_free_check)(struct ke_site site, PMDL mdl);
    void (*mdl_free_record)(struct ke_site site, PMDL mdl);
    void (*mdl_partial_check)(struct ke_site site, PMDL source, PMDL target, PVOID va, ULONG length);
    void (*mdl_partial_record)(struct ke_site site, PMDL source, PMDL target);
    void (*mdl_build_check)(struct ke_site site, PMDL mdl);
    void (*mdl_build_record)(struct ke_site site, PMDL mdl);
    void (*mdl_lock_check)(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode);
    void (*mdl_lock_record)(struct ke_site site, PMDL mdl);
    void (*mdl_unlock_check)(struct ke_site site, PMDL mdl);
    void (*mdl_unlock_record)(struct ke_site site, PMDL mdl);
    void (*mdl_map_check)(struct ke_site site, const struct ke_map_call *call);
    void (*mdl_map_record)(struct ke_site site, PMDL mdl, PVOID va, KPROCESSOR_MODE mode);
    void (*mdl_unmap_check)(struct ke_site site, PVOID va, PMDL mdl, bool user);
    void (*mdl_unmap_record)(struct ke_site site, PMDL mdl, bool user);
    void (*mdl_system_address_check)(struct ke_site site, PMDL mdl);
    void (*mdl_advance_check)(struct ke_site site, PMDL mdl, ULONG bytes);
    void (*mdl_advance_record)(struct ke_site site, PMDL mdl);
    void (*mdl_reuse_check)(struct ke_site site, PMDL mdl);

    /* pool: irql rules; `pool` is a POOL_TYPE with its modifier bits */
    void (*pool_allocate_check)(struct ke_site site, ULONG pool, SIZE_T bytes, ULONG tag);
    void (*pool_free_check)(struct ke_site site, PVOID va, ULONG tag);

    /* io */
    void (*irp_call_check)(struct ke_site site, PDEVICE_OBJECT device, PIRP irp);
    void (*irp_call_record)(struct ke_site site, PDEVICE_OBJECT device, PIRP irp, KIRQL irql_before);
    void (*irp_complete_check)(struct ke_site site, PIRP irp);
    void (*irp_allocate_record)(struct ke_site site, PIRP irp);
    void (*irp_free_check)(struct ke_site site, PIRP irp);
    void (*irp_free_record)(struct ke_site site, PIRP irp);

    /* The story behind a bug check, printed under its STOP line. */
    void (*bug_check_report)(ULONG code, const uint64_t parameters[4]);
};

#endif
