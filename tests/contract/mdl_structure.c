/* SPDX-License-Identifier: MIT */
/*
 * The MDL as drivers know it: its fields, its page numbers, its chain, where it may live, when it is valid, who cleans
 * it up with a request; and what shipping drivers do to it by hand, all of which must go in silence.
 */

#include "harness.h"
#include <wdm.h>

#include "io_stack.h"
#include "support.h"

#include <stddef.h>
#include <string.h>

enum { SEED = 71, PAGES = 8 };

/* ---- Fields ---------------------------------------------------------------------------------------------------- */

C_ASSERT(offsetof(MDL, Next) == 0 && sizeof(((PMDL)0)->Next) == 8);
C_ASSERT(offsetof(MDL, Size) == 8 && sizeof(((PMDL)0)->Size) == 2);
C_ASSERT(offsetof(MDL, MdlFlags) == 10 && sizeof(((PMDL)0)->MdlFlags) == 2);
C_ASSERT(offsetof(MDL, Process) == 16 && sizeof(((PMDL)0)->Process) == 8);
C_ASSERT(offsetof(MDL, MappedSystemVa) == 24 && sizeof(((PMDL)0)->MappedSystemVa) == 8);
C_ASSERT(offsetof(MDL, StartVa) == 32 && sizeof(((PMDL)0)->StartVa) == 8);
C_ASSERT(offsetof(MDL, ByteCount) == 40 && sizeof(((PMDL)0)->ByteCount) == 4);
C_ASSERT(offsetof(MDL, ByteOffset) == 44 && sizeof(((PMDL)0)->ByteOffset) == 4);
C_ASSERT(sizeof(MDL) == 48 && _Alignof(MDL) == 8);

/* MDL-01: the library fills those very places: an MDL looked at as bytes says what the macros say. */
TEST(mdl_structure, fields__seen_as_bytes__are_where_windows_has_them)
{
    UCHAR *const va = user_pattern(2, SEED);
    const PMDL mdl = locked_mdl(va + 100, PAGE_SIZE);
    const UCHAR *const bytes = (const UCHAR *)mdl;
    PVOID next, start, system;
    ULONG count, offset;
    USHORT size;

    UCHAR *const address = system_address(mdl);
    memcpy(&next, bytes, 8);
    memcpy(&size, bytes + 8, 2);
    memcpy(&system, bytes + 24, 8);
    memcpy(&start, bytes + 32, 8);
    memcpy(&count, bytes + 40, 4);
    memcpy(&offset, bytes + 44, 4);
    EXPECT_PTR_EQ(next, NULL);
    EXPECT_EQ(size, 48 + 2 * 8);
    EXPECT_PTR_EQ(system, address);
    EXPECT_PTR_EQ(start, va);
    EXPECT_EQ(count, PAGE_SIZE);
    EXPECT_EQ(offset, 100);
    EXPECT_PTR_EQ(mdl->Process, PsGetCurrentProcess());
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* MDL-02: the page numbers follow the header directly, eight bytes each, as many as the buffer touches pages. */
TEST(mdl_structure, page_numbers__lie_directly_behind_the_header)
{
    UCHAR *const va = user_pattern(PAGES, SEED);

    for (SIZE_T pages = 1; pages <= PAGES; pages++) {
        const PMDL mdl = locked_mdl(va, pages * PAGE_SIZE);
        const ULONG64 *const behind = (const ULONG64 *)((const UCHAR *)mdl + 48);

        EXPECT_PTR_EQ(MmGetMdlPfnArray(mdl), behind);
        EXPECT_EQ((USHORT)mdl->Size, 48 + 8 * pages);
        for (SIZE_T i = 0; i < pages; i++)
            EXPECT_EQ(behind[i], frame_of(va + i * PAGE_SIZE));
        unlock_and_free(mdl);
    }
    pinion_user_free(va);
}

/* Copy a buffer page by page, each through a mapping of that one page number. */
static void copy_by_pages(PMDL mdl, UCHAR *to)
{
    ULONG done = 0;

    for (SIZE_T i = 0; done < MmGetMdlByteCount(mdl); i++) {
        const PMDL page = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
        const ULONG offset = i == 0 ? MmGetMdlByteOffset(mdl) : 0;
        const ULONG here = min(PAGE_SIZE - offset, MmGetMdlByteCount(mdl) - done);

        MmGetMdlPfnArray(page)[0] = MmGetMdlPfnArray(mdl)[i];
        page->MdlFlags |= MDL_PAGES_LOCKED;
        UCHAR *const system = map_system(page);
        EXPECT(system != NULL);
        RtlCopyMemory(to + done, system + offset, here);
        MmUnmapLockedPages(system, page);
        IoFreeMdl(page);
        done += here;
    }
}

/* A buffer copied page by page is the buffer copied at once, from its own and from its system address. */
static void expect_copies_agree(BOOLEAN scattered)
{
    static UCHAR by_pages[PAGES * PAGE_SIZE];
    enum { AT = 123, BYTES = (PAGES - 1) * PAGE_SIZE + 3000 };
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va + AT, BYTES);
    SIZE_T jumps = 0;

    for (SIZE_T i = 1; i < mdl_pages(mdl); i++)
        jumps += MmGetMdlPfnArray(mdl)[i] != MmGetMdlPfnArray(mdl)[i - 1] + 1;
    EXPECT_EQ(jumps > 0, scattered);
    copy_by_pages(mdl, by_pages);
    EXPECT_MEM_EQ(by_pages, va + AT, BYTES);
    EXPECT_MEM_EQ(by_pages, system_address(mdl), BYTES);
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), va + AT);
    EXPECT_EQ(MmGetMdlByteCount(mdl), BYTES);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* MDL-05, MDL-03: the range is contiguous in virtual space, from StartVa + ByteOffset on, while its pages are scattered
   over memory. */
