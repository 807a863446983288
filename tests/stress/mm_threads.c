/* SPDX-License-Identifier: MIT */
/*
 * Memory on many threads: pool blocks that change hands, contiguous memory, pages for MDLs, mappings into
 * one process, and processes that come and go. What is handed out twice shows as a pattern overwritten;
 * what is lost, as memory that runs out.
 */

#include "stress.h"

enum { THREADS = 4 };

struct worker {
    struct rng rng;
    ULONG number;
    void *world;
};

static void run_workers(void (*body)(void *context), uint64_t seed, void *world)
{
    struct worker workers[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct worker){rng_of_thread(seed, i), i, world};
    run_on_threads(body, workers, sizeof(workers[0]), THREADS);
}

/* ---- pool ---- */

enum { POOL_ROUNDS = 3000, SLOTS = 40 };

/* What a block says about itself at its beginning; its last byte repeats the mark. */
struct block {
    SIZE_T bytes;
    UCHAR mark;
};

static struct block *allocate_block(struct rng *rng)
{
    const SIZE_T bytes = sizeof(struct block) + 1 +
                         (random_below(rng, 8) == 0 ? random_below(rng, 20000) : random_below(rng, 700));
    const POOL_TYPE type = random_below(rng, 2) == 0 ? NonPagedPoolNx : PagedPool;
    struct block *const block = ExAllocatePoolWithTag(type, bytes, TEST_TAG);

    EXPECT(block != NULL);
    block->bytes = bytes;
    block->mark = (UCHAR)random_word(rng);
    ((UCHAR *)block)[bytes - 1] = block->mark;
    return block;
}

static void free_block(struct block *block)
{
    if (block == NULL)
        return;
    EXPECT_EQ(((UCHAR *)block)[block->bytes - 1], block->mark);
    ((UCHAR *)block)[block->bytes - 1] ^= 0xFF;
    ExFreePoolWithTag(block, TEST_TAG);
}

static void exchange_blocks(void *context)
{
    struct worker *const w = context;
    PVOID volatile *const slots = w->world;

    for (unsigned i = 0; i < POOL_ROUNDS; i++) {
        struct block *const mine = random_below(&w->rng, 3) == 0 ? NULL : allocate_block(&w->rng);

        free_block(InterlockedExchangePointer(&slots[random_below(&w->rng, SLOTS)], mine));
    }
}

/* Pool blocks of all sizes that one thread allocates and another frees are nobody else's meanwhile. */
TEST(mm_stress, pool__blocks_change_hands__stay_apart)
{
    const uint64_t seed = stress_seed("pool");
    static PVOID volatile slots[SLOTS];

    run_workers(exchange_blocks, seed, (void *)(uintptr_t)slots);
    for (int i = 0; i < SLOTS; i++)
        free_block(slots[i]);
}

/* ---- pool under locks ---- */

enum { LOCK_ROUNDS = 300 };

static void lock_and_free_pool(void *context)
{
    struct worker *const w = context;

    for (unsigned i = 0; i < LOCK_ROUNDS; i++) {
        const SIZE_T pages = 1 + random_below(&w->rng, 5);
        UCHAR *const block = pool_pages(pages);
        const PMDL locked = mdl_over(block, pages * PAGE_SIZE), built = mdl_over(block, pages * PAGE_SIZE);

        fill_pattern(block, PAGE_SIZE, i);
        MmBuildMdlForNonPagedPool(built);
        EXPECT_PTR_EQ(MmGetSystemAddressForMdlSafe(built, NORMAL_NX), block);
        EXPECT_STATUS(try_lock(locked, KernelMode, IoWriteAccess), STATUS_SUCCESS);
        EXPECT_MEM_EQ(MmGetMdlPfnArray(locked), MmGetMdlPfnArray(built), pages * sizeof(PFN_NUMBER));
        EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(locked, NORMAL_NX), PAGE_SIZE, i);
        unlock_and_free(locked);
        IoFreeMdl(built);
        ExFreePool(block);
    }
}

/* Pool that is described and locked by several threads, each its own, shows each its own bytes; all of it
   comes back. */
TEST(mm_stress, pool__described_and_locked__shows_its_own_bytes)
{
    UCHAR *most;

    boot("ram=16M");
    run_workers(lock_and_free_pool, stress_seed("pool locks"), NULL);
    most = pool_pages(4 * 256);
    ExFreePool(most);
}

/* ---- contiguous memory and pages ---- */

enum { RAW_ROUNDS = 300 };

static void use_contiguous(struct worker *w)
{
    const SIZE_T pages = 1 + random_below(&w->rng, 40);
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, none = {.QuadPart = 0};
    const PHYSICAL_ADDRESS high = {.QuadPart = random_below(&w->rng, 2) == 0 ? 0xFFFFFFFF : MAXLONGLONG};
    UCHAR *const va = MmAllocateContiguousMemorySpecifyCache(pages * PAGE_SIZE, low, high, none, MmCached);
    LONGLONG pa;

    EXPECT(va != NULL);
    pa = MmGetPhysicalAddress(va).QuadPart;
    for (SIZE_T i = 0; i < pages; i++) {
        EXPECT_EQ(MmGetPhysicalAddress(va + i * PAGE_SIZE).QuadPart, pa + (LONGLONG)(i * PAGE_SIZE));
        va[i * PAGE_SIZE] = (UCHAR)w->number;
    }
    EXPECT(pa + (LONGLONG)(pages * PAGE_SIZE) - 1 <= high.QuadPart);
    sched_yield();
    for (SIZE_T i = 0; i < pages; i++)
        EXPECT_EQ(va[i * PAGE_SIZE], w->number);
    MmFreeContiguousMemory(va);
}

