/* SPDX-License-Identifier: MIT */
/*
 * The model that MDLs are held to.
 *
 *     buffer    |......page......|......page......|......page......|       its bytes, and the same bytes in `image`
 *     MDL            ^-from             ^-from + bytes                      the pages that it touches, in `pfns`
 *     system         ^ (private mapping)                                   where the range is seen
 *
 * It knows which bytes of which buffer each MDL describes, what keeps its pages, and at which addresses they are seen. Whoever writes,
 * through whatever address, writes the image too: so each address must show the image. Of how the library does any of it, the model knows
 * nothing.
 */

#pragma once

#include "machine.h"

#include <string.h>

enum { BUFFERS = 4, SLOTS = 6, PAGES = 5, BUFFER_BYTES = PAGES * PAGE_SIZE, MOST_STEPS = 200, TAG = 'zzuF' };

enum origin { NOWHERE, PROCESS, PAGED_POOL, NONPAGED_POOL, HOST, ALLOCATED_PAGES };

struct buffer {
    enum origin origin;                 /* NOWHERE: there is no such buffer */
    UCHAR *va;                          /* NULL: it has no address, or was freed while pages of it were locked */
    size_t bytes;
    ULONG protection[PAGES];            /* of PROCESS, for the owner's own accesses and for locks to come */
    UCHAR image[BUFFER_BYTES];
};

enum state { NO_MDL, DESCRIBES, LOCKED, BUILT, PART, OWN_PAGES };

struct slot {
    PMDL mdl;
    enum state state;
    struct buffer *buffer;              /* NULL: nobody may look at what it describes: a container, or its pages are gone */
    UCHAR *va;                          /* what MmGetMdlVirtualAddress says */
    size_t from, bytes;                 /* of the buffer */
    size_t room;                        /* pages that it can describe */
    PFN_NUMBER pfns[PAGES + 1];
    bool for_write;                     /* its pages may be written to */
    UCHAR *system;                      /* NULL: not mapped */
    bool system_writable;
    struct slot *lender;                /* whose mapping `system` belongs to; NULL: to nobody, the buffer is always there */
    struct slot *root;                  /* PART: whose lock or pages it lives on; NULL: nonpaged pool */
    UCHAR *user;
    bool user_writable;
};

/* A step is one call. It may be told to fail, and it may be made at DISPATCH_LEVEL where that is allowed. */
enum fault { NO_FAULT, ROUTINE_FAILS, ALLOCATION_FAILS };

static struct {
    struct fuzz_input input;
    struct buffer buffers[BUFFERS];
    struct slot slots[SLOTS];
    UCHAR host_memory[BUFFERS][BUFFER_BYTES + PAGE_SIZE];
    enum fault fault;
    unsigned nth;                       /* ALLOCATION_FAILS: which one of the library's own */
    const char *failing;                /* the routine that was told to fail */
    bool at_dispatch;
    KIRQL irql;
} world;

/* ---- questions ---- */

static size_t span_of(const struct slot *slot)
{
    return ADDRESS_AND_SIZE_TO_SPAN_PAGES(slot->va, slot->bytes);
}

/* Pages that were allocated for an MDL have no address, and count from NULL, which C does not. */
static UCHAR *address_behind(const UCHAR *va, size_t bytes)
{
    return (UCHAR *)((ULONG_PTR)va + bytes);
}

/* The slot's page that this byte of its range is in. */
static size_t page_at(const struct slot *slot, size_t at)
{
    return (BYTE_OFFSET(slot->va) + at) >> PAGE_SHIFT;
}

static bool is_free(const struct slot *slot)
{
    return slot->state == NO_MDL;
}

/* Its pages are there, and stay there. */
static bool holds(const struct slot *slot)
{
    return slot->buffer != NULL && slot->state >= LOCKED;
}

static bool owns_mapping(const struct slot *slot)
{
    return slot->lender == slot;
}

static bool is_lockable(const struct slot *slot)
{
    return slot->state == DESCRIBES && slot->buffer != NULL && slot->buffer->va != NULL;
}

static bool is_buildable(const struct slot *slot)
{
    return is_lockable(slot) && slot->buffer->origin == NONPAGED_POOL;
}

static bool is_target(const struct slot *slot)
{
    return slot->state == DESCRIBES || ((slot->state == BUILT || slot->state == PART) && !owns_mapping(slot) && slot->user == NULL);
}

static bool is_advanceable(const struct slot *slot)
{
    return slot->buffer != NULL && slot->state != OWN_PAGES && slot->user == NULL;
}

static bool is_mappable(const struct slot *slot)
{
    return holds(slot) && slot->system == NULL;
}

static bool is_user_mappable(const struct slot *slot)
{
    return holds(slot) && slot->user == NULL && slot->buffer->origin != HOST;
}

static bool is_writable(const struct slot *slot)
{
    return (slot->system != NULL && slot->system_writable) || (slot->user != NULL && slot->user_writable);
}