TEST(mdl_structure, range__scattered_pages__page_by_page_is_the_buffer)
{
    boot("layout=scattered");
    expect_copies_agree(TRUE);
}

/* MDL-05: the same on a machine whose pages follow each other. */
TEST(mdl_structure, range__pages_in_a_row__page_by_page_is_the_buffer)
{
    boot("layout=linear");
    expect_copies_agree(FALSE);
}

/* ---- Where an MDL lives ---------------------------------------------------------------------------------------- */

enum home { HOME_IO_MANAGER, HOME_POOL, HOME_STATIC, HOME_STACK, HOMES };

struct own_mdl {
    MDL mdl;
    PFN_NUMBER pages[PAGES];
};

static PMDL mdl_at_home(enum home home, struct own_mdl *on_stack, PVOID va, ULONG bytes)
{
    static struct own_mdl in_image;
    PMDL mdl = on_stack == NULL ? NULL : &on_stack->mdl;

    if (home == HOME_IO_MANAGER)
        return mdl_over(va, bytes);
    if (home == HOME_POOL)
        mdl = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(struct own_mdl), TEST_TAG);
    if (home == HOME_STATIC)
        mdl = &in_image.mdl;
    EXPECT(mdl != NULL);
    MmInitializeMdl(mdl, va, bytes);
    return mdl;
}

static void leave_home(enum home home, PMDL mdl)
{
    if (home == HOME_IO_MANAGER)
        IoFreeMdl(mdl);
    if (home == HOME_POOL)
        ExFreePoolWithTag(mdl, TEST_TAG);
}

/* Lock, map, split, advance, unmap, map into the process, unlock. */
static void use_locked(PMDL mdl, UCHAR *va, ULONG bytes)
{
    const PMDL part = mdl_over(va, bytes);

    EXPECT_STATUS(try_lock(mdl, UserMode, IoModifyAccess), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system_address(mdl), bytes, SEED, BYTE_OFFSET(va));
    IoBuildPartialMdl(mdl, part, va + PAGE_SIZE, PAGE_SIZE);
    EXPECT_PATTERN_AT(system_address(part), PAGE_SIZE, SEED, BYTE_OFFSET(va) + PAGE_SIZE);
    IoFreeMdl(part);
    EXPECT_STATUS(MmAdvanceMdl(mdl, PAGE_SIZE), STATUS_SUCCESS);
    EXPECT_PATTERN_AT(system_address(mdl), bytes - PAGE_SIZE, SEED, BYTE_OFFSET(va) + PAGE_SIZE);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    UCHAR *const user = map_user(mdl);
    EXPECT_PATTERN_AT(user, bytes - PAGE_SIZE, SEED, BYTE_OFFSET(va) + PAGE_SIZE);
    MmUnmapLockedPages(user, mdl);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
}

