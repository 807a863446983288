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

/* A stretch of an MDL that a DMA routine is to map or to flush. */
struct ke_dma_call {
    PDMA_ADAPTER adapter;
    PMDL         mdl;
    PVOID        va;
    ULONGLONG    offset;                /* in the chain, instead of va: */
    bool         by_offset;
    ULONG        length;
    bool         write;                 /* to the device */
    bool         list;                  /* by a routine that makes a list, and that may go on in chained MDLs */
};

/* A block of pool. Its call stacks are what the hook `remember` gave; NULL: unknown, or not freed yet. */
struct ke_pool_block {
    uintptr_t   va;
    size_t      bytes;                  /* as asked for */
    ULONG       tag;
    const void *allocated, *freed;
};

/* An access that met no memory. */
struct ke_access {
    uintptr_t ip, va;
    bool      write;
};

/* One beside a block of special pool, or to one that was freed. */
struct ke_pool_fault {
    struct ke_access     access;
    bool                 freed;
    struct ke_pool_block block;
};

/* Somebody wrote beside a block; found when it was freed. */
struct ke_pool_damage {
    struct ke_pool_block block;
    uintptr_t            va;            /* the first byte that has changed */
    bool                 special;       /* in special pool */
    bool                 one_bit;       /* nothing else has changed than one bit */
};

struct ke_hooks {
    const void *(*remember)(struct ke_site site);       /* a call stack, for later */
    void (*tell_stack)(const char *title, const void *stack);       /* print one that was remembered, into the warning under way */
    const char *(*advise)(const char *slug);        /* what to do about a warning of this name */
    void (*tell_code)(const char *title, const void *code);         /* the place of a routine, in the same way */
    void (*tell_block)(const struct ke_pool_block *block);
    void (*irql_check)(struct ke_site site, KIRQL most);        /* by a routine that has no rules of its own, and takes no MDL */
    void (*irql_raised)(void);          /* from below DISPATCH_LEVEL to there or above */
    void (*access_met_nothing)(const struct ke_access *access);     /* nothing of mm: perhaps an MDL in special pool, which stops */
    void (*access_refused)(uintptr_t va);       /* on the thread that faulted, before it becomes an exception or stops */

    /* mdl */
    void (*mdl_allocate_check)(struct ke_site site, PVOID va, ULONG length, BOOLEAN secondary, BOOLEAN quota, PIRP irp);
    void (*mdl_allocate_record)(struct ke_site site, PMDL mdl, PMDL replaced);      /* `replaced`: was the head of the IRP's chain */
    void (*mdl_allocate_refused)(void);         /* the routine returns NULL */
    void (*mdl_free_check)(struct ke_site site, PMDL mdl);
    void (*mdl_free_record)(struct ke_site site, PMDL mdl);
    void (*mdl_lent_record)(struct ke_site site, PMDL mdl);         /* a driver may use it; only the floor that made it frees it */
    void (*mdl_destroy_record)(struct ke_site site, PMDL mdl);          /* freed by a floor that made it, not by IoFreeMdl */
    void (*mdl_partial_check)(struct ke_site site, PMDL source, PMDL target, PVOID va, ULONG length);
    void (*mdl_partial_record)(struct ke_site site, PMDL source, PMDL target);
    void (*mdl_build_check)(struct ke_site site, PMDL mdl);
    void (*mdl_build_record)(struct ke_site site, PMDL mdl);
    void (*mdl_lock_check)(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode);
    void (*mdl_lock_process_check)(struct ke_site site, PMDL mdl, PEPROCESS process);
    void (*mdl_lock_selected_check)(struct ke_site site, PMDL mdl);
    void (*mdl_lock_record)(struct ke_site site, PMDL mdl);
    void (*mdl_unlock_check)(struct ke_site site, PMDL mdl);
    void (*mdl_unlock_record)(struct ke_site site, PMDL mdl);
    void (*mdl_map_check)(struct ke_site site, const struct ke_map_call *call);
    void (*mdl_map_obsolete_check)(struct ke_site site, PMDL mdl, KPROCESSOR_MODE mode);
    void (*mdl_reserved_map_check)(struct ke_site site, PMDL mdl);
    bool (*mdl_is_locked)(PMDL mdl);            /* it holds a lock, whatever its flags say */
    bool (*mdl_is_read_locked)(PMDL mdl);       /* its pages, or its source's, for IoReadAccess: its mapping is not to be written */
    void (*mdl_map_record)(struct ke_site site, PMDL mdl, PVOID va, KPROCESSOR_MODE mode);
    void (*mdl_map_failed_record)(struct ke_site site, PMDL mdl);           /* the routine returns NULL */
    void (*mdl_unmap_check)(struct ke_site site, PVOID va, PMDL mdl, bool user, bool mine);    /* `mine`: va is a user mapping of it here */
    void (*mdl_unmap_record)(struct ke_site site, PMDL mdl, bool user);
    void (*mdl_system_address_check)(struct ke_site site, PMDL mdl);
    void (*mdl_advance_check)(struct ke_site site, PMDL mdl, ULONG bytes);
    void (*mdl_advance_record)(struct ke_site site, PMDL mdl, size_t passed);     /* whole pages that it has let go of */
    void (*mdl_reuse_check)(struct ke_site site, PMDL mdl);
    void (*mdl_use_check)(struct ke_site site, PMDL mdl);       /* by a routine that has no rules of its own */

