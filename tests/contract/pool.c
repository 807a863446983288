/* SPDX-License-Identifier: MIT */
/*
 * Pool: ExAllocatePoolWithTag, ExAllocatePool2, ExFreePool and ExFreePoolWithTag. Alignment and page crossing are
 * promises that drivers build on; blocks must not overlap; and misuse stops the machine.
 */

#include "harness.h"

#include <string.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

static const POOL_TYPE types[] = {NonPagedPoolNx, PagedPool};
static const SIZE_T sizes[] = {1,    2,    15,   16,   17,   100,  255,  256,           1000,
                               1024, 2047, 2048, 2049, 3000, 4000, 4080, PAGE_SIZE - 1, PAGE_SIZE};

static PVOID allocate(POOL_TYPE type, SIZE_T bytes)
{
    const PVOID block = ExAllocatePoolWithTag(type, bytes, TEST_TAG);

    EXPECT(block != NULL);
    return block;
}

/* ---- Alignment and extent ------------------------------------------------------------------------------ */

/* ExAllocatePoolWithTag-01 ExAllocatePoolWithTag-13 ExAllocatePoolWithTag-02: the routine has its
   documented type, is there although it is deprecated, and gives memory that can be written. */
SILENT_TEST(pool, call_through_its_type__some_bytes__gives_memory)
{
    PVOID (*const allocate_pool)(POOL_TYPE, SIZE_T, ULONG) = ExAllocatePoolWithTag;
    UCHAR *const block = allocate_pool(NonPagedPoolNx, 100, TEST_TAG);

    fill_pattern(block, 100, 1);
    EXPECT_PATTERN(block, 100, 1);
    ExFreePool(block);
}

/* ExAllocatePoolWithTag-05 ExAllocatePoolWithTag-06 ExAllocatePoolWithTag-04: blocks of up to a page are
   aligned to 16 bytes and cross no page, wherever earlier blocks have left the pool. */
SILENT_TEST(pool, allocate__up_to_a_page__is_aligned_and_crosses_no_page)
{
    enum { ROUNDS = 12 };
    PUCHAR blocks[ARRAYSIZE(types)][ROUNDS][ARRAYSIZE(sizes)];

    for (SIZE_T t = 0; t < ARRAYSIZE(types); t++) {
        for (SIZE_T i = 0; i < ROUNDS * ARRAYSIZE(sizes); i++) {
            const SIZE_T bytes = sizes[(i * 5) % ARRAYSIZE(sizes)];
            UCHAR *const block = allocate(types[t], bytes);

            EXPECT_EQ((ULONG_PTR)block % 16, 0);
            EXPECT_PTR_EQ(PAGE_ALIGN(block), PAGE_ALIGN(block + bytes - 1));
            blocks[t][i / ARRAYSIZE(sizes)][i % ARRAYSIZE(sizes)] = block;
        }
    }
    for (SIZE_T i = 0; i < sizeof(blocks) / sizeof(PUCHAR); i++)
        ExFreePool((&blocks[0][0][0])[i]);
}

/* ExAllocatePoolWithTag-04: blocks of a page and more start at a page. */
SILENT_TEST(pool, allocate__a_page_and_more__starts_at_a_page)
{
    static const SIZE_T large[] = {PAGE_SIZE,         PAGE_SIZE + 1,   2 * PAGE_SIZE,
                                   5 * PAGE_SIZE - 1, 300 * PAGE_SIZE, 3000 * PAGE_SIZE};

    for (SIZE_T t = 0; t < ARRAYSIZE(types); t++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(large); i++) {
            const PVOID small = allocate(types[t], 24), block = allocate(types[t], large[i]);

            EXPECT_EQ(BYTE_OFFSET(block), 0);
            ExFreePool(block);
            ExFreePool(small);
        }
    }
}

/* ExAllocatePoolWithTag-08 ExAllocatePoolWithTag-07: what is written to every byte of many blocks of all
   sizes is found in each, while others are freed and allocated: no two blocks overlap. */
