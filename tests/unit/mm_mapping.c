/* SPDX-License-Identifier: MIT */
/*
 * Mappings of other owners' frames into a space; then everything that a space can do, in random order,
 * against a model; and spaces broken by hand that the checker must refuse.
 */

#include "space.h"

/* Some PFNs of a locked buffer in an order of their own, one of them twice. */
struct source {
    uintptr_t va;
    PFN_NUMBER pfns[6], mixed[6];
};

static struct source lock_source(struct fixture *f)
{
    static const unsigned order[6] = {4, 0, 1, 2, 5, 0};
    struct source s = {.va = allocate(f, 6)};

    fill(s.va, 6, 6);
    EXPECT_STATUS(lock(f, s.va, 6, true, s.pfns), STATUS_SUCCESS);
    for (size_t i = 0; i < 6; i++)
        s.mixed[i] = s.pfns[order[i]];
    return s;
}

static void release_source(struct fixture *f, const struct source *s)
{
    mm_unlock_pages(f->machine, s->pfns, 6);
    EXPECT(mm_space_free(f->machine, f->space, s->va));
}

/* A mapping shows the frames that were named, in their order, at an address of its own; the same bytes in
   both places. */
TEST(mm_mapping, map__mixed_and_repeated_frames__shows_them_in_order)
{
    static const unsigned order[6] = {4, 0, 1, 2, 5, 0};
    struct fixture f;
    struct source s;
    uintptr_t va;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    for (unsigned kind = 0; kind < 2; kind++) {
        struct mm_space *space = kind == 0 ? f.machine->mm->system_ptes : f.space;

        EXPECT_STATUS(map(&f, space, s.mixed, 6, 0, &va), STATUS_SUCCESS);
        for (size_t i = 0; i < 6; i++)
            EXPECT_MEM_EQ(va + i * HOST_PAGE_SIZE, s.va + order[i] * HOST_PAGE_SIZE, HOST_PAGE_SIZE);
        ((volatile uint8_t *)va)[0] ^= 0xFF;
        EXPECT_EQ(((volatile uint8_t *)s.va)[4 * HOST_PAGE_SIZE], ((volatile uint8_t *)va)[0]);
        ((volatile uint8_t *)va)[0] ^= 0xFF;
        EXPECT_EQ(mm_translate(f.machine, va + HOST_PAGE_SIZE), s.pfns[0]);
        expect_sound(&f);
        mm_space_unmap(f.machine, space, va + 2 * HOST_PAGE_SIZE);
        EXPECT_EQ(mm_translate(f.machine, va), MM_NO_PFN);
    }
    release_source(&f, &s);
    close_fixture(&f);
}

/* A wanted address is given if it and the pages around it are free, and refused otherwise; nothing changes
   then. */
TEST(mm_mapping, map__wanted_address__is_given_or_conflicts)
{
    struct fixture f;
    struct source s;
    uintptr_t va, wanted;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    wanted = f.space->base + 30 * HOST_PAGE_SIZE;
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, wanted, &va), STATUS_SUCCESS);
    EXPECT_EQ(va, wanted);
    for (uintptr_t at = 24; at <= 36; at++)
        EXPECT_STATUS(map(&f, f.space, s.mixed, 6, f.space->base + at * HOST_PAGE_SIZE, &va),
                      STATUS_CONFLICTING_ADDRESSES);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, f.space->base, &va), STATUS_CONFLICTING_ADDRESSES);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, f.space->base + (SMALL - 6) * HOST_PAGE_SIZE, &va),
                  STATUS_CONFLICTING_ADDRESSES);
    EXPECT_EQ(f.space->nused, 12);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, f.space->base + 37 * HOST_PAGE_SIZE, &va), STATUS_SUCCESS);
    mm_space_unmap(f.machine, f.space, va);
    mm_space_unmap(f.machine, f.space, wanted);
    release_source(&f, &s);
    close_fixture(&f);
}

/* A number that is no memory, wherever it stands, makes the mapping fail, and nothing of it stays. */
TEST(mm_mapping, map__one_number_is_no_memory__changes_nothing)
{
    static const PFN_NUMBER bad[] = {0, MM_NO_PFN, MM_HOST_PFN_BASE + 5};
    struct fixture f;
    struct source s;
    uintptr_t va;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
        for (size_t at = 0; at < 6; at++) {
            const PFN_NUMBER kept = s.mixed[at];

            s.mixed[at] = bad[b];
            EXPECT(!NT_SUCCESS(map(&f, f.space, s.mixed, 6, 0, &va)));
            EXPECT_EQ(f.space->nused, 6);
            s.mixed[at] = kept;
        }
    }
    expect_sound(&f);
    release_source(&f, &s);
    close_fixture(&f);
}

