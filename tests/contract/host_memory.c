/* SPDX-License-Identifier: MIT */
/*
 * Processes and their memory as the host makes them, the trimmer, and the counters.
 */

#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "support.h"

static ULONG64 pfn_of(PVOID va)
{
    return (ULONG64)MmGetPhysicalAddress(va).QuadPart >> PAGE_SHIFT;
}

/* ---- Process memory ------------------------------------------------------------------------------------ */

/* Memory of a process is page aligned and zeroed, also where other contents lay before. */
TEST(host_memory, user_alloc__again_and_again__is_aligned_and_zeroed)
{
    static const SIZE_T sizes[] = {1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 100 * PAGE_SIZE};

    boot("ram=16M");
    for (ULONG round = 0; round < 60; round++) {
        const SIZE_T bytes = sizes[round % ARRAYSIZE(sizes)];
        UCHAR *const user = pinion_user_alloc(bytes, PAGE_READWRITE);

        EXPECT(user != NULL);
        EXPECT_EQ(BYTE_OFFSET(user), 0);
        for (SIZE_T i = 0; i < BYTES_TO_PAGES(bytes) * PAGE_SIZE; i++) {
            if (user[i])
                EXPECT_EQ(user[i], 0);
        }
        memset(user, 0xEE, BYTES_TO_PAGES(bytes) * PAGE_SIZE);
        pinion_user_free(user);
    }
}

/* What cannot be had is NULL: no bytes, more than there is, protections that private memory cannot have. */
TEST(host_memory, user_alloc__impossible__is_null)
{
    EXPECT(pinion_user_alloc(0, PAGE_READWRITE) == NULL);
    EXPECT(pinion_user_alloc((size_t)1 << 46, PAGE_READWRITE) == NULL);
    EXPECT(pinion_user_alloc(~(size_t)0, PAGE_READWRITE) == NULL);
    EXPECT(pinion_user_alloc(PAGE_SIZE, PAGE_WRITECOPY) == NULL);
    EXPECT(pinion_user_alloc(PAGE_SIZE, PAGE_EXECUTE_WRITECOPY) == NULL);
}

