/* SPDX-License-Identifier: MIT */
/*
 * MmProtectMdlSystemAddress: what a mapping then permits, and what it does not; what is refused.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

enum access { READ, WRITE, EXECUTE };

static const struct {
    ULONG protection;
    BOOLEAN read, write, execute;
} table[] = {
    {PAGE_NOACCESS, FALSE, FALSE, FALSE},   {PAGE_READONLY, TRUE, FALSE, FALSE},
    {PAGE_READWRITE, TRUE, TRUE, FALSE},    {PAGE_EXECUTE, FALSE, FALSE, TRUE},
    {PAGE_EXECUTE_READ, TRUE, FALSE, TRUE}, {PAGE_EXECUTE_READWRITE, TRUE, TRUE, TRUE},
};

/* x86's return: a page of them can be called anywhere. */
enum { RETURN = 0xC3, BYTES = 3 * PAGE_SIZE };

/* A mapped MDL over a buffer full of returns, whose pages stand in it backwards: only a mapping of its own
   can show them so. */
static PMDL mapped_mdl(void)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = mdl_over(user, BYTES);
    FILE_SEGMENT_ELEMENT segments[3];

    memset(user, RETURN, BYTES);
    for (SIZE_T i = 0; i < 3; i++)
        segments[i].Buffer = user + (2 - i) * PAGE_SIZE;
    MmProbeAndLockSelectedPages(mdl, segments, UserMode, IoWriteAccess);
    EXPECT(map_system(mdl) != NULL);
    return mdl;
}

static UCHAR *buffer_of(PMDL mdl)
{
    return MmGetMdlVirtualAddress(mdl);
}

static void release(PMDL mdl)
{
    UCHAR *const user = buffer_of(mdl);

    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void access(UCHAR *at, enum access how)
{
    if (how == READ)
        EXPECT_EQ(*(volatile UCHAR *)at, RETURN);
    else if (how == WRITE)
        *(volatile UCHAR *)at = RETURN;
    else
        ((void (*)(void))(uintptr_t)at)();
}

static BOOLEAN permits(SIZE_T row, enum access how)
{
    return how == READ ? table[row].read : how == WRITE ? table[row].write : table[row].execute;
}

/* MmProtectMdlSystemAddress-01 MmProtectMdlSystemAddress-02: each protection, by the routine's documented
   type, permits what it says on each page of the mapping; the process's own view of the buffer is as it
   was. */
TEST(mm_protect_mdl, protect__each_protection__permits_what_it_says)
{
    NTSTATUS (*const protect)(PMDL, ULONG) = MmProtectMdlSystemAddress;
    const PMDL mdl = mapped_mdl();
    UCHAR *const system = mdl->MappedSystemVa;

    for (SIZE_T row = 0; row < ARRAYSIZE(table); row++) {
        EXPECT_STATUS(protect(mdl, table[row].protection), STATUS_SUCCESS);
        EXPECT_PTR_EQ(mdl->MappedSystemVa, system);
        for (enum access how = READ; how <= EXECUTE; how++) {
            for (SIZE_T at = 0; permits(row, how) && at < BYTES; at += PAGE_SIZE - 1)
                access(system + at, how);
        }
        memset(buffer_of(mdl), RETURN, BYTES);
    }
    release(mdl);
}

struct attempt {
    uint64_t row, how, at, address, verifier_off;
};

static void forbidden(void *context)
{
    struct attempt *const attempt = context;

    boot(attempt->verifier_off ? "verifier=off" : "verifier=on");
    const PMDL mdl = mapped_mdl();
    UCHAR *const target = (UCHAR *)mdl->MappedSystemVa + attempt->at;
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, table[attempt->row].protection), STATUS_SUCCESS);
    attempt->address = (uint64_t)(uintptr_t)target;
    access(target, (enum access)attempt->how);
}

/* What the table forbids must stop, and name the address. Reading executable memory is what x86 cannot
   forbid. */