/* As the target of another MDL's part. */
static void use_as_part(PMDL mdl, UCHAR *va, ULONG bytes)
{
    const PMDL source = locked_mdl(va, bytes);

    IoBuildPartialMdl(source, mdl, va + 1, bytes - 1);
    EXPECT_PATTERN_AT(system_address(mdl), bytes - 1, SEED, BYTE_OFFSET(va) + 1);
    MmPrepareMdlForReuse(mdl);
    unlock_and_free(source);
}

/* For a buffer in nonpaged pool. */
static void use_nonpaged(PMDL mdl, UCHAR *block, ULONG bytes)
{
    MmInitializeMdl(mdl, block, bytes);
    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_PTR_EQ(system_address(mdl), block);
    EXPECT_EQ(MmGetMdlPfnArray(mdl)[1], frame_of(block + PAGE_SIZE));
    EXPECT_STATUS(MmAdvanceMdl(mdl, 1), STATUS_SUCCESS);
    EXPECT_PTR_EQ(system_address(mdl), block + 1);
}

/* MDL-06: an MDL of IoAllocateMdl and one that the driver formatted in memory of its own, pool, static or stack, are
   accepted alike by every routine, for one use after the other. */
SILENT_TEST(mdl_structure, home__of_io_allocate_mdl_or_the_drivers_own__is_all_the_same)
{
    enum { AT = 200, BYTES = (PAGES - 1) * PAGE_SIZE };
    UCHAR *const va = user_pattern(PAGES, SEED);
    UCHAR *const block = pool_pages(PAGES);
    struct own_mdl on_stack;

    for (enum home home = 0; home < HOMES; home++) {
        const PMDL mdl = mdl_at_home(home, &on_stack, va + AT, BYTES);

        use_locked(mdl, va + AT, BYTES);
        if (home != HOME_IO_MANAGER)
            MmInitializeMdl(mdl, va + AT, BYTES);
        use_as_part(mdl, va + AT, BYTES);
        use_nonpaged(mdl, block, 3 * PAGE_SIZE);
        leave_home(home, mdl);
    }
    ExFreePoolWithTag(block, TEST_TAG);
    pinion_user_free(va);
}

/* ---- The chain ------------------------------------------------------------------------------------------------- */

/* MDL-07: the last MDL has no next; a driver inserts MDLs by changing Next, at the head, between and at the end, and
   walks the chain by it. */
SILENT_TEST(mdl_structure, chain__linked_by_hand__is_walked_in_that_order)
{
    enum { COUNT = 5 };
    PMDL mdls[COUNT];

    for (SIZE_T i = 0; i < COUNT; i++) {
        mdls[i] = mdl_over(NULL, i + 1);
        EXPECT_PTR_EQ(mdls[i]->Next, NULL);
    }
    mdls[1]->Next = mdls[3];
    mdls[3]->Next = mdls[4];
    mdls[2]->Next = mdls[1]->Next;
    mdls[1]->Next = mdls[2];
    mdls[0]->Next = mdls[1];

    SIZE_T count = 0;
    for (PMDL mdl = mdls[0]; mdl != NULL; mdl = mdl->Next)
        EXPECT_EQ(MmGetMdlByteCount(mdl), ++count);
    EXPECT_EQ(count, COUNT);
    for (PMDL mdl = mdls[0], next; mdl != NULL; mdl = next) {
        next = mdl->Next;
        IoFreeMdl(mdl);
    }
}

