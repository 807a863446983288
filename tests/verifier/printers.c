/* SPDX-License-Identifier: MIT */
/*
 * What the printers say of machines in known states: MDLs, locked pages, system PTEs, the verifier's table; that they do no harm whatever
 * they are given, and that a stop, a machine that does not run and a verifier that is off are no hindrance.
 */

#include "harness.h"
#include <ntddk.h>

#include "printed.h"

#include "../contract/refusal.h"

#include <signal.h>

enum { BYTES = 2 * PAGE_SIZE };

/* ---- MDLs ---- */

/* The header of a new MDL is shown as it is, with who allocated it; nothing else is claimed. */
TEST(printers, mdl__allocated__shows_header_and_who_allocated_it)
{
    UCHAR *const va = user_pages(3, PAGE_READWRITE) + 100;
    const PMDL mdl = allocate_it(va);
    char *const text = printed(print_mdl, mdl);

    expect_line(text, "MDL %p: 0x2000 bytes at %p\n", (void *)mdl, (void *)va);
    expect_line(text, "   +0x008 Size             : %u\n", (USHORT)mdl->Size);
    expect_line(text, "   +0x00a MdlFlags         : 0x0008 MDL_ALLOCATED_FIXED_SIZE\n");
    expect_line(text, "   +0x020 StartVa          : %p\n", mdl->StartVa);
    expect_line(text, "   +0x02c ByteOffset       : 0x64\n");
    expect_line(text, "   Memory: of IoAllocateMdl, with room for 3 pages\n");
    expect_line(text, "   On record: allocated\n");
    EXPECT(names(text, "allocated at", "allocate_it"));
    EXPECT(strstr(text, "locked at") == NULL);
    free(text);
    IoFreeMdl(mdl);
}

/* A locked and mapped MDL is shown with flags by name, process, page numbers, mapping, and a stack for each event. */
TEST(printers, mdl__locked_and_mapped__shows_pages_mapping_and_its_life)
{
    boot("layout=scattered");
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = allocate_it(va);

    lock_it(mdl);
    UCHAR *const mapped = map_it(mdl);
    char *const text = printed(print_mdl, mdl);

    expect_line(text, "   +0x00a MdlFlags         : 0x000b MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED | MDL_ALLOCATED_FIXED_SIZE\n");
    expect_line(text, "   +0x010 Process          : %p (initial)\n", (void *)mdl->Process);
    expect_line(text, "      %lx  %lx\n", frame_of(va), frame_of(va + PAGE_SIZE));
    expect_line(text, "   On record: allocated | locked | mapped\n");
    expect_line(text, "      locks 2 pages\n");
    expect_line(text, "      mapped at %p\n", (void *)mapped);
    EXPECT(names(text, "locked at", "lock_it"));
    EXPECT(names(text, "mapped at\n", "map_it"));
    free(text);
    unlock_and_free(mdl);
}

/* Page numbers that follow each other are one run; what is not held, or no memory at all, is said. */
TEST(printers, mdl__page_numbers__are_folded_and_judged)
{
    boot("layout=linear");
    UCHAR *const va = user_pages(100, PAGE_READWRITE);
    const PMDL mdl = mdl_over(va, 100 * PAGE_SIZE);
    char *text;

    memset(MmGetMdlPfnArray(mdl), 0, 100 * sizeof(PFN_NUMBER));
    text = printed(print_mdl, mdl);
    expect_line(text, "   Pages: 100\n      0 100 times (no memory)\n");
    free(text);
    for (PFN_NUMBER i = 0; i < 100; i++)
        MmGetMdlPfnArray(mdl)[i] = frame_of(va) + i;
    text = printed(print_mdl, mdl);
    expect_line(text, "      %lx..%lx (not held)\n", frame_of(va), frame_of(va) + 99);
    free(text);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    text = printed(print_mdl, mdl);
    expect_line(text, "      %lx..%lx\n", frame_of(va), frame_of(va) + 99);
    free(text);
    unlock_and_free(mdl);
}