static void use_pages(struct worker *w)
{
    const SIZE_T pages = 1 + random_below(&w->rng, 40);
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = MAXLONGLONG}, skip = {.QuadPart = 0};
    const PMDL mdl = MmAllocatePagesForMdlEx(low, high, skip, pages * PAGE_SIZE, MmCached, 0);
    UCHAR *va;

    EXPECT(mdl != NULL);
    EXPECT_EQ(MmGetMdlByteCount(mdl), pages * PAGE_SIZE);
    va = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    EXPECT(va != NULL);
    for (SIZE_T i = 0; i < pages * PAGE_SIZE; i += 1031) {
        EXPECT_EQ(va[i], 0);
        va[i] = (UCHAR)~w->number;
    }
    sched_yield();
    for (SIZE_T i = 0; i < pages * PAGE_SIZE; i += 1031)
        EXPECT_EQ(va[i], (UCHAR)~w->number);
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

static void use_raw_memory(void *context)
{
    struct worker *const w = context;

    for (unsigned i = 0; i < RAW_ROUNDS; i++) {
        if (random_below(&w->rng, 2) == 0)
            use_contiguous(w);
        else
            use_pages(w);
    }
}

/* Contiguous memory and pages for MDLs are one thread's at a time, and all of them come back. */
TEST(mm_stress, contiguous_and_pages__all_at_once__stay_apart)
{
    boot("ram=16M");
    run_workers(use_raw_memory, stress_seed("raw memory"), NULL);
}

/* ---- mappings into one process ---- */

enum { MAP_ROUNDS = 250, SHARED_PAGES = 6 };

static void map_and_unmap(void *context)
{
    struct worker *const w = context;
    const PMDL mdl = w->world;
    UCHAR *mapped[8] = {NULL};

    for (unsigned i = 0; i < MAP_ROUNDS; i++) {
        const unsigned slot = random_below(&w->rng, 8);

        if (mapped[slot] == NULL) {
            mapped[slot] = map_user(mdl);
            EXPECT_EQ(BYTE_OFFSET(mapped[slot]), MmGetMdlByteOffset(mdl));
        } else {
            EXPECT_PATTERN(mapped[slot], MmGetMdlByteCount(mdl), 3);
            MmUnmapLockedPages(mapped[slot], mdl);
            mapped[slot] = NULL;
        }
    }
    for (int i = 0; i < 8; i++)
        if (mapped[i] != NULL)
            MmUnmapLockedPages(mapped[i], mdl);
}

/* One MDL mapped into the process by many threads, over and over, shows the same bytes at as many addresses. */
TEST(mm_stress, user_mappings__of_one_mdl__by_all__show_the_same)
{
    const uint64_t seed = stress_seed("user mappings");
    UCHAR *const buffer = user_pages(SHARED_PAGES, PAGE_READWRITE);
    PMDL mdl;

    fill_pattern(buffer + 100, SHARED_PAGES * PAGE_SIZE - 200, 3);
    mdl = locked_mdl(buffer + 100, SHARED_PAGES * PAGE_SIZE - 200);
    run_workers(map_and_unmap, seed, mdl);
    unlock_and_free(mdl);
    pinion_user_free(buffer);
}

/* ---- processes ---- */

enum { PROCESS_ROUNDS = 40 };

static void live_and_exit(void *context)
{
    struct worker *const w = context;

    for (unsigned i = 0; i < PROCESS_ROUNDS; i++) {
        const PEPROCESS process = pinion_process_create("short-lived");
        const SIZE_T pages = 1 + random_below(&w->rng, 8);
        UCHAR *buffer;
        PMDL mdl;

        EXPECT(process != NULL);
        pinion_process_attach(process);
        EXPECT_PTR_EQ(PsGetCurrentProcess(), process);
        buffer = user_pattern(pages, w->number);
        mdl = locked_mdl(buffer, pages * PAGE_SIZE);
        pinion_process_attach(NULL);
        EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), pages * PAGE_SIZE, w->number);
        unlock_and_free(mdl);
        pinion_process_exit(process);
    }
}

static void trim(void *context)
{
    UNREFERENCED_PARAMETER(context);
    pinion_trim();
    sched_yield();
}

/* Processes that are created, used and ended by several threads, while memory is trimmed, take nothing with
   them. */
TEST(mm_stress, processes__come_and_go__under_a_trimmer)
{
    struct background trimmer;
    void *most;

    boot("ram=16M");
    background_start(&trimmer, trim, NULL);
    run_workers(live_and_exit, stress_seed("processes"), NULL);
    background_end(&trimmer);
    most = pinion_user_alloc((16 * 256 - 64) * (SIZE_T)PAGE_SIZE, PAGE_READWRITE);
    EXPECT(most != NULL);
    pinion_user_free(most);
}