static void expect_forbidden(BOOLEAN verifier_off)
{
    static const uint64_t places[] = {0, BYTES - 1};
    struct attempt *const attempt = (struct attempt *)shared_words();

    for (SIZE_T row = 0; row < ARRAYSIZE(table); row++) {
        for (enum access how = READ; how <= EXECUTE; how++) {
            if (permits(row, how) || (how == READ && table[row].execute))
                continue;
            *attempt = (struct attempt){row, how, places[row % 2], 0, verifier_off};
            const struct stop stop = run_until_stop(forbidden, attempt);

            if (!stop.stopped)
                harness_fail(HARNESS_HERE, "protection 0x%X lets access %d pass", table[row].protection,
                             (int)how);
            EXPECT_EQ(stop.p[0], attempt->address);
        }
    }
}

/* MmProtectMdlSystemAddress-02: what a protection does not permit stops the machine, and names the
   address. */
TEST_UNTIDY(mm_protect_mdl, protect__each_protection__forbids_the_rest)
{
    expect_forbidden(FALSE);
}

/* MmProtectMdlSystemAddress-02: without the verifier it holds just the same for a mapping that was made
   for the MDL. */
TEST_UNTIDY(mm_protect_mdl, protect__verifier_off__forbids_the_rest)
{
    expect_forbidden(TRUE);
}

static void store_to_read_only(void *words)
{
    const PMDL mdl = mapped_mdl();
    UCHAR *const system = mdl->MappedSystemVa;

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
    ((uint64_t *)words)[0] = (uint64_t)(uintptr_t)system;
    access(system, WRITE);
}

/* MmProtectMdlSystemAddress-02: a store to a mapping made read-only is 0xBE. */
TEST_UNTIDY(mm_protect_mdl, protect__read_only__store_stops_with_its_code)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(store_to_read_only, words);

    EXPECT_EQ(stop.code, ATTEMPTED_WRITE_TO_READONLY_MEMORY);
    EXPECT_EQ(stop.p[0], words[0]);
}

/* MmProtectMdlSystemAddress-02: without the verifier, other memory near the buffer and other views of it
   are not touched. */
TEST(mm_protect_mdl, protect__verifier_off__leaves_others_alone)
{
    boot("verifier=off");
    UCHAR *const user = user_pages(3, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user + PAGE_SIZE, PAGE_SIZE), all = locked_mdl(user, BYTES);
    UCHAR *const other = system_address(all);

    EXPECT(map_system(mdl) != NULL);
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
    fill_pattern(other, BYTES, 1);
    EXPECT_PATTERN(user, BYTES, 1);
    fill_pattern(user, BYTES, 2);
    EXPECT_PATTERN_AT(mdl->MappedSystemVa, PAGE_SIZE, 2, PAGE_SIZE);
    unlock_and_free(mdl);
    unlock_and_free(all);
    pinion_user_free(user);
}

/* MmProtectMdlSystemAddress-02: once unmapped, the protection is gone with the mapping: a new one permits
   writing, and so do the pages when somebody else has them. */
SILENT_TEST(mm_protect_mdl, protect__unmapped_and_mapped_again__starts_anew)
{
    const PMDL mdl = mapped_mdl();

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_NOACCESS), STATUS_SUCCESS);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    fill_pattern(system_address(mdl), BYTES, 3);
    EXPECT_PATTERN_AT(buffer_of(mdl), PAGE_SIZE, 3, 2 * PAGE_SIZE);
    release(mdl);
}

/* MmProtectMdlSystemAddress-02: without the verifier too, nothing of the protection outlives the mapping:
   the pages can be mapped again and written, and so they can when they are freed and somebody else has
   them. */
