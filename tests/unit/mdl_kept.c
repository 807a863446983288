/* SPDX-License-Identifier: MIT */
/*
 * Mappings that were released and are kept, with the verifier off: the same pages are mapped again without a call to the host, and
 * nothing that may have happened to them meanwhile is missed.
 */

#include "harness.h"

#include "mdl/mdl.h"
#include "mm/state.h"

#include <string.h>

enum { PAGES = 8 };

static struct machine *boot(void)
{
    EXPECT_EQ(pinion_boot("verifier=off"), 0);
    return ke_machine();
}

static char *user_pages(size_t n)
{
    char *va = pinion_user_alloc(n * PAGE_SIZE, PAGE_READWRITE);

    EXPECT(va != NULL);
    return va;
}

/* A buffer twice as long, locked; and an MDL of every other page of it, which no address is behind. */
struct fragments {
    char *va;
    PMDL  whole, mdl;
};

static void take_numbers(const struct fragments *f)
{
    for (size_t i = 0; i < PAGES; i++)
        MmGetMdlPfnArray(f->mdl)[i] = MmGetMdlPfnArray(f->whole)[2 * i];
}

static struct fragments open_fragments(void)
{
    struct fragments f = {.va = user_pages(2 * PAGES)};

    f.whole = IoAllocateMdl(f.va, 2 * PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    f.mdl = IoAllocateMdl(NULL, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    MmProbeAndLockPages(f.whole, UserMode, IoWriteAccess);
    take_numbers(&f);
    return f;
}

static void close_fragments(const struct fragments *f)
{
    MmUnlockPages(f->whole);
    IoFreeMdl(f->mdl);
    IoFreeMdl(f->whole);
    pinion_user_free(f->va);
}

static char *map(PMDL mdl)
{
    char *system = MmGetSystemAddressForMdlSafe(mdl, HighPagePriority | MdlMappingNoExecute);

    EXPECT(system != NULL);
    return system;
}

static char *map_and_unmap(PMDL mdl)
{
    char *system = map(mdl);

    MmUnmapLockedPages(system, mdl);
    return system;
}

static struct pinion_counters counters(void)
{
    struct pinion_counters now;

    pinion_counters(&now);
    return now;
}

static void expect_sound(void)
{
    const char *why;

    EXPECT(mm_check(ke_machine(), &why));
}

/* What is stored through the mapping is in the pages that the MDL lists. */
static void expect_shows(const struct fragments *f, char *system)
{
    for (size_t i = 0; i < PAGES; i++) {
        system[i * PAGE_SIZE] = (char)(i + 40);
        EXPECT_EQ(f->va[2 * i * PAGE_SIZE], (char)(i + 40));
    }
}

/* Mapped again, the same pages cost no call, and the counters count as ever. */
TEST(mdl_kept, map__same_pages_again__no_host_call)
{
    boot();
    const struct fragments f = open_fragments();
    char *system = map_and_unmap(f.mdl);
    const uint64_t calls = counters().host_calls;

    EXPECT_EQ(counters().system_mappings, 0);
    EXPECT_EQ(counters().system_pages_mapped, 0);
    for (int i = 0; i < 10; i++) {
        EXPECT_EQ(map(f.mdl), system);
        EXPECT_EQ(counters().system_mappings, 1);
        EXPECT_EQ(counters().system_pages_mapped, PAGES);
        expect_shows(&f, system);
        MmUnmapLockedPages(system, f.mdl);
    }
    EXPECT_EQ(counters().host_calls, calls);
    EXPECT_EQ(counters().system_mappings, 0);
    expect_sound();
    close_fragments(&f);
}

/* What is kept is nobody's: no address in it is valid, and another MDL of the same pages may have it. */
TEST(mdl_kept, unmap__kept__address_is_not_valid_and_free_to_take)
{
    boot();
    const struct fragments f = open_fragments();
    PMDL other = IoAllocateMdl(NULL, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    char *system = map_and_unmap(f.mdl), *again;

    EXPECT_EQ(MmIsAddressValid(system), FALSE);
    EXPECT_EQ(MmGetPhysicalAddress(system).QuadPart, 0);
    memcpy(MmGetMdlPfnArray(other), MmGetMdlPfnArray(f.mdl), PAGES * sizeof(PFN_NUMBER));
    EXPECT_EQ(map(other), system);
    EXPECT_EQ(MmIsAddressValid(system), TRUE);
    again = map(f.mdl);
    EXPECT(again != system);
    expect_shows(&f, again);
    MmUnmapLockedPages(again, f.mdl);
    MmUnmapLockedPages(system, other);
    expect_sound();
    IoFreeMdl(other);
    close_fragments(&f);
}

/* One number that differs, in whatever place, is another mapping. */
TEST(mdl_kept, map__one_page_differs__shows_that_page)
{
    boot();
    const struct fragments f = open_fragments();

    for (size_t place = 0; place < PAGES; place++) {
        char *system;

        take_numbers(&f);
        map_and_unmap(f.mdl);
        MmGetMdlPfnArray(f.mdl)[place] = MmGetMdlPfnArray(f.whole)[2 * place + 1];
        system = map(f.mdl);
        system[place * PAGE_SIZE] = 77;
        EXPECT_EQ(f.va[(2 * place + 1) * PAGE_SIZE], 77);
        f.va[(2 * place + 1) * PAGE_SIZE] = 0;
        MmUnmapLockedPages(system, f.mdl);
    }
    close_fragments(&f);
}

/* A kept mapping keeps no frame, and shows what its pages are used for then. */
TEST(mdl_kept, frames__freed_and_used_again__mapping_shows_the_new_owner)
{
    struct machine *machine = boot();
    const size_t before = mm_frames_free(machine);
    struct fragments f = open_fragments();

    for (int round = 0; round < 20; round++) {
        char *system = map(f.mdl);

        expect_shows(&f, system);
        MmUnmapLockedPages(system, f.mdl);
        close_fragments(&f);
        EXPECT_EQ(mm_frames_free(machine), before);
        f = open_fragments();
        EXPECT_EQ(map(f.mdl)[0], 0);
        MmUnmapLockedPages(f.mdl->MappedSystemVa, f.mdl);
    }
    expect_sound();
    close_fragments(&f);
}

static uint8_t access_of(const char *system)
{
    const struct mm_space *ptes = ke_machine()->mm->system_ptes;

    return atomic_load(&ptes->attrs[mm_space_page(ptes, (uintptr_t)system)]) & MM_ACCESS;
}

/* A protection that the driver asked for goes with the mapping. */
TEST(mdl_kept, protect__then_mapped_again__writable)
{
    boot();
    const struct fragments f = open_fragments();
    char *system = map(f.mdl);

    EXPECT_EQ(MmProtectMdlSystemAddress(f.mdl, PAGE_READONLY), STATUS_SUCCESS);
    MmUnmapLockedPages(system, f.mdl);
    system = map(f.mdl);
    expect_shows(&f, system);
    MmUnmapLockedPages(system, f.mdl);
    system = MmGetSystemAddressForMdlSafe(f.mdl, NormalPagePriority | MdlMappingNoWrite | MdlMappingNoExecute);
    EXPECT_EQ(access_of(system), MM_READ);
    MmUnmapLockedPages(system, f.mdl);
    close_fragments(&f);
}

/* An advance of a mapped MDL leaves a mapping that can be kept as a whole. */
TEST(mdl_kept, advance__then_released__whole_mapping_is_kept)
{
    boot();
    struct fragments f = open_fragments();
    char *system = map(f.mdl);
    uint64_t calls;

    EXPECT_EQ(MmAdvanceMdl(f.mdl, 3 * PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_EQ(counters().system_pages_mapped, PAGES - 3);
    MmUnmapLockedPages(system + 3 * PAGE_SIZE, f.mdl);
    EXPECT_EQ(counters().system_pages_mapped, 0);
    IoFreeMdl(f.mdl);
    f.mdl = IoAllocateMdl(NULL, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    take_numbers(&f);
    calls = counters().host_calls;
    EXPECT_EQ(map(f.mdl), system);
    EXPECT_EQ(counters().host_calls, calls);
    expect_shows(&f, system);
    MmUnmapLockedPages(system, f.mdl);
    close_fragments(&f);
}

/* Another list each time: swap two numbers. */
static void vary(PMDL mdl, unsigned *seed)
{
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
    const size_t a = (*seed = *seed * 1103515245 + 12345) >> 16 & (PAGES - 1), b = (a + 1 + (*seed >> 24) % (PAGES - 1)) % PAGES;
    const PFN_NUMBER pfn = pfns[a];

    pfns[a] = pfns[b];
    pfns[b] = pfn;
}

/* However many were released, a limited number is kept, and each mapping shows its pages in its order. */
TEST(mdl_kept, unmap__thousands_of_lists__limited_and_right)
{
    struct machine *machine = boot();
    const struct fragments f = open_fragments();
    unsigned seed = 1;

    for (size_t i = 0; i < PAGES; i++)
        memset(f.va + 2 * i * PAGE_SIZE, (int)i + 1, PAGE_SIZE);
    for (int round = 0; round < 5000; round++) {
        char *system = map(f.mdl);

        for (size_t i = 0; i < PAGES; i++)
            EXPECT_EQ(MmGetMdlPfnArray(f.whole)[2 * (size_t)(system[i * PAGE_SIZE] - 1)], MmGetMdlPfnArray(f.mdl)[i]);
        MmUnmapLockedPages(system, f.mdl);
        vary(f.mdl, &seed);
    }
    EXPECT(mm_kept_pages(machine->mm->system_ptes) > 1000);
    EXPECT(mm_kept_pages(machine->mm->system_ptes) <= 1024 * PAGES);
    expect_sound();
    close_fragments(&f);
}

/* Where addresses run out, kept mappings give theirs: to reservations, and to other mappings. */
TEST(mdl_kept, map__no_addresses_left__kept_ones_give_way)
{
    struct mm_space *ptes = boot()->mm->system_ptes;
    const struct fragments f = open_fragments();
    unsigned seed = 7;
    uintptr_t last = 0, va;

    map_and_unmap(f.mdl);
    for (size_t n = (size_t)1 << 18; n >= PAGES; n /= 2)
        while ((va = mm_space_reserve(ptes, n, 'tpeK', NULL)) != 0)
            last = va;
    EXPECT_EQ(mm_kept_pages(ptes), 0);
    mm_space_unreserve(ptes, last);
    for (int round = 0; round < 100; round++) {
        map_and_unmap(f.mdl);
        EXPECT_EQ(mm_kept_pages(ptes), PAGES);
        vary(f.mdl, &seed);
    }
    expect_sound();
    close_fragments(&f);
}

/* A refusal of the host is met with what is kept, too; and what was kept is not lost when nothing helps. */
TEST(mdl_kept, map__host_refuses__tried_again_without_kept_ones)
{
    boot();
    const struct fragments f = open_fragments();
    unsigned seed = 9;

    map_and_unmap(f.mdl);
    vary(f.mdl, &seed);
    pinion_fail("internal", 2);
    map_and_unmap(f.mdl);
    pinion_fail("internal", 0);
    EXPECT_EQ(counters().system_mappings, 0);
    expect_sound();
    close_fragments(&f);
}

/* With the verifier on, a released mapping is gone. */
TEST(mdl_kept, unmap__verifier_on__nothing_is_kept)
{
    EXPECT_EQ(pinion_boot("verifier=on"), 0);
    char *va = user_pages(4);
    PMDL mdl = IoAllocateMdl(va, 4 * PAGE_SIZE, FALSE, FALSE, NULL);
    char *system;

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    system = map_and_unmap(mdl);
    EXPECT(ke_machine()->mm->system_ptes->kept == NULL);
    EXPECT(map_and_unmap(mdl) != system);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* ---- pages that are no longer held ---- */

STOP_TEST_ANY_P1(mdl_kept, map_again__unlocked_meanwhile__stops, 0x1A)
{
    boot();
    const struct fragments f = open_fragments();

    map_and_unmap(f.mdl);
    map_and_unmap(f.mdl);
    MmUnlockPages(f.whole);
    map(f.mdl);
}

/* The range is locked again, but it is other pages that it has by now. */
STOP_TEST_ANY_P1(mdl_kept, map_again__freed_meanwhile__stops, 0x1A)
{
    boot();
    const struct fragments f = open_fragments();

    map_and_unmap(f.mdl);
    MmUnlockPages(f.whole);
    pinion_user_free(f.va);
    map(f.mdl);
}

/* One page of a claimed range that lies side by side in the RAM window is replaced by one that nobody holds. */
STOP_TEST_ANY_P1(mdl_kept, map__one_number_edited__stops, 0x1A)
{
    boot();
    char *va = user_pages(PAGES), *other = user_pages(1);
    PMDL mdl = IoAllocateMdl(va, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    map_and_unmap(mdl);
    MmGetMdlPfnArray(mdl)[3] = (PFN_NUMBER)MmGetPhysicalAddress(other).QuadPart >> PAGE_SHIFT;
    map(mdl);
}

/* ---- pages side by side ---- */

/* An MDL whose header the driver moved, or whose pages it changed, gets what its numbers say and not what they were. */
TEST(mdl_kept, window__numbers_or_header_edited__right_pages)
{
    boot();
    char *va = user_pages(2 * PAGES);
    PMDL mdl = IoAllocateMdl(va, 2 * PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
    PFN_NUMBER first;

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    for (int i = 0; i < 2 * PAGES; i++)
        va[i * PAGE_SIZE] = (char)i;
    EXPECT_EQ(map(mdl)[3 * PAGE_SIZE], 3);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    mdl->ByteCount = PAGES * PAGE_SIZE;
    EXPECT_EQ(map(mdl)[3 * PAGE_SIZE], 3);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    mdl->StartVa = va + PAGES * PAGE_SIZE;
    EXPECT_EQ(map(mdl)[3 * PAGE_SIZE], 3);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    mdl->StartVa = va;
    mdl->ByteCount = 2 * PAGES * PAGE_SIZE;
    first = pfns[0];
    memmove(pfns, pfns + 1, (2 * PAGES - 1) * sizeof(*pfns));
    pfns[2 * PAGES - 1] = first;
    for (int i = 0; i < 2 * PAGES; i++)
        EXPECT_EQ(map(mdl)[i * PAGE_SIZE], (char)((i + 1) % (2 * PAGES)));
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    EXPECT_EQ(counters().system_pages_mapped, 0);
    mm_unlock_pages(ke_machine(), pfns, 2 * PAGES);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}