/* Of very many pages the first are shown, and how many more there are. */
TEST(printers, mdl__many_scattered_pages__are_cut)
{
    boot("layout=scattered");
    const PMDL mdl = locked_mdl(user_pages(1000, PAGE_READWRITE), 1000 * PAGE_SIZE);
    char *const text = printed(print_mdl, mdl);

    expect_line(text, "   Pages: 1000\n");
    expect_line(text, "      ... and 968 pages more\n");
    free(text);
    unlock_and_free(mdl);
}

/* A partial MDL says whose lock it lives on, tells the source's story too, and notices when that lock is gone. */
TEST(printers, mdl__partial__names_its_source)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL source = allocate_it(va), part = mdl_over(va, PAGE_SIZE);
    char *text;

    lock_it(source);
    IoBuildPartialMdl(source, part, va, PAGE_SIZE);
    text = printed(print_mdl, part);
    expect_line(text, "      lives on the lock of MDL %p\n", (void *)source);
    expect_line(text, "Its source, MDL %p:\n", (void *)source);
    EXPECT(names(text, "Its source", "lock_it"));
    free(text);
    unlock_and_free(source);
    text = printed(print_mdl, part);
    expect_line(text, "      lives on the lock of MDL %p, which is gone\n", (void *)source);
    free(text);
    IoFreeMdl(part);
}

/* An MDL that was freed is none any more, but who freed it is remembered. */
TEST(printers, mdl__freed__says_who_freed_it)
{
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));

    IoFreeMdl(mdl);
    char *const text = printed(print_mdl, mdl);

    expect_line(text, "%p is no MDL: ", (void *)mdl);
    expect_line(text, "   Freed\n");
    EXPECT(names(text, "allocated at", "allocate_it"));
    EXPECT(strstr(text, "freed at") != NULL);
    free(text);
}

/* A chain is followed to its end; one that runs in a circle or into nothing is followed as far as it goes. */
TEST(printers, mdl__chain__is_followed_and_does_not_lead_astray)
{
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL first = mdl_over(va, 1), second = mdl_over(va, 2), third = mdl_over(va, 3);
    char *text;

    first->Next = second;
    second->Next = third;
    text = printed(print_mdl, first);
    expect_line(text, "   Next   %p: 0x2 bytes at %p, MdlFlags 0x0008\n   Next   %p: 0x3 bytes", (void *)second, (void *)va, (void *)third);
    free(text);
    third->Next = second;
    text = printed(print_mdl, first);
    expect_line(text, "   Next   %p: the chain runs in a circle\n", (void *)second);
    free(text);
    third->Next = MM_BAD_POINTER;
    text = printed(print_mdl, first);
    expect_line(text, "   Next   %p, which is no MDL\n", MM_BAD_POINTER);
    free(text);
    IoFreeMdl(first);
    IoFreeMdl(second);
    third->Next = NULL;
    IoFreeMdl(third);
}

/* An MDL in a driver's own memory is one too, and is not taken for ours. */
TEST(printers, mdl__in_a_drivers_memory__is_shown)
{
    static union {
        MDL mdl;
        UCHAR room[sizeof(MDL) + 4 * sizeof(PFN_NUMBER)];
    } own;
    char *text;

    MmInitializeMdl(&own.mdl, user_pages(2, PAGE_READWRITE), BYTES);
    text = printed(print_mdl, &own.mdl);
    expect_line(text, "MDL %p: 0x2000 bytes", (void *)&own.mdl);
    expect_line(text, "   Memory: the driver's own\n   Not on record\n");
    free(text);
}

/* One that brought its own pages stands in pool. */
TEST(printers, mdl__in_pool__says_so)
{
    boot("verifier=0x8");
    const PHYSICAL_ADDRESS zero = {0}, highest = {.QuadPart = MAXLONGLONG};
    const PMDL mdl = MmAllocatePagesForMdl(zero, highest, zero, BYTES);
    char *const text = printed(print_mdl, mdl);

    expect_line(text, "   On record: with pages of its own | in pool\n");
    expect_line(text, "   Memory: nonpaged memory of the system, such as pool\n");
    free(text);
    MmFreePagesFromMdl(mdl);
    ExFreePool(mdl);
}