/* MDL-07: locking, mapping, splitting, advancing and unlocking one MDL of a chain leaves the chain as it is. */
SILENT_TEST(mdl_structure, chain__each_mdl_used__stays_linked)
{
    enum { COUNT = 3 };
    UCHAR *const va = user_pattern(COUNT * 2, SEED);
    PMDL mdls[COUNT];

    for (SIZE_T i = 0; i < COUNT; i++)
        mdls[i] = mdl_over(va + i * 2 * PAGE_SIZE, 2 * PAGE_SIZE);
    for (SIZE_T i = 0; i + 1 < COUNT; i++)
        mdls[i]->Next = mdls[i + 1];
    for (SIZE_T i = 0; i < COUNT; i++) {
        EXPECT_STATUS(try_lock(mdls[i], UserMode, IoWriteAccess), STATUS_SUCCESS);
        EXPECT_PATTERN_AT(system_address(mdls[i]), 2 * PAGE_SIZE, SEED, i * 2 * PAGE_SIZE);
        EXPECT_STATUS(MmAdvanceMdl(mdls[i], PAGE_SIZE + 1), STATUS_SUCCESS);
        MmUnlockPages(mdls[i]);
        for (SIZE_T j = 0; j < COUNT; j++)
            EXPECT_PTR_EQ(mdls[j]->Next, j + 1 < COUNT ? mdls[j + 1] : NULL);
    }
    for (SIZE_T i = 0; i < COUNT; i++)
        IoFreeMdl(mdls[i]);
    pinion_user_free(va);
}

/* ---- When its page numbers are valid --------------------------------------------------------------------------- */

/* MDL-08: from lock to unlock the page numbers are those of the buffer, whatever the system would like to take away. */
TEST(mdl_structure, page_numbers__while_locked__stay_those_of_the_buffer)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va, PAGES * PAGE_SIZE);

    EXPECT_EQ(pinion_trim(), 0);
    for (SIZE_T i = 0; i < PAGES; i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[i], frame_of(va + i * PAGE_SIZE));
    MmUnlockPages(mdl);
    EXPECT_EQ(pinion_trim(), PAGES);
    EXPECT_PATTERN(va, PAGES * PAGE_SIZE, SEED);
    EXPECT_STATUS(try_lock(mdl, UserMode, IoReadAccess), STATUS_SUCCESS);
    for (SIZE_T i = 0; i < PAGES; i++)
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[i], frame_of(va + i * PAGE_SIZE));
    unlock_and_free(mdl);
    pinion_user_free(va);
}

static void map_after_unlock(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pattern(PAGES, SEED), PAGES * PAGE_SIZE);

    MmUnlockPages(mdl);
    words[0] = (uintptr_t)mdl;
    words[1] = mdl_flags(mdl);
    MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX);
}

/* MDL-08: after the unlock they are not valid any more: mapping by them stops. */
TEST_UNTIDY(mdl_structure, page_numbers__after_unlock__are_not_to_be_mapped)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(map_after_unlock, words, 0xC4, 0xB3);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
}

static void map_copy_after_unlock(void *context)
{
    uint64_t *const words = context;
    const PMDL mdl = locked_mdl(user_pattern(2, SEED), 2 * PAGE_SIZE);
    const PMDL copy = mdl_over(NULL, 2 * PAGE_SIZE);

    RtlCopyMemory(MmGetMdlPfnArray(copy), MmGetMdlPfnArray(mdl), 2 * sizeof(PFN_NUMBER));
    copy->MdlFlags |= MDL_PAGES_LOCKED;
    MmUnlockPages(mdl);
    words[0] = (uintptr_t)copy;
    words[1] = MmGetMdlPfnArray(copy)[0];
    map_system(copy);
}

/* MDL-08: nor are copies of them, though the flags of the copy say that its pages are locked: what counts is the
   pages. */
TEST_UNTIDY(mdl_structure, page_numbers__copied_and_then_unlocked__are_not_to_be_mapped)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(map_copy_after_unlock, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xC4);
    EXPECT(stop.p[0] == 0x85 || stop.p[0] == 0xB3);
    EXPECT_EQ(stop.p[1], words[0]);
}

