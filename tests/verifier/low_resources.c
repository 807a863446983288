/* SPDX-License-Identifier: MIT */
/* Low resources simulation, at random and systematic, and forced IRQL checking: what these options of the verifier do to a driver. */

#include "harness.h"
#include <wdm.h>

#include "../contract/support.h"

enum { CALLS = 20000 };

/* A function that keeps its name and its frame. */
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

/* How many of so many allocations fail; `sum` tells sequences apart. */
static unsigned count_failures(unsigned calls, uint64_t *sum)
{
    unsigned failed = 0;

    *sum = 0;
    for (unsigned i = 0; i < calls; i++) {
        const PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

        if (mdl != NULL) {
            IoFreeMdl(mdl);
            continue;
        }
        failed++;
        *sum = *sum * 31 + i;
    }
    return failed;
}

/* ---- at random ------------------------------------------------------------------------------------------------- */

/* Driver_Verifier_low_resources_simulation-01: flag 0x4 fails about 6 % of the calls. */
TEST(low_resources, at_random__by_default__fails_six_percent)
{
    uint64_t sum;
    unsigned failed;

    boot("verifier=0x9BD");
    failed = count_failures(CALLS, &sum);
    EXPECT(failed > CALLS * 5 / 100 && failed < CALLS * 7 / 100);
}