SILENT_TEST(pool, allocate__many_blocks_come_and_go__none_overlaps_another)
{
    enum { BLOCKS = 200, ROUNDS = 1500 };
    static struct {
        PUCHAR va;
        SIZE_T bytes;
    } blocks[BLOCKS];
    ULONG random = 12345;

    for (ULONG round = 0; round < ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        const ULONG i = (random >> 8) % BLOCKS;
        if (blocks[i].va) {
            EXPECT_PATTERN(blocks[i].va, blocks[i].bytes, i);
            ExFreePool(blocks[i].va);
        }
        blocks[i].bytes = (random >> 16) % 3 ? sizes[(random >> 20) % ARRAYSIZE(sizes)]
                                             : 1 + (random >> 18) % (3 * PAGE_SIZE);
        blocks[i].va = allocate(types[random >> 31], blocks[i].bytes);
        fill_pattern(blocks[i].va, blocks[i].bytes, i);
    }
    for (ULONG i = 0; i < BLOCKS; i++) {
        if (blocks[i].va)
            EXPECT_PATTERN(blocks[i].va, blocks[i].bytes, i);
        if (blocks[i].va)
            ExFreePool(blocks[i].va);
    }
}

/* ExAllocatePoolWithTag-14: the pool types have Windows' values, and each of them gives memory. */
TEST(pool, pool_types__values__are_those_of_windows)
{
    EXPECT_EQ(NonPagedPool, 0);
    EXPECT_EQ(NonPagedPoolExecute, 0);
    EXPECT_EQ(PagedPool, 1);
    EXPECT_EQ(NonPagedPoolNx, 512);
    boot("verifier=off");
    for (SIZE_T i = 0; i < 3; i++) {
        const POOL_TYPE each[] = {NonPagedPool, PagedPool, NonPagedPoolNx};
        UCHAR *const block = allocate(each[i], 300);

        fill_pattern(block, 300, 2);
        EXPECT_PATTERN(block, 300, 2);
        ExFreePool(block);
    }
}

/* ExAllocatePoolWithTag-12 ExFreePool_ExFreePoolWithTag-01: a block is freed by either routine, through its
   documented type. */
SILENT_TEST(pool, free__either_routine__takes_the_block)
{
    VOID (*const free_pool)(PVOID) = ExFreePool;
    VOID (*const free_with_tag)(PVOID, ULONG) = ExFreePoolWithTag;

    for (SIZE_T t = 0; t < ARRAYSIZE(types); t++) {
        for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
            free_pool(allocate(types[t], sizes[i]));
            free_with_tag(allocate(types[t], sizes[i]), TEST_TAG);
        }
    }
    free_pool(ExAllocatePool2(POOL_FLAG_NON_PAGED, 5000, TEST_TAG));
    free_with_tag(ExAllocatePool2(POOL_FLAG_PAGED, 50, TEST_TAG), TEST_TAG);
    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

/* ---- Paged and nonpaged -------------------------------------------------------------------------------- */

/* ExAllocatePoolWithTag-14: nonpaged pool is never away; a trim does not reach it. */
SILENT_TEST(pool, trim__nonpaged_pool__stays)
{
    UCHAR *const block = pool_pages(3);

    fill_pattern(block, 3 * PAGE_SIZE, 2);
    EXPECT_EQ(pinion_trim(), 0);
    EXPECT(MmIsAddressValid(block));
    EXPECT_PATTERN(block, 3 * PAGE_SIZE, 2);
    ExFreePool(block);
}

/* ExAllocatePoolWithTag-14: paged pool goes with a trim and comes back with its contents. */
SILENT_TEST(pool, trim__paged_pool__goes_and_comes_back)
{
    UCHAR *const block = allocate(PagedPool, 3 * PAGE_SIZE);

    fill_pattern(block, 3 * PAGE_SIZE, 2);
    EXPECT(pinion_trim() >= 3);
    EXPECT(!MmIsAddressValid(block + PAGE_SIZE));
    EXPECT_PATTERN(block, 3 * PAGE_SIZE, 2);
    EXPECT(MmIsAddressValid(block + PAGE_SIZE));
    ExFreePool(block);
}

