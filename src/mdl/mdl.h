/* SPDX-License-Identifier: MIT */
/*
 * The MDL routines: allocate, build, partial, lock, map, advance; a file per family.
 *
 *   MDL      Microsoft's 48-byte header with the PFN array directly behind it; nothing is hidden inside or behind it
 *   block    the memory of an MDL that IoAllocateMdl made: a small prefix in front, in an address range of its own
 *   span     the pages that StartVa + ByteOffset .. + ByteCount touches: the length of the PFN array in use
 *
 * An MDL may also live in a driver's own memory; it then has no prefix, and only its header speaks for it.
 */
#ifndef PINION_MDL_H
#define PINION_MDL_H

#include "mm/mm.h"

static inline uintptr_t mdl_va(const MDL *mdl)
{
    return (uintptr_t)mdl->StartVa + mdl->ByteOffset;
}

static inline size_t mdl_span(const MDL *mdl)
{
    return span_pages(mdl->ByteOffset, mdl->ByteCount);
}

static inline PPFN_NUMBER mdl_pfns(PMDL mdl)
{
    return (PPFN_NUMBER)(mdl + 1);
}

static inline bool mdl_has(const MDL *mdl, unsigned flags)
{
    return ((unsigned)(USHORT)mdl->MdlFlags & flags) != 0;
}

/* MdlFlags is a signed 16-bit field: all its arithmetic is done here. */
static inline void mdl_set_flags(PMDL mdl, unsigned clear, unsigned set)
{
    mdl->MdlFlags = (CSHORT)(((unsigned)(USHORT)mdl->MdlFlags & ~clear) | set);
}

/* ---- block.c: where MDLs live ---- */

PMDL   mdl_block_take(struct machine *machine, size_t npages);      /* uninitialised; NULL when there is no room */
void   mdl_block_give(struct machine *machine, PMDL mdl);
bool   mdl_block_is_ours(const struct machine *machine, const MDL *mdl);        /* an address where MDLs of IoAllocateMdl stand */
bool   mdl_block_is_live(const struct machine *machine, const MDL *mdl);        /* ours, and allocated now */
size_t mdl_capacity(const struct machine *machine, const MDL *mdl);             /* PFNs that there is room for */

/*
 * ---- special.c: MDLs with a page of their own ----
 *
 * mdl_special_is_damaged: somebody wrote beside it, at *va first. mdl_special_meets: the MDL that an access to no memory concerns,
 * because it was freed there or ends before va.
 */
bool   mdl_special_is_damaged(const struct machine *machine, const MDL *mdl, uintptr_t *va);
bool   mdl_special_meets(const struct machine *machine, uintptr_t va, PMDL *mdl, bool *freed);

/* ---- allocate.c ---- */

/* As IoAllocateMdl without an IRP, for the I/O manager: counted as alive, but never made to fail on demand. NULL: no memory. */
PMDL mdl_new(struct machine *machine, uintptr_t va, size_t bytes);

/* Release what a partial MDL mapped itself, and the MDL. */
void mdl_destroy(struct machine *machine, PMDL mdl);

/* ---- lock.c ---- */

/* As MmProbeAndLockPages, with the status it would raise. On failure nothing is locked. */
NTSTATUS mdl_lock(struct machine *machine, PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation);

/* As MmUnlockPages: releases a system mapping first. */
void mdl_unlock(struct machine *machine, PMDL mdl);

/* ---- map.c ---- */

/* Release the MDL's system mapping. */
void mdl_unmap_system(struct machine *machine, PMDL mdl);

extern const struct ke_floor mdl_floor;

#endif