/* ---- tables ---- */

/* Locked pages are counted for each process, and each MDL is named that locks some, with who locked it. */
TEST(printers, locked_pages__two_processes__shows_each_and_its_mdls)
{
    const PEPROCESS other = pinion_process_create("other");
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));
    PMDL others;
    char *text;

    lock_it(mdl);
    pinion_process_attach(other);
    others = locked_mdl(user_pages(3, PAGE_READWRITE), 3 * PAGE_SIZE);
    text = printed(print_locked_pages, NULL);
    expect_line(text, "5 page locks are held\n");
    expect_line(text, "%-32s 2\n", "initial");
    expect_line(text, "%-32s 3\n", "other");
    expect_line(text, "%016lx %-16s %9u  lock_it (stories.h:", (ULONG_PTR)mdl, "initial", 2);
    expect_line(text, "%016lx %-16s %9u  ", (ULONG_PTR)others, "other", 3);
    free(text);
    unlock_and_free(others);
    pinion_process_exit(other);
    unlock_and_free(mdl);
    text = printed(print_locked_pages, NULL);
    EXPECT_EQ(strcmp(text, "0 page locks are held\n"), 0);
    free(text);
}

/* Locks on nonpaged pool belong to no process. */
TEST(printers, locked_pages__of_pool__are_the_systems)
{
    UCHAR *const pool = pool_pages(2);
    const PMDL mdl = mdl_over(pool, BYTES);
    char *text;

    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
    text = printed(print_locked_pages, NULL);
    expect_line(text, "%-32s 2\n", "other system and host memory");
    free(text);
    unlock_and_free(mdl);
    ExFreePool(pool);
}

/* Each mapping into system space has a row with its address, MDL, length and who made it, for as long as it is there. */
TEST(printers, system_ptes__mappings__have_a_row_each)
{
    const PMDL mdl = locked_mdl(user_pages(3, PAGE_READWRITE), 3 * PAGE_SIZE);
    UCHAR *const mapped = map_it(mdl);
    const PVOID reserved = MmAllocateMappingAddress(PAGE_SIZE, TEST_TAG);
    char *text = printed(print_system_ptes, NULL);

    expect_line(text, "System PTE Information\n");
    expect_line(text, "  In use 4, by 2 mappings\n");
    expect_line(text, "%016lx %016lx %9u  map_it (", (ULONG_PTR)mapped, (ULONG_PTR)mdl, 3);
    expect_line(text, "%016lx %016lx %9u  (reserved addresses, nothing mapped)\n", (ULONG_PTR)reserved, (ULONG_PTR)0, 1);
    free(text);
    MmFreeMappingAddress(reserved, TEST_TAG);
    unlock_and_free(mdl);
    text = printed(print_system_ptes, NULL);
    expect_line(text, "  In use 0, by 0 mappings\n");
    EXPECT(strstr(text, "Caller") == NULL);
    free(text);
}

/* A table of very many rows is cut, and says so. */
TEST(printers, tables__of_many_rows__are_cut)
{
    enum { COUNT = 300 };
    UCHAR *const va = user_pages(1, PAGE_READWRITE);
    PMDL mdls[COUNT];
    char *text;

    for (unsigned i = 0; i < COUNT; i++)
        (void)system_address(mdls[i] = locked_mdl(va, PAGE_SIZE));
    for (unsigned i = 0; i < 3; i++) {
        text = printed((void (*const[])(void *)){print_system_ptes, print_locked_pages, print_verifier}[i], NULL);
        expect_line(text, "... and %u more\n", COUNT - 256);
        free(text);
    }
    for (unsigned i = 0; i < COUNT; i++)
        unlock_and_free(mdls[i]);
}

/* ---- the verifier ---- */

