/* SPDX-License-Identifier: MIT */
/* The routines by which drivers allocate and free pool: what their arguments mean. pool.c has the pool itself. */

#include "mm/pool.h"

#include <string.h>

enum {
    PAGED_BIT    = 1,
    MODIFIERS    = 0x4 | 0x2,           /* cache aligned, must succeed */
    RAISE_BIT    = 0x10,
};

struct pool_request mm_pool_request_of_type(POOL_TYPE type, size_t bytes, ULONG tag)
{
    const ULONG bits = (ULONG)type;

    return (struct pool_request){
        .paged = bits & PAGED_BIT, .cache_aligned = bits & MODIFIERS & 0x4,
        .executable = (bits & (PAGED_BIT | NonPagedPoolNx)) == 0, .bytes = bytes, .tag = tag};
}

static PVOID allocate_by_type(struct ke_site site, enum ke_fallible routine, POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
    struct machine *machine = ke_machine();
    const ULONG bits = (ULONG)type;
    struct pool_request request = mm_pool_request_of_type(type, bytes, tag);
    void *block = NULL;

    request.site = site;
    if (machine->hooks.pool_allocate_check != NULL)
        machine->hooks.pool_allocate_check(site, bits, bytes, tag);
    if (!ke_fails(routine))
        block = mm_pool_take(machine, &request);
    if (block == NULL && (bits & RAISE_BIT))
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, site.ip);
    return block;
}

PVOID ExAllocatePoolWithTag(POOL_TYPE PoolType, SIZE_T NumberOfBytes, ULONG Tag)
{
    return allocate_by_type(KE_SITE, KE_FALLIBLE_ExAllocatePoolWithTag, PoolType, NumberOfBytes, Tag);
}

PVOID ExAllocatePool(POOL_TYPE PoolType, SIZE_T NumberOfBytes)
{
    const ULONG no_tag = 0x656E6F4E;    /* 'None', as Windows marks it */

    return allocate_by_type(KE_SITE, KE_FALLIBLE_ExAllocatePool, PoolType, NumberOfBytes, no_tag);
}

/* Exactly one kind of pool, and no flag that is not documented. */
static bool are_flags_valid(POOL_FLAGS flags)
{
    const POOL_FLAGS kinds = POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED;
    const POOL_FLAGS known = kinds | POOL_FLAG_USE_QUOTA | POOL_FLAG_UNINITIALIZED | POOL_FLAG_SESSION
        | POOL_FLAG_CACHE_ALIGNED | POOL_FLAG_RAISE_ON_FAILURE | POOL_FLAG_SPECIAL_POOL;
    const POOL_FLAGS kind = flags & kinds;

    return kind != 0 && (kind & (kind - 1)) == 0 && (flags & UINT32_MAX & ~known) == 0;
}

static PVOID allocate_by_flags(struct ke_site site, enum ke_fallible routine, POOL_FLAGS flags, SIZE_T bytes, ULONG tag)
{
    struct machine *machine = ke_machine();
    const struct pool_request request = {
        .paged = flags & POOL_FLAG_PAGED, .cache_aligned = flags & POOL_FLAG_CACHE_ALIGNED,
        .executable = flags & POOL_FLAG_NON_PAGED_EXECUTE, .bytes = bytes, .tag = tag, .site = site};
    const ULONG type = request.paged ? PagedPool : request.executable ? NonPagedPool : NonPagedPoolNx;
    const bool valid = tag != 0 && are_flags_valid(flags);
    void *block = NULL;

    if (valid && machine->hooks.pool_allocate_check != NULL)
        machine->hooks.pool_allocate_check(site, type, bytes, tag);
    if (valid && !ke_fails(routine))
        block = mm_pool_take(machine, &request);
    if (block == NULL && (flags & POOL_FLAG_RAISE_ON_FAILURE))
        ke_raise(STATUS_INSUFFICIENT_RESOURCES, site.ip);
    if (block != NULL && !(flags & POOL_FLAG_UNINITIALIZED))
        memset(block, 0, bytes);
    return block;
}

PVOID ExAllocatePool2(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag)
{
    return allocate_by_flags(KE_SITE, KE_FALLIBLE_ExAllocatePool2, Flags, NumberOfBytes, Tag);
}

/* An extended parameter that is not marked optional and means nothing here makes the call fail, as its page says. */
PVOID ExAllocatePool3(POOL_FLAGS Flags, SIZE_T NumberOfBytes, ULONG Tag, PCPOOL_EXTENDED_PARAMETER ExtendedParameters,
                      ULONG ExtendedParametersCount)
{
    for (ULONG i = 0; i < ExtendedParametersCount; i++)
        if (!ExtendedParameters[i].Optional && ExtendedParameters[i].Type != PoolExtendedParameterPriority)
            return NULL;
    return allocate_by_flags(KE_SITE, KE_FALLIBLE_ExAllocatePool3, Flags, NumberOfBytes, Tag);
}

static void free_pool(struct ke_site site, PVOID va, ULONG tag)
{
    struct machine *machine = ke_machine();

    if (machine->hooks.pool_free_check != NULL)
        machine->hooks.pool_free_check(site, va, tag);
    mm_pool_give(machine, site, (uintptr_t)va, tag);
}

VOID ExFreePool(PVOID P)
{
    free_pool(KE_SITE, P, 0);
}

VOID ExFreePoolWithTag(PVOID P, ULONG Tag)
{
    free_pool(KE_SITE, P, Tag);
}

VOID ExFreePool2(PVOID P, ULONG Tag, PCPOOL_EXTENDED_PARAMETER ExtendedParameters, ULONG ExtendedParametersCount)
{
    UNREFERENCED_PARAMETER(ExtendedParameters);
    UNREFERENCED_PARAMETER(ExtendedParametersCount);
    free_pool(KE_SITE, P, Tag);
}