static bool is_user_mapped(const struct slot *slot)
{
    return slot->user != NULL;
}

static bool is_reusable(const struct slot *slot)
{
    return slot->state == PART || (slot->state == DESCRIBES && slot->buffer == NULL);
}

static bool is_locked(const struct slot *slot)
{
    return slot->state == LOCKED;
}

static bool is_freeable(const struct slot *slot)
{
    return slot->state != NO_MDL && slot->state != LOCKED;
}

static bool is_lent(const struct slot *lender)
{
    for (const struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (slot != lender && slot->lender == lender)
            return true;
    return false;
}

/* One of the slots of which it holds; NULL: there is none. */
static struct slot *pick(bool (*fits)(const struct slot *slot))
{
    const unsigned first = fuzz_below(&world.input, SLOTS);

    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &world.slots[(first + i) % SLOTS];

        if (fits(slot))
            return slot;
    }
    return NULL;
}

static bool is_held(const struct buffer *buffer)
{
    for (const struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (slot->buffer == buffer && holds(slot))
            return true;
    return false;
}

/* ---- comparing ---- */

static void expect_image(const struct buffer *buffer, size_t from, const UCHAR *seen, size_t bytes, const char *where)
{
    if (memcmp(seen, buffer->image + from, bytes) != 0)
        fuzz_fail(__FILE__, __LINE__, "each byte to be the buffer's", " in %s: buffer %ld, byte %zu", where, buffer - world.buffers,
                  from + first_difference(seen, buffer->image + from, bytes));
}

static void check_header(const struct slot *slot)
{
    const PMDL mdl = slot->mdl;

    FUZZ_EXPECT(MmGetMdlByteCount(mdl) == slot->bytes, "MDL %ld: %u, not %zu", slot - world.slots, MmGetMdlByteCount(mdl), slot->bytes);
    FUZZ_EXPECT(MmGetMdlVirtualAddress(mdl) == slot->va, "MDL %ld: %p, not %p", slot - world.slots, MmGetMdlVirtualAddress(mdl),
                (void *)slot->va);
    FUZZ_EXPECT(MmGetMdlByteOffset(mdl) == BYTE_OFFSET(slot->va) && mdl->StartVa == PAGE_ALIGN(slot->va));
    FUZZ_EXPECT(!!(mdl->MdlFlags & MDL_PAGES_LOCKED) == (slot->state == LOCKED || slot->state == OWN_PAGES));
    FUZZ_EXPECT(!!(mdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL) == (slot->system != NULL && slot->lender == NULL));
    FUZZ_EXPECT(!!(mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) == (slot->lender != NULL));
    FUZZ_EXPECT(!!(mdl->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED) == (slot->state == PART && owns_mapping(slot)));
}

static void check_slot(const struct slot *slot)
{
    if (is_free(slot) || slot->buffer == NULL)
        return;
    check_header(slot);
    if (!holds(slot))
        return;
    for (size_t i = 0; i < span_of(slot); i++)
        FUZZ_EXPECT(MmGetMdlPfnArray(slot->mdl)[i] == slot->pfns[i], "page %zu of MDL %ld: 0x%lx, not 0x%lx", i, slot - world.slots,
                    (unsigned long)MmGetMdlPfnArray(slot->mdl)[i], (unsigned long)slot->pfns[i]);
    if (slot->system != NULL) {
        FUZZ_EXPECT(BYTE_OFFSET(slot->system) == BYTE_OFFSET(slot->va));
        expect_image(slot->buffer, slot->from, slot->system, slot->bytes, "system space");
    }
    if (slot->user != NULL)
        expect_image(slot->buffer, slot->from, slot->user, slot->bytes, "a user mapping");
}

static void check_counters(void)
{
    struct pinion_counters now, model = {0};

    for (const struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++) {
        model.live_mdls += !is_free(slot);
        model.locked_pages += slot->state == LOCKED ? span_of(slot) : 0;
        model.system_mappings += owns_mapping(slot);
        model.system_pages_mapped += owns_mapping(slot) ? span_of(slot) : 0;
    }
    pinion_counters(&now);
    FUZZ_EXPECT(now.live_mdls == model.live_mdls, "MDLs: %lu, not %lu", now.live_mdls, model.live_mdls);
    FUZZ_EXPECT(now.locked_pages == model.locked_pages, "locks: %lu, not %lu", now.locked_pages, model.locked_pages);
    FUZZ_EXPECT(now.system_mappings == model.system_mappings, "mappings: %lu, not %lu", now.system_mappings, model.system_mappings);
    FUZZ_EXPECT(now.system_pages_mapped == model.system_pages_mapped, "pages mapped: %lu, not %lu", now.system_pages_mapped,
                model.system_pages_mapped);
}

static void check(void)
{
    for (const struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        check_slot(slot);
    check_counters();
}
