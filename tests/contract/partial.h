/* SPDX-License-Identifier: MIT */
/*
 * What the tests of partial MDLs start from: a buffer, a locked MDL over most of it, and parts of that.
 *
 *      page 0          page 1          page 2               page 6
 *     |.....[ source MDL ...............................]....|
 *                |<- part ->|
 */

#pragma once

#include "support.h"

enum {
    SEED = 9,
    PAGES = 7,                              /* of the buffer; the source touches them all */
    SOURCE_AT = 700,                        /* its offset in the first one */
    SOURCE_BYTES = 6 * PAGE_SIZE + 900,
    SOURCE_END = SOURCE_AT + SOURCE_BYTES,
    PART_AT = PAGE_SIZE - 9,                /* of a pair */
    PART_BYTES = 2 * PAGE_SIZE + 100,
};

/* A patterned buffer of the current process, and a locked MDL over most of it. */
struct source {
    UCHAR *base;
    UCHAR *va;
    PMDL mdl;
};

static inline struct source make_source(void)
{
    UCHAR *const base = user_pattern(PAGES, SEED);

    return (struct source){base, base + SOURCE_AT, locked_mdl(base + SOURCE_AT, SOURCE_BYTES)};
}

static inline void release_source(const struct source *source)
{
    unlock_and_free(source->mdl);
    pinion_user_free(source->base);
}

/* A new MDL with room for exactly this range, built over it. */
static inline PMDL part_of(PMDL source, PVOID va, ULONG bytes)
{
    const PMDL part = mdl_over(va, bytes);

    IoBuildPartialMdl(source, part, va, bytes);
    return part;
}

/* A partial MDL over the middle of a buffer that is locked as a whole, and its source. */
struct pair {
    UCHAR *va;
    PMDL source;
    PMDL part;
};

static inline struct pair make_pair(void)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL source = locked_mdl(va, PAGES * PAGE_SIZE);

    return (struct pair){va, source, part_of(source, va + PART_AT, PART_BYTES)};
}

/* Where the part is gone already. */
static inline void release_pair_source(const struct pair *pair)
{
    unlock_and_free(pair->source);
    pinion_user_free(pair->va);
}

static inline void release_pair(const struct pair *pair)
{
    IoFreeMdl(pair->part);
    release_pair_source(pair);
}

/* What the page promises of the header and the page numbers of a part. */
static inline void expect_part(PMDL source, PMDL part, PVOID va, ULONG bytes)
{
    const SIZE_T first = ((ULONG_PTR)PAGE_ALIGN(va) - (ULONG_PTR)MmGetMdlBaseVa(source)) >> PAGE_SHIFT;

    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(part), va);
    EXPECT_PTR_EQ(MmGetMdlBaseVa(part), PAGE_ALIGN(va));
    EXPECT_EQ(MmGetMdlByteOffset(part), BYTE_OFFSET(va));
    EXPECT_EQ(MmGetMdlByteCount(part), bytes);
    EXPECT_MEM_EQ(MmGetMdlPfnArray(part), MmGetMdlPfnArray(source) + first, mdl_pages(part) * sizeof(PFN_NUMBER));
    EXPECT_EQ(part->MdlFlags & (MDL_PARTIAL | MDL_PAGES_LOCKED | MDL_PARTIAL_HAS_BEEN_MAPPED), MDL_PARTIAL);
}