/* A space that is full refuses a mapping; an empty mapping is none. */
TEST(mm_mapping, map__no_room__is_refused)
{
    struct fixture f;
    struct source s;
    uintptr_t va, rest;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    EXPECT(!NT_SUCCESS(map(&f, f.space, s.mixed, 0, 0, &va)));
    rest = allocate(&f, SMALL - 6 - 3 - 6);
    EXPECT(rest != 0);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, 0, &va), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 5, 0, &va), STATUS_SUCCESS);
    mm_space_unmap(f.machine, f.space, va);
    EXPECT(mm_space_free(f.machine, f.space, rest));
    release_source(&f, &s);
    close_fixture(&f);
}

/* A lock through a mapping pins the frames of the mapping's source, which a trim then leaves alone. */
TEST(mm_mapping, lock__through_a_mapping__pins_the_frames_behind_it)
{
    struct fixture f;
    struct source s;
    PFN_NUMBER pfns[6];
    uintptr_t va;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    EXPECT_STATUS(map(&f, f.space, s.mixed, 6, 0, &va), STATUS_SUCCESS);
    EXPECT_STATUS(lock(&f, va, 6, true, pfns), STATUS_SUCCESS);
    EXPECT_MEM_EQ(pfns, s.mixed, sizeof(pfns));
    EXPECT_EQ(mm_pins_of_pfn(f.machine, s.pfns[0]), 3);
    EXPECT_EQ(mm_pins_of_pfn(f.machine, s.pfns[3]), 1);
    EXPECT_EQ(mm_space_trim(f.machine, f.space), 0);
    mm_unlock_pages(f.machine, pfns, 6);
    mm_space_unmap(f.machine, f.space, va);
    release_source(&f, &s);
    close_fixture(&f);
}

/* Memory that a mapping shows is not freed through the mapping, and protecting the mapping as memory leaves
   it as it was. */
TEST(mm_mapping, map__then_free_or_protect_it__stays_as_it_was)
{
    struct fixture f;
    struct source s;
    uintptr_t va;

    open_fixture(&f, SMALL);
    s = lock_source(&f);
    EXPECT_STATUS(map(&f, f.space, s.pfns, 6, 0, &va), STATUS_SUCCESS);
    EXPECT(!mm_space_free(f.machine, f.space, va));
    EXPECT(mm_space_protect(f.machine, f.space, va, 6, MM_READ));
    EXPECT_RAISES(STATUS_SUCCESS, write_a_byte, (void *)(va + 5));
    EXPECT_EQ(((volatile uint8_t *)s.va)[5], 1);
    mm_space_unmap(f.machine, f.space, va);
    release_source(&f, &s);
    close_fixture(&f);
}

/* ---- all together ---- */

struct piece {
    uintptr_t va;
    size_t npages, nlocks;
    bool freed, is_map;
    PFN_NUMBER pfns[8];
    unsigned seed;
};

enum { PIECES = 12 };

static unsigned random_below(uint64_t *state, unsigned limit)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(*state >> 33) % limit;
}

static void begin_piece(struct fixture *f, struct piece *piece, unsigned npages, unsigned seed)
{
    *piece = (struct piece){.va = allocate(f, npages), .npages = npages, .seed = seed};
    if (piece->va == 0)
        piece->npages = 0;
    else
        fill(piece->va, npages, seed);
}

/* A mapping of another piece's locked frames. */
static void begin_map(struct fixture *f, struct piece *piece, const struct piece *source)
{
    *piece = (struct piece){.npages = source->npages, .is_map = true, .seed = source->seed};
    memcpy(piece->pfns, source->pfns, sizeof(piece->pfns));
    if (!NT_SUCCESS(map(f, f->space, source->pfns, source->npages, 0, &piece->va)))
        piece->npages = 0;
    else
        expect_filled(piece->va, piece->npages, piece->seed);
}

static void lock_piece(struct fixture *f, struct piece *piece)
{
    const NTSTATUS status = lock(f, piece->va, piece->npages, true, piece->pfns);

    EXPECT_STATUS(status, piece->freed ? STATUS_ACCESS_VIOLATION : STATUS_SUCCESS);
    piece->nlocks += NT_SUCCESS(status);
}

static void unlock_piece(struct fixture *f, struct piece *piece)
{
    mm_unlock_pages(f->machine, piece->pfns, piece->npages);
    if (--piece->nlocks == 0 && piece->freed)
        piece->npages = 0;
}

static void free_piece(struct fixture *f, struct piece *piece)
{
    EXPECT_EQ(mm_space_free(f->machine, f->space, piece->va), !piece->freed);
    piece->freed = true;
    if (piece->nlocks == 0)
        piece->npages = 0;
}

static void end_map(struct fixture *f, struct piece *piece)
{
    mm_space_unmap(f->machine, f->space, piece->va);
    piece->npages = 0;
}