/* Settings, counts, and each MDL that is alive under the tag that Driver Verifier gives them. */
TEST(printers, verifier__in_use__shows_settings_counts_and_mdls)
{
    boot("verifier=0x4088");
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));
    char *text;

    pinion_fail("IoAllocateMdl", 1);
    EXPECT(IoAllocateMdl(NULL, 1, FALSE, FALSE, NULL) == NULL);
    text = printed(print_verifier, NULL);
    expect_line(text, "Verify Flags Level 0x00004088\n");
    expect_line(text, "    [X] (0x00000008) Pool tracking\n");
    expect_line(text, "    [X] (0x00004000) Invariant MDL checking for driver\n");
    expect_line(text, "    [ ] (0x00000004) Randomized low resources simulation\n");
    expect_line(text, "  MDLs allocated                 0x1\n");
    expect_line(text, "  Faults injected                0x1\n");
    expect_line(text, "MDLs: 1\n");
    expect_line(text, "  0x%016lx  0x%08x  VMdl  allocate_it (stories.h:", (ULONG_PTR)mdl, (USHORT)mdl->Size);
    free(text);
    IoFreeMdl(mdl);
}

/* Without the verifier the printers tell what the machine knows, and say that nobody keeps account of who did what. */
TEST(printers, verifier_off__all__tell_what_the_machine_knows)
{
    boot("verifier=off:layout=scattered");
    UCHAR *const va = user_pages(2, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(va, BYTES);
    UCHAR *const mapped = system_address(mdl);
    char *text = printed(print_mdl, mdl);

    expect_line(text, "      %lx  %lx\n", frame_of(va), frame_of(va + PAGE_SIZE));
    expect_line(text, "   +0x018 MappedSystemVa   : %p\n", (void *)mapped);
    expect_line(text, "   The verifier is off: ");
    EXPECT(strstr(text, "#0") == NULL);
    free(text);
    text = printed(print_locked_pages, NULL);
    expect_line(text, "%-32s 2\nThe verifier is off: ", "initial");
    free(text);
    text = printed(print_system_ptes, NULL);
    expect_line(text, "The verifier is off: ");
    free(text);
    text = printed(print_verifier, NULL);
    expect_line(text, "Verify Flags Level 0x00000000: the verifier is off\n");
    expect_line(text, "  Pages locked                   0x2\n");
    EXPECT(strstr(text, "VMdl") == NULL);
    free(text);
    unlock_and_free(mdl);
}

/* ---- anything at any time ---- */

/* An address at which there is no MDL is told of in one line, and nothing comes of it. */
TEST(printers, mdl__of_bad_addresses__says_that_it_is_none)
{
    void *addresses[8];

    for (size_t i = bad_addresses(addresses); i-- > 0;) {
        char *const text = printed(print_mdl, addresses[i]);

        expect_line(text, "%p is no MDL: ", addresses[i]);
        EXPECT_PTR_EQ(strchr(text, '\n') + 1, text + strlen(text));
        free(text);
    }
}

/* A header that promises more page numbers than there is memory behind it is shown, without them. */
TEST(printers, mdl__whose_page_numbers_are_not_there__is_shown_without)
{
    UCHAR *const va = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = (PMDL)(void *)(va + PAGE_SIZE - sizeof(MDL));
    char *text;

    *mdl = (MDL){.Size = sizeof(MDL) + 64, .ByteCount = 8 * PAGE_SIZE};
    text = printed(print_mdl, mdl);
    expect_line(text, "   Pages: 8, whose numbers cannot be read\n");
    free(text);
}

/* A printer boots no machine: where none runs, it says so. */
TEST_UNTIDY(printers, all__no_machine__boot_none)
{
    void (*const printers[])(void *) = {print_mdl, print_irp, print_adapter, print_locked_pages, print_system_ptes, print_verifier};

    for (size_t i = 0; i < ARRAYSIZE(printers); i++) {
        char *const text = printed(printers[i], NULL);

        EXPECT_EQ(strcmp(text, "No machine is running.\n"), 0);
        free(text);
    }
    EXPECT_EQ(pinion_boot(NULL), 0);
    pinion_shutdown();
}

/* In a forked child there is none either, and no machine of its own to end it for. */
TEST(printers, all__forked_child__say_where_the_machine_runs)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), 1);
    const struct refusal printed_there = refusal_of(print_mdl, mdl);

    EXPECT_EQ(printed_there.exit_status, 0);
    EXPECT_EQ(strcmp(printed_there.text, "This is a forked child: the machine runs in its parent.\n"), 0);
    IoFreeMdl(mdl);
}