/* pinion_user_protect changes whole pages of an allocation and no others. */
TEST(host_memory, user_protect__one_page__leaves_its_neighbours)
{
    UCHAR *const user = user_pages(3, PAGE_READWRITE);

    pinion_user_protect(user + PAGE_SIZE, PAGE_SIZE, PAGE_READONLY);
    EXPECT_STATUS(pinion_try(touch_store, user + PAGE_SIZE - 1), STATUS_SUCCESS);
    EXPECT_STATUS(pinion_try(touch_store, user + PAGE_SIZE), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(pinion_try(touch_store, user + 2 * PAGE_SIZE - 1), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(pinion_try(touch_store, user + 2 * PAGE_SIZE), STATUS_SUCCESS);
    pinion_user_free(user);
}

/* Memory that is freed and allocated a thousand times does not run out. */
TEST(host_memory, user_free__many_rounds__gives_memory_back)
{
    boot("ram=16M");
    for (ULONG round = 0; round < 1000; round++)
        pinion_user_free(user_pages(2048, PAGE_READWRITE));
    EXPECT_EQ(counters_now().locked_pages, 0);
}

/* A buffer that is freed while it is locked lives on: contents and frames stay, the frames are given to
   nobody else, and the address is not used again, until it is unlocked; then the memory is whole again. */
TEST(host_memory, user_free__while_locked__pages_live_on_until_unlocked)
{
    enum { LOCKED = 32, CHUNK = 32, MOST = 256 };
    PUCHAR chunks[MOST];
    SIZE_T count = 0, whole = 0;

    boot("ram=16M");
    while ((chunks[whole] = pinion_user_alloc(CHUNK * PAGE_SIZE, PAGE_READWRITE)) != NULL)
        whole++;
    for (SIZE_T i = 0; i < whole; i++)
        pinion_user_free(chunks[i]);
    UCHAR *const user = user_pattern(LOCKED, 3);
    const PMDL mdl = locked_mdl(user, LOCKED * PAGE_SIZE);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
    pinion_user_free(user);
    while ((chunks[count] = pinion_user_alloc(CHUNK * PAGE_SIZE, PAGE_READWRITE)) != NULL) {
        EXPECT(chunks[count] + CHUNK * PAGE_SIZE <= user || chunks[count] >= user + LOCKED * PAGE_SIZE);
        memset(chunks[count], 0xEE, CHUNK * PAGE_SIZE);
        for (SIZE_T i = 0; i < LOCKED; i++)
            EXPECT_NE(pfn_of(chunks[count]), MmGetMdlPfnArray(mdl)[i]);
        count++;
    }
    EXPECT(count < whole);
    EXPECT_PATTERN(system, LOCKED * PAGE_SIZE, 3);
    EXPECT_EQ(counters_now().locked_pages, LOCKED);
    unlock_and_free(mdl);
    while ((chunks[count] = pinion_user_alloc(CHUNK * PAGE_SIZE, PAGE_READWRITE)) != NULL)
        count++;
    EXPECT_EQ(count, whole);
}

/* Where only part of a freed buffer is locked, only that part lives on. */
TEST(host_memory, user_free__part_locked__the_part_lives_on)
{
    UCHAR *const user = user_pattern(600, 3);
    const PMDL mdl = locked_mdl(user + 520 * PAGE_SIZE, 2 * PAGE_SIZE);
    const UCHAR *const system = MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);

    pinion_user_free(user);
    EXPECT_STATUS(pinion_try(touch_store, user), STATUS_ACCESS_VIOLATION);
    EXPECT_STATUS(pinion_try(touch_store, user + 520 * PAGE_SIZE), STATUS_ACCESS_VIOLATION);
    for (SIZE_T i = 0; i < 2 * PAGE_SIZE; i++)
        EXPECT_EQ(system[i], pattern_byte(3, 520 * PAGE_SIZE + i));
    unlock_and_free(mdl);
}

/* ---- Trimming ------------------------------------------------------------------------------------------ */

/* A trim gives the number of pages that it took; a second one in a row takes none. */
TEST(host_memory, trim__twice__takes_nothing_the_second_time)
{
    UCHAR *const user = user_pattern(7, 3);

    EXPECT_EQ(pinion_trim(), 7);
    EXPECT_EQ(pinion_trim(), 0);
    touch_store(user + 3 * PAGE_SIZE);
    EXPECT_EQ(pinion_trim(), 1);
    EXPECT_EQ(user[3 * PAGE_SIZE], 0x77);
    EXPECT_PATTERN(user, 3 * PAGE_SIZE, 3);
    pinion_user_free(user);
}

/* A trim takes the pages of every process. */
TEST(host_memory, trim__two_processes__takes_the_pages_of_both)
{
    const PEPROCESS other = pinion_process_create("other");
    UCHAR *const mine = user_pattern(2, 1);

    pinion_process_attach(other);
    UCHAR *const theirs = user_pattern(3, 2);
    EXPECT_EQ(pinion_trim(), 5);
    EXPECT_PATTERN(theirs, 3 * PAGE_SIZE, 2);
    pinion_process_attach(NULL);
    EXPECT_PATTERN(mine, 2 * PAGE_SIZE, 1);
    pinion_process_exit(other);
    pinion_user_free(mine);
}

/* A system call that is handed a trimmed page fails with EFAULT; after pinion_user_resident it works, until
   the next trim. */
TEST(host_memory, user_resident__before_a_system_call__makes_it_work)
{
    UCHAR *const user = user_pattern(2, 3);
    const int zero = open("/dev/zero", O_RDONLY);

    EXPECT_EQ(pinion_trim(), 2);
    EXPECT(read(zero, user + 10, PAGE_SIZE) < 0 && errno == EFAULT);
    pinion_user_resident(user + 10, PAGE_SIZE);
    EXPECT(MmIsAddressValid(user) && MmIsAddressValid(user + PAGE_SIZE));
    EXPECT_EQ(read(zero, user + 10, PAGE_SIZE), PAGE_SIZE);
    EXPECT_PATTERN(user, 10, 3);
    EXPECT_EQ(user[10], 0);
    EXPECT_EQ(pinion_trim(), 2);
    close(zero);
    pinion_user_free(user);
}

/* ---- Processes ----------------------------------------------------------------------------------------- */

/* A thread's current process is the one that the machine booted with, until it attaches to another, and
   again after attaching to NULL. */
TEST(host_memory, process_attach__other_and_back__is_the_current_process)
{
    const PEPROCESS first = PsGetCurrentProcess(), other = pinion_process_create("other");

    EXPECT(other != NULL && other != first);
    EXPECT_PTR_EQ(PsGetCurrentProcess(), first);
    pinion_process_attach(other);
    EXPECT_PTR_EQ(PsGetCurrentProcess(), other);
    pinion_process_attach(NULL);
    EXPECT_PTR_EQ(PsGetCurrentProcess(), first);
    pinion_process_exit(other);
}

static void *current_process_on_thread(void *context HARNESS_UNUSED)
{
    return PsGetCurrentProcess();
}

/* Attaching concerns the calling thread alone. */
TEST(host_memory, process_attach__another_thread__is_not_concerned)
{
    const PEPROCESS first = PsGetCurrentProcess(), other = pinion_process_create("other");
    pthread_t thread;
    void *seen;

    pinion_process_attach(other);
    EXPECT_EQ(pthread_create(&thread, NULL, current_process_on_thread, NULL), 0);
    pthread_join(thread, &seen);
    EXPECT_PTR_EQ(seen, first);
    EXPECT_PTR_EQ(PsGetCurrentProcess(), other);
    pinion_process_attach(NULL);
    pinion_process_exit(other);
}

/* The end of a process frees its memory, so that processes can come and go for ever. */
TEST(host_memory, process_exit__many_processes__memory_is_given_back)
{
    boot("ram=16M");
    for (ULONG round = 0; round < 100; round++) {
        const PEPROCESS process = pinion_process_create("passing");

        EXPECT(process != NULL);
        pinion_process_attach(process);
        user_pattern(4, round);
        user_pages(2048, PAGE_READWRITE);
        pinion_process_attach(NULL);
        pinion_process_exit(process);
    }
}

static void exit_with_locked_pages(void *context)
{
    uint64_t *const words = context;

    boot(words[0] ? "verifier=on" : "verifier=off");
    const PEPROCESS process = pinion_process_create("careless");
    pinion_process_attach(process);
    words[2] = (uint64_t)(uintptr_t)locked_mdl(user_pages(3, PAGE_READWRITE) + 1, 2 * PAGE_SIZE);
    pinion_process_attach(NULL);
    words[1] = (uint64_t)(uintptr_t)process;
    pinion_process_exit(process);
}

/* Bug_checks-01 Bug_checks-02 Driver_Verifier_pool_tracking-01 MmProbeAndLockPages-11: a process that ends
   with locked pages stops with 0x76/0, the process and the number of pages, or, where locks are tracked,
   with 0xCB, the MDL and the number. */
TEST_UNTIDY(host_memory, process_exit__pages_still_locked__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < 2; words[0]++) {
        const struct stop stop = run_until_stop(exit_with_locked_pages, words);

        EXPECT(stop.stopped);
        EXPECT(stop.code == PROCESS_HAS_LOCKED_PAGES ||
               (words[0] && stop.code == DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS));
        if (stop.code == PROCESS_HAS_LOCKED_PAGES)
            EXPECT_EQ(stop.p[0], 0);
        EXPECT_EQ(stop.p[1], stop.code == PROCESS_HAS_LOCKED_PAGES ? words[1] : 0);
        EXPECT_EQ(stop.code == PROCESS_HAS_LOCKED_PAGES ? stop.p[2] : stop.p[3], 3);
        if (stop.code == DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS)
            EXPECT_EQ(stop.p[2], words[2]);
    }
}