/* MmProbeAndLockPages-21: paged pool that is locked stays through a trim. */
SILENT_TEST(pool, trim__locked_paged_pool__stays)
{
    UCHAR *const block = allocate(PagedPool, 2 * PAGE_SIZE);
    const PMDL mdl = mdl_over(block, 2 * PAGE_SIZE);

    fill_pattern(block, 2 * PAGE_SIZE, 2);
    EXPECT_STATUS(try_lock(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    EXPECT_EQ(pinion_trim(), 0);
    EXPECT(MmIsAddressValid(block));
    EXPECT_PATTERN(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), 2 * PAGE_SIZE, 2);
    unlock_and_free(mdl);
    EXPECT_EQ(pinion_trim(), 2);
    EXPECT_PATTERN(block, 2 * PAGE_SIZE, 2);
    ExFreePool(block);
}

static void touch_paged_pool_at_dispatch(void *context)
{
    UCHAR *const block = allocate(PagedPool, PAGE_SIZE);

    block[9] = 1;
    pinion_trim();
    *(uint64_t *)context = (uint64_t)(uintptr_t)(block + 9);
    raise_irql(DISPATCH_LEVEL);
    touch_load(block + 9);
}

/* Bug_checks-12: paged pool that is away stops at DISPATCH_LEVEL with 0xD1. */
TEST_UNTIDY(pool, touch__trimmed_paged_pool_at_dispatch_level__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_paged_pool_at_dispatch, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, DRIVER_IRQL_NOT_LESS_OR_EQUAL);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
}

/* ExAllocatePoolWithTag-11 ExFreePool_ExFreePoolWithTag-02: nonpaged pool is allocated and freed at
   DISPATCH_LEVEL, paged pool at APC_LEVEL. */
SILENT_TEST(pool, allocate_and_free__highest_allowed_irql__work)
{
    KIRQL before = raise_irql(DISPATCH_LEVEL);
    UCHAR *const small = ExAllocatePoolWithTag(NonPagedPoolNx, 64, TEST_TAG);
    UCHAR *const large = ExAllocatePool2(POOL_FLAG_NON_PAGED, 9000, TEST_TAG);

    ExFreePool(small);
    ExFreePoolWithTag(large, TEST_TAG);
    KeLowerIrql(before);
    EXPECT(small != NULL && large != NULL);
    before = raise_irql(APC_LEVEL);
    ExFreePool(allocate(PagedPool, 64));
    KeLowerIrql(before);
}

/* ---- ExAllocatePool2 ----------------------------------------------------------------------------------- */

static bool is_zero(const UCHAR *bytes, SIZE_T count)
{
    for (SIZE_T i = 0; i < count; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

/* ExAllocatePool2-01: memory is zeroed, also where blocks full of other bytes lay before. */
SILENT_TEST(pool, allocate2__after_used_blocks__is_zeroed)
{
    static const POOL_FLAGS flags[] = {POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED};

    for (SIZE_T f = 0; f < ARRAYSIZE(flags); f++) {
        for (SIZE_T i = 0; i < 4 * ARRAYSIZE(sizes); i++) {
            const SIZE_T bytes = sizes[i % ARRAYSIZE(sizes)] * (1 + i / ARRAYSIZE(sizes));
            UCHAR *const used = ExAllocatePool2(flags[f] | POOL_FLAG_UNINITIALIZED, bytes, TEST_TAG);

            memset(used, 0xEE, bytes);
            ExFreePool(used);
            UCHAR *const block = ExAllocatePool2(flags[f], bytes, TEST_TAG);
            EXPECT(is_zero(block, bytes));
            memset(block, 0xDD, bytes);
            ExFreePool(block);
        }
    }
}

/* ExAllocatePool2-02: alignment and extent are those of ExAllocatePoolWithTag. */
SILENT_TEST(pool, allocate2__all_sizes__is_aligned_and_crosses_no_page)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(sizes); i++) {
        UCHAR *const block = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizes[i], TEST_TAG);

        EXPECT_EQ((ULONG_PTR)block % (sizes[i] < PAGE_SIZE ? 16 : PAGE_SIZE), 0);
        EXPECT_PTR_EQ(PAGE_ALIGN(block), PAGE_ALIGN(block + sizes[i] - 1));
        ExFreePool(block);
    }
}