    /* pages of MmAllocatePagesForMdl and its kin */
    void (*pages_allocate_check)(struct ke_site site);
    void (*pages_allocate_record)(struct ke_site site, PMDL mdl);
    void (*pages_free_check)(struct ke_site site, PMDL mdl);
    void (*pages_free_record)(struct ke_site site, PMDL mdl);

    void (*protection_check)(struct ke_site site, ULONG protection);         /* PAGE_* that a routine is asked for */

    /* device memory */
    void (*io_space_map_check)(struct ke_site site, uint64_t pa, SIZE_T bytes);
    void (*io_space_unmap_check)(struct ke_site site, PVOID va, SIZE_T bytes);

    void (*memory_free_check)(struct ke_site site, PVOID va, SIZE_T bytes);         /* nonpaged memory, by whichever routine but ExFreePool's */

    /* contiguous memory */
    void (*contiguous_check)(struct ke_site site, bool freeing);
    void (*contiguous_mismatch_check)(struct ke_site site, PVOID va);         /* freed with another size or cache type */

    /* pool: irql rules; `pool` is a POOL_TYPE with its modifier bits */
    void (*pool_allocate_check)(struct ke_site site, ULONG pool, SIZE_T bytes, ULONG tag);
    void (*pool_free_check)(struct ke_site site, PVOID va, ULONG tag);
    void (*pool_damaged)(struct ke_site site, const struct ke_pool_damage *damage);
    void (*pool_fault)(const struct ke_pool_fault *fault);

    /* io */
    void (*irp_call_check)(struct ke_site site, PDEVICE_OBJECT device, PIRP irp);
    void (*irp_call_record)(struct ke_site site, PDEVICE_OBJECT device, PDRIVER_DISPATCH dispatch, KIRQL irql_before);
    void (*irp_complete_check)(struct ke_site site, PIRP irp);
    void (*irp_passed_check)(struct ke_site site, PIRP irp, PIO_COMPLETION_ROUTINE routine);       /* which let it go on */
    void (*irp_allocate_record)(struct ke_site site, PIRP irp);
    void (*irp_free_check)(struct ke_site site, PIRP irp);
    void (*irp_free_record)(struct ke_site site, PIRP irp);
    void (*irp_fsd_buffer_check)(struct ke_site site, PDEVICE_OBJECT device, ULONG major, NTSTATUS status);      /* refused with this status */
    void (*irp_control_buffer_check)(struct ke_site site, PDEVICE_OBJECT device, ULONG code, NTSTATUS status);
    void (*irp_requester_check)(struct ke_site site, const IRP *irp, uintptr_t sp);     /* its thread's stack below is not in use; 0: not known */

    /* dma */
    void (*dma_describe_check)(struct ke_site site, const DEVICE_DESCRIPTION *description);
    void (*dma_call_check)(struct ke_site site, PDMA_ADAPTER adapter, KIRQL least, KIRQL most);
    void (*dma_transfer_check)(struct ke_site site, const struct ke_dma_call *call);
    void (*dma_channel_check)(struct ke_site site, PDMA_ADAPTER adapter, PDEVICE_OBJECT device);
    void (*dma_map_check)(struct ke_site site, const struct ke_dma_call *call, PVOID base);
    void (*dma_map_ex_check)(struct ke_site site, PDMA_ADAPTER adapter, PVOID base, ULONG length);
    void (*dma_flush_check)(struct ke_site site, const struct ke_dma_call *call, PVOID base);
    void (*dma_flush_ex_check)(struct ke_site site, const struct ke_dma_call *call, PVOID base);
    void (*dma_free_channel_check)(struct ke_site site, PDMA_ADAPTER adapter);
    void (*dma_free_registers_check)(struct ke_site site, PDMA_ADAPTER adapter, PVOID base, ULONG nregisters);
    void (*dma_free_buffer_check)(struct ke_site site, PDMA_ADAPTER adapter, PVOID va, ULONG length, uint64_t la, bool cached);
    void (*dma_put_list_check)(struct ke_site site, PDMA_ADAPTER adapter, PSCATTER_GATHER_LIST list, bool write);
    void (*dma_put_adapter_check)(struct ke_site site, PDMA_ADAPTER adapter);
    void (*dma_overwritten)(uintptr_t va);                      /* a free map register was */

    void (*driver_unload_check)(struct ke_site site, PDRIVER_OBJECT driver);       /* after its unload routine */

    /* The story behind a bug check, printed under its STOP line. */
    void (*bug_check_report)(ULONG code, const uint64_t parameters[4]);
};

#endif