/* ---- With a request -------------------------------------------------------------------------------------------- */

static UCHAR *attached_va;      /* memory that the driver locks and attaches */
static UCHAR *attached_block;   /* nonpaged pool that it attaches */

/* Attach, to a read that has an MDL, a locked MDL, one of nonpaged pool, and one linked by hand that was only
   allocated. */
static NTSTATUS attach_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const ULONG bytes = MmGetMdlByteCount(irp->MdlAddress);
    const PMDL locked = IoAllocateMdl(attached_va, 2 * PAGE_SIZE, TRUE, FALSE, irp);
    const PMDL nonpaged = IoAllocateMdl(attached_block, PAGE_SIZE, TRUE, FALSE, irp);

    EXPECT_STATUS(try_lock(locked, KernelMode, IoWriteAccess), STATUS_SUCCESS);
    system_address(locked)[0] = 1;
    MmBuildMdlForNonPagedPool(nonpaged);
    nonpaged->Next = mdl_over(NULL, PAGE_SIZE);
    EXPECT_EQ(counters_now().live_mdls, 4);
    EXPECT_EQ(counters_now().locked_pages, 3);
    return layer_complete(irp, STATUS_SUCCESS, bytes);
}

/* MDL-09: when a request is completed the system unlocks and frees every MDL of its chain, also those that a driver
   attached or linked in by hand; only those that hold a lock are unlocked (ruling 36). */
SILENT_TEST(mdl_structure, request__completed__all_mdls_of_its_chain_go)
{
    UCHAR *const buffer = user_pattern(1, SEED);
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = PAGE_SIZE};
    struct layer layer;
    PFILE_OBJECT file;

    attached_va = user_pattern(2, SEED);
    attached_block = pool_pages(1);
    layer_create(&layer, DO_DIRECT_IO, attach_and_complete);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    for (int again = 0; again < 3; again++) {
        EXPECT_STATUS(pinion_transfer(file, &request), STATUS_SUCCESS);
        EXPECT_EQ(request.information, PAGE_SIZE);
        EXPECT_EQ(counters_now().live_mdls, 0);
        EXPECT_EQ(counters_now().locked_pages, 0);
        EXPECT_EQ(counters_now().system_mappings, 0);
    }
    pinion_close(file);
    layer_destroy(&layer);
    ExFreePoolWithTag(attached_block, TEST_TAG);
    pinion_user_free(attached_va);
    pinion_user_free(buffer);
}

