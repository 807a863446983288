/* SPDX-License-Identifier: MIT */
/*
 * The twins of the rules that follow an MDL back to where its pages come from, and the habits of drivers that these rules must
 * not mistake for mistakes.
 */

#include "rules.h"

#include "../contract/io_stack.h"

/* The same pages locked a second time: what a partial MDL describes stays in memory, whatever becomes of its source. */
static PMDL second_lock(UCHAR *va)
{
    return locked_mdl(va, LENGTH);
}

/* ---- partial MDLs and their sources ----------------------------------------------------------------------------- */

RULE_BAD(PARTIAL_OUTLIVES_SOURCE)
{
    UCHAR *va = user_buffer();
    PMDL other = second_lock(va), source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmUnlockPages(source);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    IoFreeMdl(source);
    free_all(other, va);
}

RULE_GOOD(PARTIAL_OUTLIVES_SOURCE)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    MmUnlockPages(source);
    IoFreeMdl(source);
    pinion_user_free(va);
}

RULE_BAD(PARTIAL_OUTLIVES_MAPPING)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part;
    PVOID mapped = MmGetSystemAddressForMdlSafe(source, NORMAL_NX);

    part = part_of(source, va, PAGE_SIZE);
    MmUnmapLockedPages(mapped, source);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);          /* an address that nothing is mapped at */
    IoFreeMdl(part);
    free_all(source, va);
}

RULE_GOOD(PARTIAL_OUTLIVES_MAPPING)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part;
    PVOID mapped = MmGetSystemAddressForMdlSafe(source, NORMAL_NX);

    part = part_of(source, va, PAGE_SIZE);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    MmUnmapLockedPages(mapped, source);
    free_all(source, va);
}

RULE_BAD(PARTIAL_PASSED_BY_ADVANCE)
{
    UCHAR *va = user_buffer();
    PMDL other = second_lock(va), source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmAdvanceMdl(source, PAGE_SIZE);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    unlock_and_free(source);
    free_all(other, va);
}

RULE_GOOD(PARTIAL_PASSED_BY_ADVANCE)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    MmPrepareMdlForReuse(part);
    MmAdvanceMdl(source, PAGE_SIZE);
    IoBuildPartialMdl(source, part, va + PAGE_SIZE, PAGE_SIZE);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    free_all(source, va);
}

/* One that shares the mapping of its source has an address already; it is used all the same. */
WARN_TEST(mistakes, partial_that_shares_the_mapping__passed_by_advance__warns, "partial-passed-by-advance")
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part;

    MmGetSystemAddressForMdlSafe(source, NORMAL_NX);
    part = part_of(source, va, PAGE_SIZE);
    MmAdvanceMdl(source, PAGE_SIZE);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
    IoFreeMdl(part);
    free_all(source, va);
}

/* A partial MDL that is kept for the next request is not held against anybody while nobody uses it. */
SILENT_TEST(habits, partial_kept_for_the_next_source__is_silent)
{
    UCHAR *va = user_buffer();
    PMDL first = locked_mdl(va, LENGTH), part = part_of(first, va, PAGE_SIZE);
    PMDL second;

    unlock_and_free(first);
    second = locked_mdl(va, LENGTH);
    IoBuildPartialMdl(second, part, va, PAGE_SIZE);
    system_address(part);
    IoFreeMdl(part);
    free_all(second, va);
}

/* A partial of a partial lives on the same lock. */
SILENT_TEST(habits, partial_of_a_partial_that_is_freed_first__is_silent)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, LENGTH), inner = part_of(part, va + 100, 100);

    IoFreeMdl(part);
    system_address(inner);
    IoFreeMdl(inner);
    free_all(source, va);
}

/* The same, when the lock is gone: the inner one is told of. */
WARN_TEST(habits, partial_of_a_partial__after_the_source_is_unlocked__warns, "partial-outlives-source")
{
    UCHAR *va = user_buffer();
    PMDL other = second_lock(va), source = locked_mdl(va, LENGTH), part = part_of(source, va, LENGTH);
    PMDL inner = part_of(part, va + 100, 100);

    unlock_and_free(source);
    system_address(inner);
    IoFreeMdl(inner);
    IoFreeMdl(part);
    free_all(other, va);
}

/* Another MDL at the address of the source, and locked as well, is another source. */
WARN_TEST(habits, partial__of_a_source_that_was_locked_anew__warns, "partial-outlives-source")
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), part = part_of(source, va, PAGE_SIZE);

    MmUnlockPages(source);
    MmProbeAndLockPages(source, UserMode, IoWriteAccess);
    system_address(part);
    IoFreeMdl(part);
    free_all(source, va);
}

static void part_from_mapped_address(void *context)
{
    UCHAR *va = user_buffer();
    PMDL source = locked_mdl(va, LENGTH), target = mdl_over(va, LENGTH);

    UNREFERENCED_PARAMETER(context);
    IoBuildPartialMdl(source, target, system_address(source) + 100, 50);
}

