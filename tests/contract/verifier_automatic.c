/* SPDX-License-Identifier: MIT */
/*
 * What the verifier checks of itself: executable protections under code-integrity checking, memory that a
 * driver leaves behind when it is unloaded, and that legal sequences of calls give it nothing to say.
 */

#include "harness.h"

#include <wdm.h>
#include <pinion/pinion.h>

#include "pages.h"

/* ---- Code integrity ----------------------------------------------------------------------------------- */

/* Each of these asks for an executable protection, in its own way. */
static PVOID node_memory_executable(void)
{
    return MmAllocateContiguousNodeMemory(PAGE_SIZE, phys(0), phys(EVERYWHERE), phys(0),
                                          PAGE_EXECUTE_READWRITE, MM_ANY_NODE_OK);
}

static PVOID io_space_executable(void)
{
    return MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_EXECUTE_READWRITE);
}

static PVOID protect_executable(void)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    system_address(mdl);
    MmProtectMdlSystemAddress(mdl, PAGE_EXECUTE_READWRITE);
    return mdl;
}

static VOID nothing(PVOID context HARNESS_UNUSED, PVOID va HARNESS_UNUSED)
{
}

static PVOID map_mdl_executable(void)
{
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    MmMapMdl(mdl, PAGE_EXECUTE_READWRITE, nothing, NULL);
    return mdl;
}

static PVOID (*const executable[])(void) = {node_memory_executable, io_space_executable, protect_executable,
                                            map_mdl_executable};

static void ask_for_executable(void *words)
{
    boot("verifier=0x02000000");
    executable[*(uint64_t *)words]();
}

/* Driver_Verifier_code_integrity-02: with code-integrity checking, each routine that is asked for an
   executable page protection stops with 0xC4/0x2001, the caller's address and the protection. */
TEST_UNTIDY(verifier_code_integrity, protection__executable__stops)
{
    uint64_t *const words = shared_words();

    for (words[0] = 0; words[0] < ARRAYSIZE(executable); words[0]++) {
        const struct stop stop = run_until_stop(ask_for_executable, words);

        if (!stop.stopped)
            harness_fail(HARNESS_HERE, "routine %llu lets PAGE_EXECUTE_READWRITE pass",
                         (unsigned long long)words[0]);
        EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
        EXPECT_EQ(stop.p[0], 0x2001);
        EXPECT_NE(stop.p[1], 0);
        EXPECT_EQ(stop.p[2], PAGE_EXECUTE_READWRITE);
    }
}

static void map_executable(void *words)
{
    const PMDL mdl = (boot("verifier=0x02000000"), locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE));

    MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, *(ULONG *)words);
}

/* Driver_Verifier_code_integrity-01: with it, an executable mapping stops with 0xC4/0x2002, the caller's
   address and the priority with its mapping bits. */
TEST_UNTIDY(verifier_code_integrity, mapping__executable__stops)
{
    static const ULONG priorities[] = {LowPagePriority, NormalPagePriority,
                                       HighPagePriority | MdlMappingNoWrite};
    ULONG *const priority = (ULONG *)shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(priorities); i++) {
        *priority = priorities[i];
        const struct stop stop =
            expect_stop(map_executable, priority, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x2002);

        EXPECT_NE(stop.p[1], 0);
        EXPECT_EQ(stop.p[2], priorities[i]);
    }
}

/* Driver_Verifier_code_integrity-01 Driver_Verifier_code_integrity-02: what is not executable passes:
   mappings with MdlMappingNoExecute, NonPagedPoolNx, paged pool, read-write protections. */