/* Driver_Verifier_low_resources_simulation-01: the probability can be set, from never to always. */
TEST(low_resources, at_random__with_a_rate__fails_as_often)
{
    static const struct {
        const char *options;
        unsigned least, most;
    } cases[] = {{"verifier=0x9BD:fault-rate=0", 0, 0}, {"verifier=0x9BD:fault-rate=10000", CALLS, CALLS},
                 {"verifier=0x9BD:fault-rate=5000", CALLS * 48 / 100, CALLS * 52 / 100}, {"verifier=on", 0, 0}};

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        uint64_t sum;

        boot(cases[i].options);
        const unsigned failed = count_failures(CALLS, &sum);
        EXPECT(failed >= cases[i].least && failed <= cases[i].most);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* Driver_Verifier_low_resources_simulation-01: nothing fails before the delay is over, and all of it may then. */
TEST(low_resources, at_random__with_a_delay__fails_from_then_on)
{
    uint64_t sum;

    boot("verifier=0x9BD:fault-rate=10000:fault-delay=500");
    EXPECT_EQ(count_failures(500, &sum), 0);
    EXPECT_EQ(count_failures(100, &sum), 100);
}

static uint64_t sequence_of(const char *options)
{
    uint64_t sum;

    boot(options);
    count_failures(CALLS, &sum);
    EXPECT_EQ(pinion_shutdown(), 0);
    return sum;
}

/* The same seed fails the same calls, another one others. */
TEST(low_resources, at_random__with_a_seed__can_be_repeated)
{
    const uint64_t first = sequence_of("verifier=0x9BD:seed=7");

    EXPECT_EQ(sequence_of("verifier=0x9BD:seed=7"), first);
    EXPECT_NE(sequence_of("verifier=0x9BD:seed=8"), first);
}

/* How many of the bytes are not zero. */
static SIZE_T count_set(const UCHAR *from, SIZE_T bytes)
{
    SIZE_T set = 0;

    for (SIZE_T i = 0; i < bytes; i++)
        set += from[i] != 0;
    return set;
}

static const PHYSICAL_ADDRESS lowest = {.QuadPart = 0}, highest = {.QuadPart = MAXLONGLONG};

/* Fresh pages of MmAllocatePagesForMdlEx that are not zero. */
static SIZE_T count_set_in_pages(ULONG flags)
{
    const PMDL mdl = MmAllocatePagesForMdlEx(lowest, highest, lowest, 4 * PAGE_SIZE, MmCached, flags);
    const SIZE_T set = count_set(system_address(mdl), 4 * PAGE_SIZE);

    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
    return set;
}

static SIZE_T count_set_in_contiguous(void)
{
    UCHAR *const block = MmAllocateContiguousMemory(4 * PAGE_SIZE, highest);
    const SIZE_T set = count_set(block, 4 * PAGE_SIZE);

    MmFreeContiguousMemory(block);
    return set;
}

/* Driver_Verifier_low_resources_simulation-03: memory that is returned uninitialised holds a random pattern, from Windows 8.1 on and
   with the flag; memory that is promised to be zero is. */
TEST(low_resources, uninitialised_memory__holds_a_random_pattern)
{
    static const struct {
        const char *options;
        BOOLEAN filled;
    } cases[] = {{"verifier=0x9BD:fault-rate=0", TRUE}, {"verifier=0x9BD:fault-rate=0:windows=8", FALSE}, {"verifier=on", FALSE}};

    for (SIZE_T i = 0; i < ARRAYSIZE(cases); i++) {
        const SIZE_T least = cases[i].filled ? 4 * PAGE_SIZE * 9 / 10 : 0, most = cases[i].filled ? 4 * PAGE_SIZE : 0;

        boot(cases[i].options);
        const SIZE_T set = count_set_in_contiguous(), pages = count_set_in_pages(MM_DONT_ZERO_ALLOCATION);
        EXPECT(set >= least && set <= most);
        EXPECT(pages >= least && pages <= most);
        EXPECT_EQ(count_set_in_pages(0), 0);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* ---- systematic ------------------------------------------------------------------------------------------------ */

APART static PMDL allocate_one(void)
{
    const PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    __asm__ volatile("" ::: "memory");  /* no tail call */
    return mdl;
}

APART static PMDL allocate_on_one_path(void)
{
    const PMDL mdl = allocate_one();

    __asm__ volatile("" ::: "memory");
    return mdl;
}

/* Driver_Verifier_low_resources_simulation-04: each call stack fails the first time that it is seen, and never again. */
TEST(low_resources, systematic__each_call_stack__fails_once)
{
    enum { ROUNDS = 5 };
    PMDL one_way[ROUNDS], other_way[ROUNDS];
    volatile unsigned rounds = ROUNDS;  /* a loop that is not unrolled: it calls from one place */

    boot("verifier=0x409B9");
    for (unsigned i = 0; i < rounds; i++) {
        one_way[i] = allocate_one();
        other_way[i] = allocate_on_one_path();
    }
    for (unsigned i = 0; i < rounds; i++) {
        EXPECT_EQ(one_way[i] == NULL, i == 0);
        EXPECT_EQ(other_way[i] == NULL, i == 0);
    }
    for (unsigned i = 1; i < rounds; i++) {
        IoFreeMdl(one_way[i]);
        IoFreeMdl(other_way[i]);
    }
}

/* Forgotten with the machine. */
TEST(low_resources, systematic__after_a_new_boot__fails_again)
{
    for (unsigned i = 0; i < 3; i++) {
        boot("verifier=0x409B9");
        EXPECT(allocate_one() == NULL);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* ---- forced IRQL checking -------------------------------------------------------------------------------------- */

static void touch_paged_pool(const char *options)
{
    UCHAR *block;

    boot(options);
    block = ExAllocatePoolWithTag(PagedPool, PAGE_SIZE, TEST_TAG);
    block[0] = 1;
    raise_irql(DISPATCH_LEVEL);
    touch_load(block);
    KeLowerIrql(PASSIVE_LEVEL);
    ExFreePoolWithTag(block, TEST_TAG);
}

static void touch_when_forced(void *context)
{
    UNREFERENCED_PARAMETER(context);
    touch_paged_pool("verifier=0x9BB");
}

/* Driver_Verifier_force_IRQL_checking-01: what is pageable is taken away at each raise to DISPATCH_LEVEL, so touching it there stops. */
TEST_UNTIDY(force_irql, paged_pool_at_dispatch_level__stops)
{
    const struct stop stop = run_until_stop(touch_when_forced, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xD1);
    EXPECT_EQ(stop.p[1], DISPATCH_LEVEL);
}

/* Without the flag the page may happen to be there. */
SILENT_TEST(force_irql, paged_pool_at_dispatch_level__without_the_flag__is_not_seen)
{
    touch_paged_pool("verifier=on");
}

/* Driver_Verifier_force_IRQL_checking-01: what is locked stays, and what was trimmed comes back with its contents below DISPATCH_LEVEL. */
SILENT_TEST(force_irql, locked_paged_pool_at_dispatch_level__is_there)
{
    UCHAR *block;
    PMDL mdl;

    boot("verifier=0x9BB");
    block = ExAllocatePoolWithTag(PagedPool, 2 * PAGE_SIZE, TEST_TAG);
    fill_pattern(block, 2 * PAGE_SIZE, 3);
    mdl = mdl_over(block, PAGE_SIZE);
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    raise_irql(DISPATCH_LEVEL);
    EXPECT_PATTERN(block, PAGE_SIZE, 3);
    KeLowerIrql(PASSIVE_LEVEL);
    EXPECT_PATTERN(block, 2 * PAGE_SIZE, 3);
    unlock_and_free(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}