struct allocate2_call {
    POOL_FLAGS flags;
    SIZE_T bytes;
    ULONG tag;
    PVOID block;
};

static void allocate2_body(void *context)
{
    struct allocate2_call *const call = context;

    call->block = ExAllocatePool2(call->flags, call->bytes, call->tag);
}

/* ExAllocatePool2-01: a tag of 0 or flags that make no sense give NULL, or raise with
   POOL_FLAG_RAISE_ON_FAILURE. */
TEST(pool, allocate2__no_tag_or_invalid_flags__is_null_or_raises)
{
    static const struct {
        POOL_FLAGS flags;
        ULONG tag;
    } rows[] = {
        {POOL_FLAG_NON_PAGED, 0},
        {0, TEST_TAG},
        {POOL_FLAG_UNINITIALIZED, TEST_TAG},
        {POOL_FLAG_NON_PAGED | POOL_FLAG_PAGED, TEST_TAG},
        {POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE, TEST_TAG},
        {POOL_FLAG_NON_PAGED | POOL_FLAG_RESERVED1, TEST_TAG},
        {POOL_FLAG_NON_PAGED | 0x10000, TEST_TAG},
    };

    boot("verifier=off");
    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        struct allocate2_call call = {rows[i].flags, 100, rows[i].tag, &call};

        EXPECT_STATUS(pinion_try(allocate2_body, &call), STATUS_SUCCESS);
        EXPECT(call.block == NULL);
        call.flags |= POOL_FLAG_RAISE_ON_FAILURE;
        EXPECT(NT_ERROR(pinion_try(allocate2_body, &call)));
    }
}

/* ExAllocatePool2-01: a block that was refused for its flags is no executable pool, and not reported as such. */
SILENT_TEST(pool, allocate2__contradictory_flags__are_refused_in_silence)
{
    EXPECT(ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE, 100, TEST_TAG) == NULL);
}

/* ExAllocatePool2-01: a wish that is not known is no reason to fail: the high half of the flags is
   optional. */
SILENT_TEST(pool, allocate2__unknown_optional_flag__is_ignored)
{
    UCHAR *const block = ExAllocatePool2(POOL_FLAG_NON_PAGED | 0x0000800000000000, 100, TEST_TAG);

    EXPECT(block != NULL);
    ExFreePool(block);
}

/* ---- No memory ----------------------------------------------------------------------------------------- */

static void allocate_or_raise(void *bytes)
{
    ExAllocatePoolWithTag((POOL_TYPE)(NonPagedPoolNx | POOL_RAISE_IF_ALLOCATION_FAILURE), *(SIZE_T *)bytes,
                          TEST_TAG);
}

/* ExAllocatePoolWithTag-02 ExAllocatePoolWithTag-03 ExAllocatePool2-01: what cannot be had is NULL, or
   raises STATUS_INSUFFICIENT_RESOURCES where that is asked for. */
SILENT_TEST(pool, allocate__more_than_there_is__is_null_or_raises)
{
    SIZE_T bytes = (SIZE_T)1 << 40;
    struct allocate2_call call = {POOL_FLAG_NON_PAGED | POOL_FLAG_RAISE_ON_FAILURE, bytes, TEST_TAG, NULL};

    EXPECT(ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TEST_TAG) == NULL);
    EXPECT(ExAllocatePoolWithTag(PagedPool, bytes, TEST_TAG) == NULL);
    EXPECT(ExAllocatePoolWithTag(NonPagedPoolNx, ~(SIZE_T)0, TEST_TAG) == NULL);
    EXPECT(ExAllocatePool2(POOL_FLAG_PAGED, ~(SIZE_T)0, TEST_TAG) == NULL);
    EXPECT_RAISES(STATUS_INSUFFICIENT_RESOURCES, allocate_or_raise, &bytes);
    EXPECT(NT_ERROR(pinion_try(allocate2_body, &call)));
}