/* ---- Counters ------------------------------------------------------------------------------------------ */

/* Each counter says what is alive: it grows with what is made and shrinks with what is undone. */
SILENT_TEST(host_memory, counters__things_made_and_undone__follow)
{
    UCHAR *const user = user_pages(8, PAGE_READWRITE);
    PMDL mdls[4];

    for (ULONG i = 0; i < 4; i++) {
        mdls[i] = locked_mdl(user + i * PAGE_SIZE, 2 * PAGE_SIZE);
        EXPECT(map_system(mdls[i]) != NULL);
        EXPECT_EQ(counters_now().live_mdls, i + 1);
        EXPECT_EQ(counters_now().locked_pages, 2 * (i + 1));
        EXPECT_EQ(counters_now().system_mappings, i + 1);
        EXPECT_EQ(counters_now().system_pages_mapped, 2 * (i + 1));
    }
    const PIRP irp = IoAllocateIrp(1, FALSE);
    EXPECT_EQ(counters_now().live_irps, 1);
    IoFreeIrp(irp);
    for (ULONG i = 4; i > 0; i--) {
        MmUnmapLockedPages(mdls[i - 1]->MappedSystemVa, mdls[i - 1]);
        EXPECT_EQ(counters_now().system_mappings, i - 1);
        EXPECT_EQ(counters_now().system_pages_mapped, 2 * (i - 1));
        unlock_and_free(mdls[i - 1]);
        EXPECT_EQ(counters_now().locked_pages, 2 * (i - 1));
        EXPECT_EQ(counters_now().live_mdls, i - 1);
    }
    EXPECT_EQ(counters_now().live_irps, 0);
    pinion_user_free(user);
}