static NTSTATUS keep_irp(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A request that a driver makes of an IRP and an MDL of its own, and gets back. */
static PIRP own_request(UCHAR *buffer)
{
    struct layer layer;
    PIRP irp;

    layer_create(&layer, DO_DIRECT_IO, complete_with_success);
    irp = IoAllocateIrp(layer.device->StackSize, FALSE);
    irp->MdlAddress = locked_mdl(buffer, PAGE_SIZE);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_WRITE;
    IoGetNextIrpStackLocation(irp)->Parameters.Write.Length = PAGE_SIZE;
    IoSetCompletionRoutine(irp, keep_irp, NULL, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_SUCCESS);
    layer_destroy(&layer);
    return irp;
}

/* MDL-10: a driver that makes a request of its own cleans up the IRP and its MDLs itself, and then nothing is left. */
SILENT_TEST(mdl_structure, own_request__cleaned_up_by_its_driver__leaves_nothing)
{
    UCHAR *const buffer = user_pattern(1, SEED);
    const PIRP irp = own_request(buffer);

    EXPECT_EQ(counters_now().locked_pages, 1);
    unlock_and_free(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    pinion_user_free(buffer);
}

static void forget_the_mdl(HARNESS_UNUSED void *context)
{
    const PIRP irp = own_request(user_pattern(1, SEED));

    MmUnlockPages(irp->MdlAddress);
    IoFreeIrp(irp);
}

/* MDL-10: what it forgets is a leak: nobody else frees the MDL of its IRP. */
TEST_UNTIDY(mdl_structure, own_request__mdl_forgotten__is_a_leak)
{
    const struct stop stop = run_until_stop(forget_the_mdl, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "mdl-leak"), 1);
}

/* ---- By hand --------------------------------------------------------------------------------------------------- */

/* MDL-04: the two flags that a driver may set, MDL_MAPPING_CAN_FAIL and MDL_PAGES_LOCKED, and those that real ones do
   set besides, go unremarked. */
SILENT_TEST(mdl_structure, flags__set_by_hand__go_unremarked)
{
    static const CSHORT flags[] = {MDL_MAPPING_CAN_FAIL, MDL_PAGES_LOCKED, MDL_NETWORK_HEADER, MDL_IO_PAGE_READ};
    UCHAR *const va = user_pattern(2, SEED);

    for (SIZE_T i = 0; i < ARRAYSIZE(flags); i++) {
        const PMDL mdl = locked_mdl(va, 2 * PAGE_SIZE);

        mdl->MdlFlags |= flags[i];
        EXPECT_PATTERN(system_address(mdl), 2 * PAGE_SIZE, SEED);
        EXPECT_EQ(mdl->MdlFlags & flags[i], flags[i]);
        unlock_and_free(mdl);
    }
    pinion_user_free(va);
}

static void use_with_another_start(PVOID start)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va + 30, (PAGES - 1) * PAGE_SIZE);

    mdl->StartVa = start;
    EXPECT_PATTERN_AT(system_address(mdl), (PAGES - 1) * PAGE_SIZE, SEED, 30);
    EXPECT_EQ(pinion_trim(), 0);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), PAGES);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* MDL-04: StartVa changed by hand on a locked MDL changes neither what is mapped, for a mapping goes by the page
   numbers, nor what is unlocked. */
SILENT_TEST(mdl_structure, start__changed_by_hand_while_locked__lock_and_pages_stay)
{
    UCHAR *const other = user_pattern(PAGES, SEED + 1);

    pinion_trim();
    use_with_another_start(NULL);
    use_with_another_start((PVOID)(ULONG_PTR)0x123456000);
    use_with_another_start(other);
    pinion_user_free(other);
}

/* The same without the verifier. */
TEST(mdl_structure, start__changed_by_hand_without_the_verifier__lock_and_pages_stay)
{
    boot("verifier=off");
    use_with_another_start(NULL);
    use_with_another_start((PVOID)(ULONG_PTR)0x123456000);
}

/* MDL-04: ByteCount and ByteOffset narrowed by hand for a while, and put back, leave lock and mapping whole. */
SILENT_TEST(mdl_structure, length__narrowed_by_hand_and_restored__lock_stays_whole)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va, PAGES * PAGE_SIZE);

    mdl->ByteOffset = 77;
    mdl->ByteCount = 2 * PAGE_SIZE;
    EXPECT_PATTERN_AT(system_address(mdl), 2 * PAGE_SIZE, SEED, 77);
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    EXPECT_EQ(counters_now().locked_pages, PAGES);
    mdl->ByteOffset = 0;
    mdl->ByteCount = PAGES * PAGE_SIZE;
    EXPECT_PATTERN(system_address(mdl), PAGES * PAGE_SIZE, SEED);
    unlock_and_free(mdl);
    EXPECT_EQ(pinion_trim(), PAGES);
    pinion_user_free(va);
}