static void one_step(struct fixture *f, struct piece pieces[PIECES], uint64_t *state)
{
    struct piece *piece = &pieces[random_below(state, PIECES)];
    const struct piece *other = &pieces[random_below(state, PIECES)];
    const unsigned what = random_below(state, 6);

    if (piece->npages == 0 && other->nlocks != 0 && !other->is_map && what < 3)
        begin_map(f, piece, other);
    else if (piece->npages == 0)
        begin_piece(f, piece, 1 + random_below(state, 8), random_below(state, 256));
    else if (piece->is_map)
        end_map(f, piece);
    else if (what == 0)
        free_piece(f, piece);
    else if (what == 1)
        mm_space_trim(f->machine, f->space);
    else if (piece->nlocks != 0 && what < 4)
        unlock_piece(f, piece);
    else if (what == 5 && !piece->freed)
        expect_filled(piece->va, piece->npages, piece->seed);
    else
        lock_piece(f, piece);
}

static void end_all(struct fixture *f, struct piece pieces[PIECES])
{
    for (size_t i = 0; i < PIECES; i++) {
        if (pieces[i].npages != 0 && pieces[i].is_map)
            end_map(f, &pieces[i]);
        if (pieces[i].npages != 0 && !pieces[i].freed)
            free_piece(f, &pieces[i]);
        while (pieces[i].npages != 0 && pieces[i].nlocks != 0)
            unlock_piece(f, &pieces[i]);
    }
}

static size_t pages_in_use(const struct piece pieces[PIECES])
{
    size_t n = 0;

    for (size_t i = 0; i < PIECES; i++)
        n += pieces[i].npages;
    return n;
}

/* Through any sequence of allocate, free, lock, unlock, map, unmap and trim the invariants hold and no page
   is lost. */
TEST(mm_mapping, random_steps__small_space__keeps_every_invariant)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct piece pieces[PIECES] = {{0}};
        uint64_t state = seed;
        struct fixture f;

        printf("mm_space: seed %llu\n", (unsigned long long)seed);
        open_fixture(&f, SMALL);
        for (unsigned i = 0; i < 1500; i++) {
            one_step(&f, pieces, &state);
            EXPECT_EQ(f.space->nused, pages_in_use(pieces));
            if (i % 16 == 0)
                expect_sound(&f);
        }
        end_all(&f, pieces);
        EXPECT_EQ(f.space->nused, 0);
        close_fixture(&f);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* ---- the checker ---- */

static void expect_refused(const struct fixture *f)
{
    const char *why = NULL;

    EXPECT(!mm_check(f->machine, &why));
    EXPECT(why != NULL);
}

/* mm_check refuses a page of a region without attributes, or that another region claims. */
TEST(mm_mapping, check__page_table_and_regions_disagree__is_refused)
{
    struct fixture f;
    uintptr_t va;
    uint32_t page;

    open_fixture(&f, SMALL);
    va = allocate(&f, 3);
    page = page_of(&f, va) + 1;
    atomic_store(&f.space->attrs[page], 0);
    expect_refused(&f);
    atomic_store(&f.space->attrs[page], RW | MM_USED | MM_RESIDENT);
    f.space->region_of[page] = 7;
    expect_refused(&f);
    f.space->region_of[page] = f.space->region_of[page - 1];
    f.space->nused++;
    expect_refused(&f);
    f.space->nused--;
    expect_sound(&f);
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* mm_check refuses a frame that does not know its owner, and a page whose number is no memory. */
TEST(mm_mapping, check__frame_and_owner_disagree__is_refused)
{
    struct fixture f;
    struct mm_frame *frame;
    PFN_NUMBER pfn;
    uintptr_t va;
    uint32_t page;

    open_fixture(&f, SMALL);
    va = allocate(&f, 3);
    pfn = mm_translate(f.machine, va);
    EXPECT(mm_page_of_pfn(f.machine, pfn, &page));
    frame = mm_frame(f.machine, page);
    frame->owner_page++;
    expect_refused(&f);
    frame->owner_page--;
    atomic_store(&f.machine->mm->frame_states[page], MM_FRAME_POOL);
    expect_refused(&f);
    atomic_store(&f.machine->mm->frame_states[page], MM_FRAME_SPACE);
    f.space->pfns[page_of(&f, va)] = 0;
    expect_refused(&f);
    f.space->pfns[page_of(&f, va)] = pfn;
    EXPECT(mm_space_free(f.machine, f.space, va));
    close_fixture(&f);
}

/* mm_check looks at the frame allocators too. */
TEST(mm_mapping, check__frame_allocator_is_wrong__is_refused)
{
    struct fixture f;

    open_fixture(&f, SMALL);
    f.machine->mm->zones->zone[0].buddy.nfree++;
    expect_refused(&f);
    f.machine->mm->zones->zone[0].buddy.nfree--;
    close_fixture(&f);
}