/* The report on a mapped address says which MDL is mapped there, and which address is meant. */
TEST_UNTIDY(reports, mapped_address_for_a_partial__names_its_mdl)
{
    const struct stop stop = run_until_stop(part_from_mapped_address, NULL);

    EXPECT_EQ(stop.code, INVALID_MDL_RANGE);
    EXPECT(strstr(stop.stderr_text, "is where MDL 0x") != NULL);
    EXPECT(strstr(stop.stderr_text, "is mapped, 100 bytes into it") != NULL);
}

/* ---- fields that drivers write ---------------------------------------------------------------------------------- */

RULE_BAD(CHANGED_WHILE_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    mdl->ByteCount = 100;                                   /* as much as there is of this packet */
    MmUnlockPages(mdl);                                     /* the second page stays locked */
    IoFreeMdl(mdl);
}

RULE_GOOD(CHANGED_WHILE_LOCKED)
{
    UCHAR *va = user_buffer();
    PMDL mdl = locked_mdl(va, LENGTH);

    mdl->ByteCount = 100;                                   /* as much as there is of this packet */
    mdl->ByteCount = LENGTH;
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

RULE_BAD(BUILD_PAST_BLOCK)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, PAGE_SIZE, TEST_TAG);
    PMDL mdl = IoAllocateMdl(block, PAGE_SIZE + 1, FALSE, FALSE, NULL);

    MmBuildMdlForNonPagedPool(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

RULE_GOOD(BUILD_PAST_BLOCK)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 100, TEST_TAG);
    PMDL mdl = IoAllocateMdl(block, PAGE_SIZE - BYTE_OFFSET(block), FALSE, FALSE, NULL);    /* to the end of its page: a habit */

    MmBuildMdlForNonPagedPool(mdl);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(block, TEST_TAG);
}

/* ---- chains ----------------------------------------------------------------------------------------------------- */

RULE_BAD(CHAIN_LEAK)
{
    PMDL head = mdl_over(NULL, PAGE_SIZE), tail = mdl_over(NULL, PAGE_SIZE);

    head->Next = tail;
    IoFreeMdl(head);
}

RULE_GOOD(CHAIN_LEAK)
{
    PMDL head = mdl_over(NULL, PAGE_SIZE), tail = mdl_over(NULL, PAGE_SIZE), mdl, next;

    head->Next = tail;
    for (mdl = head; mdl != NULL; mdl = next) {
        next = mdl->Next;
        IoFreeMdl(mdl);
    }
}

static void free_head_of_three(void *context)
{
    PMDL mdls[3];

    UNREFERENCED_PARAMETER(context);
    for (int i = 0; i < 3; i++)
        mdls[i] = mdl_over(NULL, PAGE_SIZE);
    mdls[0]->Next = mdls[1];
    mdls[1]->Next = mdls[2];
    IoFreeMdl(mdls[0]);
}

/* Each MDL behind the head is told of in the same way. */
TEST_UNTIDY(reports, chain_of_three__freed_by_its_head__tells_of_both_others)
{
    const struct stop end = run_until_stop(free_head_of_three, NULL);

    EXPECT_EQ(stop_warnings(&end, "mdl-chain-leak"), 2);
    EXPECT_EQ(stop_warnings(&end, NULL), 2);
}

/* ---- requests --------------------------------------------------------------------------------------------------- */

static struct layer disk;
static PMDL of_request;

static NTSTATUS complete_then_look(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    of_request = irp->MdlAddress;
    irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    PARAMETERS(p(of_request), 0);
    MmGetSystemAddressForMdlSafe(of_request, NORMAL_NX);
    return STATUS_SUCCESS;
}

static NTSTATUS look_then_complete(struct layer *layer, PIRP irp)
{
    UNREFERENCED_PARAMETER(layer);
    MmGetSystemAddressForMdlSafe(irp->MdlAddress, NORMAL_NX);
    irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

/* One direct read of a device whose dispatch routine is `dispatch`. */
static void read_once(NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    UCHAR *va = user_buffer();
    struct pinion_request request = {.operation = PINION_READ, .buffer = va, .bytes = LENGTH};
    PFILE_OBJECT file;

    layer_create(&disk, DO_DIRECT_IO, dispatch);
    EXPECT_STATUS(pinion_open(disk.device, &file), STATUS_SUCCESS);
    pinion_transfer(file, &request);
    pinion_close(file);
    pinion_user_free(va);
    layer_destroy(&disk);
}

RULE_BAD(USED_AFTER_COMPLETION)
{
    read_once(complete_then_look);
}

RULE_GOOD(USED_AFTER_COMPLETION)
{
    read_once(look_then_complete);
}