/* MDL-04: a packet's length written into ByteCount, no page less, needs no restoring. */
SILENT_TEST(mdl_structure, length__shortened_by_hand_within_the_last_page__all_is_unlocked)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va, PAGES * PAGE_SIZE);

    EXPECT_PATTERN(system_address(mdl), PAGES * PAGE_SIZE, SEED);
    mdl->ByteCount -= 1000;
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(pinion_trim(), PAGES);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* MDL-04: an MDL that holds nothing is turned by hand to another buffer, and locked there. */
SILENT_TEST(mdl_structure, range__set_by_hand_before_a_lock__is_what_is_locked)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = IoAllocateMdl(NULL, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);

    for (SIZE_T at = 0; at < 3 * PAGE_SIZE; at += 1111) {
        mdl->StartVa = PAGE_ALIGN(va + at);
        mdl->ByteOffset = BYTE_OFFSET(va + at);
        mdl->ByteCount = 4 * PAGE_SIZE;
        EXPECT_STATUS(try_lock(mdl, UserMode, IoWriteAccess), STATUS_SUCCESS);
        EXPECT_EQ(counters_now().locked_pages, mdl_pages(mdl));
        EXPECT_PATTERN_AT(system_address(mdl), 4 * PAGE_SIZE, SEED, at);
        MmUnlockPages(mdl);
    }
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* An MDL of the driver's making with these page numbers, StartVa NULL. */
static PMDL mdl_of_pages(const PFN_NUMBER *pages, SIZE_T count)
{
    const PMDL mdl = IoAllocateMdl(NULL, (ULONG)(count * PAGE_SIZE), FALSE, FALSE, NULL);

    EXPECT(mdl != NULL);
    RtlCopyMemory(MmGetMdlPfnArray(mdl), pages, count * sizeof(PFN_NUMBER));
    mdl->MdlFlags |= MDL_PAGES_LOCKED;
    return mdl;
}

static void unmap_and_free(PMDL mdl)
{
    MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    IoFreeMdl(mdl);
}

/* MDL-05: one page number through the whole array, StartVa NULL: the same page, over and over. */
SILENT_TEST(mdl_structure, page_numbers__one_replicated__shows_the_same_page_everywhere)
{
    UCHAR *const va = user_pattern(1, SEED);
    const PMDL locked = locked_mdl(va, PAGE_SIZE);
    PFN_NUMBER pages[PAGES];

    for (SIZE_T i = 0; i < PAGES; i++)
        pages[i] = MmGetMdlPfnArray(locked)[0];
    const PMDL dummy = mdl_of_pages(pages, PAGES);
    UCHAR *const system = system_address(dummy);
    for (SIZE_T i = 0; i < PAGES; i++)
        EXPECT_PATTERN(system + i * PAGE_SIZE, PAGE_SIZE, SEED);
    system[3 * PAGE_SIZE + 5] = 0xEE;
    for (SIZE_T i = 0; i < PAGES; i++)
        EXPECT_EQ(system[i * PAGE_SIZE + 5], 0xEE);
    EXPECT_EQ(va[5], 0xEE);
    unmap_and_free(dummy);
    unlock_and_free(locked);
    pinion_user_free(va);
}

/* MDL-05: page numbers dealt out from one MDL to several, as a RAID driver stripes a buffer over its disks: each shows
   its pages in its order. */
SILENT_TEST(mdl_structure, page_numbers__dealt_out_to_other_mdls__show_their_pages)
{
    enum { DISKS = 3, EACH = 4 };
    UCHAR *const va = user_pattern(DISKS * EACH, SEED);
    const PMDL locked = locked_mdl(va, DISKS * EACH * PAGE_SIZE);

    for (SIZE_T disk = 0; disk < DISKS; disk++) {
        PFN_NUMBER pages[EACH];

        for (SIZE_T i = 0; i < EACH; i++)
            pages[i] = MmGetMdlPfnArray(locked)[i * DISKS + disk];
        const PMDL stripe = mdl_of_pages(pages, EACH);
        UCHAR *const system = map_system(stripe);
        EXPECT(system != NULL);
        for (SIZE_T i = 0; i < EACH; i++)
            EXPECT_PATTERN_AT(system + i * PAGE_SIZE, PAGE_SIZE, SEED, (i * DISKS + disk) * PAGE_SIZE);
        unmap_and_free(stripe);
    }
    EXPECT_EQ(counters_now().locked_pages, DISKS * EACH);
    unlock_and_free(locked);
    pinion_user_free(va);
}