/* ExAllocatePoolWithTag-02 Driver_Verifier_low_resources_simulation-02: a call that is made to fail gives
   NULL or raises, and the next one works. */
SILENT_TEST(pool, allocate__made_to_fail__is_null_or_raises)
{
    SIZE_T bytes = 100;

    pinion_fail("ExAllocatePoolWithTag", 1);
    EXPECT(ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TEST_TAG) == NULL);
    ExFreePool(allocate(NonPagedPoolNx, bytes));
    pinion_fail("ExAllocatePoolWithTag", 1);
    EXPECT_RAISES(STATUS_INSUFFICIENT_RESOURCES, allocate_or_raise, &bytes);
    pinion_fail("ExAllocatePool2", 1);
    EXPECT(ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TEST_TAG) == NULL);
    ExFreePool(ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TEST_TAG));
}

/* ExAllocatePoolWithTag-02: pool can be filled to the last page, holds what was written, and is whole again
   once it is freed. */
TEST(pool, allocate__until_memory_is_gone__recovers)
{
    enum { CHUNK = 64 * PAGE_SIZE, MOST = 16384 };
    static PUCHAR chunks[MOST];
    SIZE_T first = 0;

    boot("ram=16M");
    for (ULONG round = 0; round < 3; round++) {
        SIZE_T count = 0;

        while (count < MOST &&
               (chunks[count] = ExAllocatePoolWithTag(NonPagedPoolNx, CHUNK, TEST_TAG)) != NULL)
            fill_pattern(chunks[count++], 64, round);
        EXPECT(count > 8 && count < MOST);
        first = first ? first : count;
        EXPECT_EQ(count, first);
        EXPECT(pinion_user_alloc(CHUNK, PAGE_READWRITE) == NULL);
        while (count > 0) {
            EXPECT_PATTERN(chunks[--count], 64, round);
            ExFreePool(chunks[count]);
        }
    }
}

/* ---- Mistakes ------------------------------------------------------------------------------------------ */

static void allocate_no_bytes(void *context HARNESS_UNUSED)
{
    ExAllocatePoolWithTag(PagedPool, 0, TEST_TAG);
}

/* ExAllocatePoolWithTag-09: an allocation of no bytes stops with 0xC4/0x00, the IRQL, the pool type and
   0. */
TEST_UNTIDY(pool, allocate__no_bytes__stops)
{
    const struct stop stop = expect_stop(allocate_no_bytes, NULL, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x00);

    EXPECT_EQ(stop.p[1], PASSIVE_LEVEL);
    EXPECT_EQ(stop.p[2], PagedPool);
    EXPECT_EQ(stop.p[3], 0);
}

static void allocate_without_tag(void *context HARNESS_UNUSED)
{
    ExFreePool(ExAllocatePoolWithTag(NonPagedPoolNx, 100, 0));
}

/* ExAllocatePoolWithTag-10: a tag of 0 is reported. */
TEST_UNTIDY(pool, allocate__no_tag__is_reported)
{
    const struct stop stop = run_until_stop(allocate_without_tag, NULL);

    EXPECT(stop.stopped || stop_warnings(&stop, NULL) == 1);
}

/* What is allocated or freed, and at which IRQL. */
struct pool_at_irql {
    POOL_TYPE type;
    KIRQL irql;
    bool free;
    bool allocate2;
    uint64_t *va;
};