/* The totals count what has happened since the boot, and never shrink. */
SILENT_TEST(host_memory, totals__things_made_and_undone__only_grow)
{
    UCHAR *const user = user_pages(4, PAGE_READWRITE);
    struct pinion_totals totals;

    for (ULONG round = 1; round <= 3; round++) {
        const PMDL mdl = locked_mdl(user, 4 * PAGE_SIZE), part = mdl_over(user, 4 * PAGE_SIZE);

        IoBuildPartialMdl(mdl, part, user, PAGE_SIZE);
        EXPECT(map_system(mdl) != NULL);
        IoFreeMdl(part);
        unlock_and_free(mdl);
        pinion_fail("IoAllocateMdl", 1);
        EXPECT(IoAllocateMdl(user, 1, FALSE, FALSE, NULL) == NULL);
        pinion_totals(&totals);
        EXPECT_EQ(totals.mdls_allocated, 2 * round);
        EXPECT_EQ(totals.partial_mdls_built, round);
        EXPECT_EQ(totals.pages_locked, 4 * round);
        EXPECT_EQ(totals.mappings_made, round);
        EXPECT_EQ(totals.injected_failures, round);
        EXPECT_EQ(totals.findings, 0);
    }
    pinion_user_free(user);
}

/* Without the verifier, locking, mapping and unlocking a buffer whose pages lie side by side in memory
   makes no system call. */
TEST(host_memory, host_calls__hot_path_without_verifier__makes_none)
{
    boot("verifier=off");
    UCHAR *const user = user_pattern(16, 3);
    const PMDL mdl = mdl_over(user, 16 * PAGE_SIZE);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    MmUnlockPages(mdl);
    const uint64_t before = counters_now().host_calls;
    for (ULONG round = 0; round < 50; round++) {
        MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
        EXPECT_EQ(((UCHAR *)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority))[PAGE_SIZE],
                  user[PAGE_SIZE]);
        MmUnlockPages(mdl);
    }
    EXPECT_EQ(counters_now().host_calls, before);
    IoFreeMdl(mdl);
}