TEST(mm_protect_mdl, protect__verifier_off_and_unmapped__leaves_no_trace)
{
    boot("verifier=off");
    for (ULONG round = 0; round < 3; round++) {
        const PMDL pages = pages_in(SCATTERED_AT, SCATTERED_AT + SCARCE - 1, 0, SCARCE);

        EXPECT(map_system(pages) != NULL);
        EXPECT_STATUS(MmProtectMdlSystemAddress(pages, round ? PAGE_NOACCESS : PAGE_READONLY),
                      STATUS_SUCCESS);
        if (round < 2) {
            MmUnmapLockedPages(pages->MappedSystemVa, pages);
            fill_pattern(system_address(pages), SCARCE, round);
            EXPECT_PATTERN(system_address(pages), SCARCE, round);
        }
        free_pages(pages);
        UCHAR *const block = MmAllocateContiguousMemory(SCARCE, phys(EVERYWHERE));
        fill_pattern(block, SCARCE, round);
        MmFreeContiguousMemory(block);
    }
}

/* MmProtectMdlSystemAddress-02: the mapping of a part of a page's MDL covers its byte offset; each of its
   pages is protected. */
SILENT_TEST(mm_protect_mdl, protect__buffer_off_the_page__keeps_its_address)
{
    UCHAR *const user = user_pattern(3, 5);
    const PMDL mdl = locked_mdl(user + 100, 2 * PAGE_SIZE);
    UCHAR *const system = system_address(mdl);

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system, 2 * PAGE_SIZE, 5, 100);
    EXPECT_PTR_EQ(system_address(mdl), system);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* MmProtectMdlSystemAddress-01: it may be called at DISPATCH_LEVEL. */
SILENT_TEST(mm_protect_mdl, protect__at_dispatch_level__works)
{
    const PMDL mdl = mapped_mdl();
    const KIRQL before = raise_irql(DISPATCH_LEVEL);

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READWRITE), STATUS_SUCCESS);
    access(mdl->MappedSystemVa, WRITE);
    KeLowerIrql(before);
    release(mdl);
}

/* MmProtectMdlSystemAddress-03: any other value is STATUS_INVALID_PAGE_PROTECTION and changes nothing. */
SILENT_TEST(mm_protect_mdl, protect__other_values__are_refused)
{
    static const ULONG values[] = {0,
                                   PAGE_WRITECOPY,
                                   PAGE_EXECUTE_WRITECOPY,
                                   PAGE_READONLY | PAGE_READWRITE,
                                   PAGE_GUARD,
                                   PAGE_READWRITE | PAGE_GUARD,
                                   PAGE_NOCACHE,
                                   0x800,
                                   0xFFFFFFFF};
    const PMDL mdl = mapped_mdl();

    for (SIZE_T i = 0; i < ARRAYSIZE(values); i++) {
        const MDL copy = *mdl;

        EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, values[i]), STATUS_INVALID_PAGE_PROTECTION);
        EXPECT_MEM_EQ(mdl, &copy, sizeof(copy));
        access(mdl->MappedSystemVa, WRITE);
    }
    release(mdl);
}

/* MmProtectMdlSystemAddress-04: an MDL that is not mapped, not yet or not any more, is
   STATUS_NOT_MAPPED_VIEW. */
SILENT_TEST(mm_protect_mdl, protect__not_mapped__is_refused)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    MmUnmapLockedPages(system_address(mdl), mdl);
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    MmUnlockPages(mdl);
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    IoFreeMdl(mdl);
    pinion_user_free(user);
}

/* MmProtectMdlSystemAddress-04: a mapping into a process is none of the system's. */
SILENT_TEST(mm_protect_mdl, protect__mapped_into_a_process_only__is_refused)
{
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);
    UCHAR *const mapped = map_user(mdl);

    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
    *mapped = 1;
    MmUnmapLockedPages(mapped, mdl);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

static void protect_a_mapping_that_is_none(void *words)
{
    UCHAR *const pool = pool_pages(1);
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    mdl->MappedSystemVa = *(uint64_t *)words ? pool : (PVOID)(ULONG_PTR)0xFFFFF80000000000;
    MmProtectMdlSystemAddress(mdl, PAGE_READONLY);
}

/* Bug_checks-06: an MDL that says it is mapped where it is not stops with 0x1A/0x1235. */
TEST_UNTIDY(mm_protect_mdl, protect__mapping_that_is_none__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++)
        expect_stop(protect_a_mapping_that_is_none, words, MEMORY_MANAGEMENT, 0x1235);
}