static void use_pool_at_irql(void *context)
{
    const struct pool_at_irql *const use = context;
    const PVOID block = use->free ? allocate(use->type, 100) : NULL;

    *use->va = (uint64_t)(uintptr_t)block;
    raise_irql(use->irql);
    if (use->free)
        ExFreePool(block);
    else if (use->allocate2)
        ExAllocatePool2(use->type == PagedPool ? POOL_FLAG_PAGED : POOL_FLAG_NON_PAGED, 100, TEST_TAG);
    else
        ExAllocatePoolWithTag(use->type, 100, TEST_TAG);
}

/* ExAllocatePoolWithTag-11 ExAllocatePool2-02 ExFreePool_ExFreePoolWithTag-02: paged pool above APC_LEVEL
   and nonpaged pool above DISPATCH_LEVEL stop: an allocation with 0xC4/0x01 or 0x02, the IRQL, type and
   size; a free with 0x11 or 0x12, the IRQL, type and address. */
TEST_UNTIDY(pool, allocate_and_free__irql_too_high__stop)
{
    static const struct {
        POOL_TYPE type;
        KIRQL irql;
        bool free, allocate2;
        uint64_t subcode;
    } rows[] = {
        {PagedPool, DISPATCH_LEVEL, false, false, 0x01},
        {PagedPool, DISPATCH_LEVEL, false, true, 0x01},
        {NonPagedPoolNx, DISPATCH_LEVEL + 1, false, false, 0x02},
        {NonPagedPoolNx, HIGH_LEVEL, false, true, 0x02},
        {PagedPool, DISPATCH_LEVEL, true, false, 0x11},
        {NonPagedPoolNx, DISPATCH_LEVEL + 1, true, false, 0x12},
    };
    uint64_t *const va = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(rows); i++) {
        struct pool_at_irql use = {rows[i].type, rows[i].irql, rows[i].free, rows[i].allocate2, va};
        const struct stop stop =
            expect_stop(use_pool_at_irql, &use, DRIVER_VERIFIER_DETECTED_VIOLATION, rows[i].subcode);

        EXPECT_EQ(stop.p[1], rows[i].irql);
        EXPECT_EQ(stop.p[2] & 1, rows[i].type & 1);
        EXPECT_EQ(stop.p[3], rows[i].free ? *va : 100);
    }
}

/* A free that must be refused; leaves its address. */
static void free_twice(void *va)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 100);

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    ExFreePool(block);
    ExFreePool(block);
}

static void free_page_twice(void *va)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 3 * PAGE_SIZE);

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    ExFreePool(block);
    ExFreePool(block);
}

static void free_inside(void *va)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 100);

    *(uint64_t *)va = (uint64_t)(uintptr_t)(block + 16);
    ExFreePool(block + 16);
}

static void free_inside_large(void *va)
{
    UCHAR *const block = allocate(NonPagedPoolNx, 3 * PAGE_SIZE);

    *(uint64_t *)va = (uint64_t)(uintptr_t)(block + PAGE_SIZE);
    ExFreePool(block + PAGE_SIZE);
}

static void free_user_memory(void *va)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);

    *(uint64_t *)va = (uint64_t)(uintptr_t)user;
    ExFreePool(user);
}

static void free_host_memory(void *va)
{
    static UCHAR buffer[64];

    *(uint64_t *)va = (uint64_t)(uintptr_t)buffer;
    ExFreePool(buffer);
}

/* ExFreePool_ExFreePoolWithTag-02 ExFreePool_ExFreePoolWithTag-01: a block that was freed already, an
   address inside a block, and memory that is no pool stop with 0xC2 or 0xC4, and the address is among the
   parameters. */
TEST_UNTIDY(pool, free__what_is_no_block__stops)
{
    void (*const bodies[])(void *) = {free_twice,        free_page_twice,  free_inside,
                                      free_inside_large, free_user_memory, free_host_memory};
    uint64_t *const va = shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = run_until_stop(bodies[i], va);

        EXPECT(stop.stopped);
        EXPECT(stop.code == BAD_POOL_CALLER || stop.code == DRIVER_VERIFIER_DETECTED_VIOLATION);
        EXPECT(stop.p[1] == *va || stop.p[2] == *va || stop.p[3] == *va);
    }
}