/* A ring over these page numbers: mapped twice in a row, so that what runs over its end is at its start. */
static void expect_ring(const PFN_NUMBER *pages, UCHAR *data)
{
    enum { RING = 4, RING_BYTES = RING * PAGE_SIZE, RECORD = 1000 };
    PFN_NUMBER twice[2 * RING];

    RtlCopyMemory(twice, pages, RING * sizeof(PFN_NUMBER));
    RtlCopyMemory(twice + RING, pages, RING * sizeof(PFN_NUMBER));
    const PMDL ring = mdl_of_pages(twice, 2 * RING);
    UCHAR *const system = system_address(ring);
    EXPECT(system != NULL);
    fill_pattern(system + RING_BYTES - 300, RECORD, SEED);
    EXPECT_PATTERN(data + RING_BYTES - 300, 300, SEED);
    EXPECT_PATTERN_AT(data, RECORD - 300, SEED, 300);
    fill_pattern(data, RING_BYTES, SEED + 1);
    EXPECT_PATTERN(system, RING_BYTES, SEED + 1);
    EXPECT_PATTERN(system + RING_BYTES, RING_BYTES, SEED + 1);
    unmap_and_free(ring);
}

/* MDL-05: a data area mapped twice in a row by one MDL, of locked memory or of nonpaged pool: a ring that wraps. */
SILENT_TEST(mdl_structure, page_numbers__twice_in_a_row__make_a_ring_that_wraps)
{
    UCHAR *const va = user_pattern(4, SEED);
    const PMDL locked = locked_mdl(va, 4 * PAGE_SIZE);
    UCHAR *const block = pool_pages(4);
    const PMDL nonpaged = mdl_over(block, 4 * PAGE_SIZE);

    MmBuildMdlForNonPagedPool(nonpaged);
    expect_ring(MmGetMdlPfnArray(locked), va);
    expect_ring(MmGetMdlPfnArray(nonpaged), block);
    IoFreeMdl(nonpaged);
    ExFreePoolWithTag(block, TEST_TAG);
    unlock_and_free(locked);
    pinion_user_free(va);
}

/* The same ring without the verifier. */
TEST(mdl_structure, page_numbers__twice_in_a_row_without_the_verifier__make_a_ring_that_wraps)
{
    boot("verifier=off");
    UCHAR *const va = user_pattern(4, SEED);
    const PMDL locked = locked_mdl(va, 4 * PAGE_SIZE);

    expect_ring(MmGetMdlPfnArray(locked), va);
    unlock_and_free(locked);
    pinion_user_free(va);
}

/* MDL-08: a buffer may be locked by two MDLs at once; the pages stay until both are unlocked, in either order. */
SILENT_TEST(mdl_structure, lock__by_two_mdls__pages_stay_until_both_are_unlocked)
{
    UCHAR *const va = user_pattern(PAGES, SEED);

    for (int order = 0; order < 2; order++) {
        const PMDL mdls[2] = {locked_mdl(va, PAGES * PAGE_SIZE), locked_mdl(va + 9, PAGE_SIZE)};

        EXPECT_EQ(counters_now().locked_pages, PAGES + 2);
        EXPECT_EQ(MmGetMdlPfnArray(mdls[0])[1], MmGetMdlPfnArray(mdls[1])[1]);
        unlock_and_free(mdls[order]);
        EXPECT_EQ(pinion_trim(), order == 0 ? PAGES - 2 : 0);
        EXPECT_PATTERN(va, PAGES * PAGE_SIZE, SEED);
        unlock_and_free(mdls[1 - order]);
        EXPECT_EQ(pinion_trim(), PAGES);
        EXPECT_PATTERN(va, PAGES * PAGE_SIZE, SEED);
    }
    pinion_user_free(va);
}

/* MDL-08: unlocking unmaps a mapped MDL by itself; no call for that is needed before. */
SILENT_TEST(mdl_structure, unlock__mapped__unmaps_too)
{
    UCHAR *const va = user_pattern(PAGES, SEED);
    const PMDL mdl = locked_mdl(va, PAGES * PAGE_SIZE);

    system_address(mdl);
    MmUnlockPages(mdl);
    EXPECT_EQ(counters_now().system_mappings, 0);
    EXPECT_EQ(mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PAGES_LOCKED), 0);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}