TEST(verifier_code_integrity, everything__not_executable__passes)
{
    boot("verifier=0x02000000");
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const pool = pool_pages(1);
    UCHAR *const paged = ExAllocatePool2(POOL_FLAG_PAGED, 100, TEST_TAG);
    UCHAR *const io = MmMapIoSpaceEx(phys(DEVICE_AT), PAGE_SIZE, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    EXPECT(system_address(mdl) != NULL && io != NULL && paged != NULL);
    EXPECT_STATUS(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
    MmUnmapIoSpace(io, PAGE_SIZE);
    ExFreePool(pool);
    ExFreePool(paged);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* Driver_Verifier_code_integrity-01: MmGetSystemAddressForMdl cannot ask for a mapping that is not
   executable, and is not reported. */
TEST(verifier_code_integrity, mapping__by_a_routine_that_cannot_ask__passes)
{
    boot("verifier=0x02000000");
    UCHAR *const user = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(user, PAGE_SIZE);

    EXPECT(MmGetSystemAddressForMdl(mdl) != NULL);
    unlock_and_free(mdl);
    pinion_user_free(user);
}

/* ---- Pool tracking ------------------------------------------------------------------------------------ */

/* How many blocks and MDLs the next driver to be loaded leaves behind, and what it got. */
static ULONG blocks_to_leave, mdls_to_leave;
static PVOID held[16];

static NTSTATUS entry_that_allocates(PDRIVER_OBJECT driver HARNESS_UNUSED, void *registry_path HARNESS_UNUSED)
{
    for (ULONG i = 0; i < blocks_to_leave; i++)
        held[i] = ExAllocatePool2(i % 2 ? POOL_FLAG_PAGED : POOL_FLAG_NON_PAGED, 100 * (i + 1), TEST_TAG);
    for (ULONG i = 0; i < mdls_to_leave; i++)
        mdl_over(NULL, PAGE_SIZE);
    return STATUS_SUCCESS;
}

static VOID free_what_is_held(PDRIVER_OBJECT driver HARNESS_UNUSED)
{
    for (ULONG i = 0; i < blocks_to_leave; i++)
        ExFreePool(held[i]);
}

static NTSTATUS entry_that_frees_at_unload(PDRIVER_OBJECT driver, void *registry_path)
{
    driver->DriverUnload = free_what_is_held;
    return entry_that_allocates(driver, registry_path);
}

static NTSTATUS entry_that_does_nothing(PDRIVER_OBJECT driver HARNESS_UNUSED,
                                        void *registry_path HARNESS_UNUSED)
{
    return STATUS_SUCCESS;
}

static PDRIVER_OBJECT load(const char *name, pinion_driver_entry *entry)
{
    PDRIVER_OBJECT driver = NULL;

    EXPECT_STATUS(pinion_driver_load(name, entry, &driver), STATUS_SUCCESS);
    return driver;
}

struct leak {
    uint64_t flags, blocks, mdls;
};

static void unload_a_leaking_driver(void *context)
{
    const struct leak *const leak = context;

    boot(leak->flags ? "verifier=0x8" : "verifier=on");
    blocks_to_leave = (ULONG)leak->blocks;
    mdls_to_leave = (ULONG)leak->mdls;
    pinion_driver_unload(load("leaks", entry_that_allocates));
}

/* Driver_Verifier_pool_tracking-02: memory that a driver has not freed when it is unloaded, pool of either
   kind and MDLs, stops with 0xC4/0x62, a name and how many there are; the flag of pool tracking alone
   suffices. */
TEST_UNTIDY(verifier_pool_tracking, unload__memory_left_behind__stops)
{
    static const struct leak leaks[] = {{0, 1, 0}, {0, 5, 0}, {0, 0, 2}, {0, 3, 1}, {1, 4, 0}};
    struct leak *const leak = (struct leak *)shared_words();

    for (SIZE_T i = 0; i < ARRAYSIZE(leaks); i++) {
        *leak = leaks[i];
        const struct stop stop =
            expect_stop(unload_a_leaking_driver, leak, DRIVER_VERIFIER_DETECTED_VIOLATION, 0x62);

        EXPECT_NE(stop.p[1], 0);
        EXPECT_EQ(stop.p[3], leak->blocks + leak->mdls);
    }
}

/* Driver_Verifier_pool_tracking-02: a driver that frees what it has in its unload routine is silent. */
SILENT_TEST(verifier_pool_tracking, unload__everything_freed__is_silent)
{
    blocks_to_leave = 6;
    pinion_driver_unload(load("tidy", entry_that_frees_at_unload));
}

/* Driver_Verifier_pool_tracking-02: what another driver or the host program has is no concern of a driver
   that is unloaded. */
SILENT_TEST(verifier_pool_tracking, unload__memory_of_others__is_silent)
{
    UCHAR *const pool = pool_pages(1);
    const PMDL mdl = mdl_over(pool, PAGE_SIZE);

    blocks_to_leave = 3;
    const PDRIVER_OBJECT holder = load("holder", entry_that_frees_at_unload);
    const PDRIVER_OBJECT innocent = load("innocent", entry_that_does_nothing);
    pinion_driver_unload(innocent);
    pinion_driver_unload(holder);
    IoFreeMdl(mdl);
    ExFreePool(pool);
}

/* ---- Legal sequences ---------------------------------------------------------------------------------- */

/* Driver_Verifier_automatic_MDL_checks-01 Driver_Verifier_automatic_MDL_checks-02
   Driver_Verifier_automatic_MDL_checks-03 Driver_Verifier_automatic_MDL_checks-04: each call that is
   stopped in the wrong state is silent in the right one: lock, map, part, unmap, unlock, and all over
   again on the same MDLs. */
SILENT_TEST(verifier_automatic, mdl_calls__in_the_right_order__are_silent)
{
    UCHAR *const user = user_pattern(4, 1), *const pool = pool_pages(2);
    const PMDL mdl = mdl_over(user, 4 * PAGE_SIZE), part = mdl_over(NULL, 2 * PAGE_SIZE),
               nonpaged = mdl_over(pool, 2 * PAGE_SIZE);

    for (ULONG round = 0; round < 3; round++) {
        MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
        IoBuildPartialMdl(mdl, part, user + 100, PAGE_SIZE);
        UCHAR *const seen = system_address(part);
        EXPECT_PATTERN_AT(seen, PAGE_SIZE, 1, 100);
        MmUnmapLockedPages(seen, part);
        UCHAR *const system = map_system(mdl);
        MmUnmapLockedPages(system, mdl);
        EXPECT(map_system(mdl) != NULL);
        MmUnlockPages(mdl);
        MmBuildMdlForNonPagedPool(nonpaged);
        EXPECT_PTR_EQ(system_address(nonpaged), pool);
    }
    IoFreeMdl(part);
    IoFreeMdl(nonpaged);
    IoFreeMdl(mdl);
    ExFreePool(pool);
    pinion_user_free(user);
}

/* Automatic checks are the verifier's: without it, the same mistakes end in another way or in none, and
   never in 0xC4. */
static void map_twice_without(void *context HARNESS_UNUSED)
{
    boot("verifier=off");
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    map_system(mdl);
    map_system(mdl);
}

static void unmap_unmapped_without(void *context HARNESS_UNUSED)
{
    boot("verifier=off");
    const PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);
    UCHAR *const system = map_system(mdl);

    MmUnmapLockedPages(system, mdl);
    MmUnmapLockedPages(system, mdl);
}

/* Driver_Verifier_automatic_MDL_checks-02 Driver_Verifier_automatic_MDL_checks-04: 0xC4 is the verifier's
   alone. */
TEST_UNTIDY(verifier_automatic, mistakes__verifier_off__are_no_verifier_stop)
{
    static void (*const bodies[])(void *) = {map_twice_without, unmap_unmapped_without};

    for (SIZE_T i = 0; i < ARRAYSIZE(bodies); i++) {
        const struct stop stop = run_until_stop(bodies[i], NULL);

        EXPECT(stop.stopped || stop.exit_status == 0);
        EXPECT(!stop.stopped || stop.code != DRIVER_VERIFIER_DETECTED_VIOLATION);
    }
}