/* Printing changes nothing: no counter, no finding, and no memory of the host's is asked for. */
SILENT_TEST(printers, all__afterwards__nothing_has_changed)
{
    const PMDL mdl = locked_mdl(user_pages(2, PAGE_READWRITE), BYTES);
    const struct pinion_counters before = counters_now();

    free(printed(print_mdl, mdl));
    free(printed(print_locked_pages, NULL));
    free(printed(print_system_ptes, NULL));
    free(printed(print_verifier, NULL));
    EXPECT_SAME_COUNTERS(before);
    EXPECT_EQ(counters_now().host_calls, before.host_calls);
    unlock_and_free(mdl);
}

/* For a debugger, the text is left in memory, and places are addresses: names are the debugger's. */
TEST(printers, for_a_debugger__text__has_addresses_for_names)
{
    const PMDL mdl = allocate_it(user_pages(2, PAGE_READWRITE));
    const char *const text = pinion_print_to_debugger(1);

    EXPECT_EQ(text[0], '\0');
    pinion_print_mdl(mdl);
    EXPECT(strstr(text, "allocated at\n        #0 <0x") != NULL);
    EXPECT(strstr(text, "allocate_it") == NULL);
    pinion_print_to_debugger(1);
    EXPECT_EQ(text[0], '\0');
    for (unsigned i = 0; i < 2000; i++)
        pinion_print_verifier();
    EXPECT(strlen(text) < 1 << 18);
    EXPECT_EQ(strcmp(text + strlen(text) - 12, "\n(cut here)\n"), 0);
    pinion_print_to_debugger(0);
    IoFreeMdl(mdl);
}

static PMDL stopped_mdl;

static void print_at_abort(int signal HARNESS_UNUSED)
{
    pinion_print_mdl(stopped_mdl);
    pinion_print_locked_pages();
    pinion_print_system_ptes();
    pinion_print_verifier();
}

static void free_too_early(void *stream)
{
    stopped_mdl = allocate_it(user_pages(2, PAGE_READWRITE));
    lock_it(stopped_mdl);
    signal(SIGABRT, print_at_abort);
    if (stream != NULL)
        pinion_print_to(stream);
    IoFreeMdl(stopped_mdl);
}

/* Inside a stop they work as ever, behind the report. */
TEST_UNTIDY(printers, all__inside_a_stop__work)
{
    const struct stop stop = run_until_stop(free_too_early, NULL);
    const char *const behind = strstr(stop.stderr_text, "More: pinion explain 0xCB\n");

    EXPECT(stop.stopped && behind != NULL);
    expect_line(behind, "MDL %p: 0x2000 bytes", (void *)(ULONG_PTR)stop.p[2]);
    expect_line(behind, "2 page locks are held\n");
    expect_line(behind, "System PTE Information\n");
    expect_line(behind, "MDLs: 1\n");
}

/* The report of a stop is told on stderr, wherever the thread's printers write. */
TEST_UNTIDY(printers, report__of_a_thread_that_prints_elsewhere__stays_on_stderr)
{
    FILE *const elsewhere = tmpfile();
    const struct stop stop = run_until_stop(free_too_early, elsewhere);

    EXPECT(stop.stopped);
    EXPECT(names(stop.stderr_text, "locked at", "lock_it"));
    EXPECT(strstr(stop.stderr_text, "page locks are held") == NULL);
    fclose(elsewhere);
}