static void free_with_other_tag(void *va)
{
    const PVOID block = allocate(NonPagedPoolNx, 100);

    *(uint64_t *)va = (uint64_t)(uintptr_t)block;
    ExFreePoolWithTag(block, 'rehO');
}

/* ExFreePool_ExFreePoolWithTag-02: a free with another tag than the allocation's stops with 0xC2/0x0A, the
   address and both tags. */
TEST_UNTIDY(pool, free_with_tag__other_tag__stops)
{
    uint64_t *const va = shared_words();
    const struct stop stop = expect_stop(free_with_other_tag, va, BAD_POOL_CALLER, 0x0A);

    EXPECT_EQ(stop.p[1], *va);
    EXPECT_EQ(stop.p[2], TEST_TAG);
    EXPECT_EQ(stop.p[3], 'rehO');
}

static void free_locked(void *context)
{
    uint64_t *const words = context;

    boot(words[0] ? "verifier=on" : "verifier=off");
    UCHAR *const block = allocate(NonPagedPoolNx, 2 * PAGE_SIZE);
    const PMDL mdl = mdl_over(block, 2 * PAGE_SIZE);
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    words[1] = MmGetMdlPfnArray(mdl)[0];
    ExFreePool(block);
}

/* Bug_checks-04: pool whose pages are still locked for I/O is not freed: it stops with 0x4E/0x9A and the
   frame, with the verifier or without. */
TEST_UNTIDY(pool, free__pages_still_locked__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++) {
        const struct stop stop = expect_stop(free_locked, words, PFN_LIST_CORRUPT, 0x9A);

        EXPECT_EQ(stop.p[1], words[1]);
        EXPECT_EQ(stop.p[3], 1);
    }
}

/* ---- Executable pool ----------------------------------------------------------------------------------- */

/* One place in the code, however the loop around it is compiled. */
static __attribute__((noinline)) PVOID allocate_executable(void)
{
    return ExAllocatePoolWithTag(NonPagedPool, 100, TEST_TAG);
}

/* ExAllocatePoolWithTag-14 Driver_Verifier_code_integrity-02: executable pool is one warning for each place
   that allocates it. */
WARN_TEST(pool, allocate__executable_pool__is_a_warning, "executable-pool")
{
    for (ULONG i = 0; i < 3; i++)
        ExFreePool(allocate_executable());
}

static void allocate_executable_checked(void *context HARNESS_UNUSED)
{
    boot("verifier=0x02000000");
    ExAllocatePoolWithTag(NonPagedPool, 100, TEST_TAG);
}

/* Driver_Verifier_code_integrity-02: with code-integrity checking it stops with 0xC4/0x2000, the caller's
   address, type and tag. */
TEST_UNTIDY(pool, allocate__executable_pool_under_code_integrity__stops)
{
    const struct stop stop =
        expect_stop(allocate_executable_checked, NULL, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x2000);

    EXPECT_NE(stop.p[1], 0);
    EXPECT_EQ(stop.p[2], NonPagedPool);
    EXPECT_EQ(stop.p[3], TEST_TAG);
}

static void execute_pool(void *type)
{
    UCHAR *const block = allocate(*(POOL_TYPE *)type, PAGE_SIZE);

    block[0] = 0xC3;
    touch_execute(block);
    ExFreePool(block);
}

/* ExAllocatePoolWithTag-14: code runs in executable pool, and stops the machine in pool that cannot be
   executed. */
TEST_UNTIDY(pool, execute__executable_pool_and_other__runs_or_stops)
{
    POOL_TYPE type = NonPagedPoolExecute;

    EXPECT_EQ(run_until_stop(execute_pool, &type).exit_status, 0);
    type = NonPagedPoolNx;
    const struct stop stop = run_until_stop(execute_pool, &type);
    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
    EXPECT_EQ(stop.p[1], 0x10);
}
