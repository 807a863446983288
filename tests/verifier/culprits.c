/* SPDX-License-Identifier: MIT */
/* Whose mistake it was, where that is not who called last: leaks, lost requests, and what the I/O manager only finds. */

#include "harness.h"
#include <wdm.h>

#include "stories.h"

#include "../contract/io_stack.h"

APART static PVOID allocate_block(void)
{
    const PVOID block = ExAllocatePoolWithTag(NonPagedPoolNx, 77, 'kcoB');

    after = true;
    return block;
}

/* Does the text have a stack of this title whose innermost frame is in the function? */
static bool tells(const char *text, const char *title, const char *function)
{
    char expected[128];

    snprintf(expected, sizeof(expected), "    %s\n        #0 %s (", title, function);
    return strstr(text, expected) != NULL;
}

/* ---- pool that nobody freed ------------------------------------------------------------------------------------- */

static void leak_block(void *context)
{
    UNREFERENCED_PARAMETER(context);
    allocate_block();
    EXPECT_EQ(pinion_shutdown(), 1);
}

TEST_UNTIDY(culprits, pool_leak__warning__tells_the_block)
{
    const struct stop stop = run_until_stop(leak_block, NULL);

    EXPECT_EQ(stop_warnings(&stop, "pool-leak"), 1);
    EXPECT(strstr(stop.stderr_text, "1 block of pool with tag 'Bock', 77 bytes, was never freed") != NULL);
    EXPECT(tells(stop.stderr_text, "allocated at", "allocate_block"));
}

static NTSTATUS entry_that_allocates(PDRIVER_OBJECT driver, void *registry_path)
{
    UNREFERENCED_PARAMETER(driver);
    UNREFERENCED_PARAMETER(registry_path);
    for (int i = 0; i < 9; i++)
        allocate_block();
    return STATUS_SUCCESS;
}

static void unload_with_blocks(void *context)
{
    PDRIVER_OBJECT driver;

    UNREFERENCED_PARAMETER(context);
    pinion_driver_load("forgetful", entry_that_allocates, &driver);
    pinion_driver_unload(driver);
}

/* Some of the nine are enough. */
TEST_UNTIDY(culprits, pool_leak__at_unload__tells_some_blocks)
{
    const struct stop stop = run_until_stop(unload_with_blocks, NULL);
    unsigned told = 0;

    EXPECT_EQ(stop.code, DRIVER_VERIFIER_DETECTED_VIOLATION);
    EXPECT_EQ(stop.p[0], 0x62);
    EXPECT_EQ(stop.p[3], 9);
    EXPECT(tells(stop.stderr_text, "allocated at", "allocate_block"));
    for (const char *at = stop.stderr_text; (at = strstr(at, " 77 bytes, tag 'Bock':\n")) != NULL; at++)
        told++;
    EXPECT_EQ(told, 4);
}

/* ---- IRPs that nobody freed, or completed ------------------------------------------------------------------------ */

APART static PIRP allocate_irp(void)
{
    const PIRP irp = IoAllocateIrp(2, FALSE);

    after = true;
    return irp;
}

static void leak_irp(void *context)
{
    struct layer layer;
    PIRP irp = allocate_irp();

    UNREFERENCED_PARAMETER(context);
    layer_create(&layer, 0, hold);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    EXPECT_STATUS(IoCallDriver(layer.device, irp), STATUS_PENDING);
    layer_destroy(&layer);
    EXPECT_EQ(pinion_shutdown(), 1);
}

/* Even if its device is gone by then. */
TEST_UNTIDY(culprits, irp_leak__tells_who_made_it_and_who_had_it)
{
    const struct stop stop = run_until_stop(leak_irp, NULL);

    EXPECT_EQ(stop_warnings(&stop, "irp-leak"), 1);
    EXPECT(tells(stop.stderr_text, "allocated at", "allocate_irp"));
    EXPECT(tells(stop.stderr_text, "last with", "layer_dispatch"));
}

static NTSTATUS forget(HARNESS_UNUSED struct layer *layer, HARNESS_UNUSED PIRP irp)
{
    return STATUS_SUCCESS;
}

static void read_through(NTSTATUS (*dispatch)(struct layer *, PIRP))
{
    struct pinion_request request = {.operation = PINION_READ, .buffer = user_pages(1, PAGE_READWRITE), .bytes = PAGE_SIZE};
    struct layer layer;
    PFILE_OBJECT file;

    layer_create(&layer, DO_DIRECT_IO, dispatch);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    pinion_transfer(file, &request);
}

static void lose_request(void *context)
{
    UNREFERENCED_PARAMETER(context);
    read_through(forget);
}

TEST_UNTIDY(culprits, irp_lost__tells_who_had_it)
{
    const struct stop stop = run_until_stop(lose_request, NULL);
    const char *lost = strstr(stop.stderr_text, "irp-lost");

    EXPECT(lost != NULL && tells(lost, "last with", "layer_dispatch"));
}

/* Dispatch routines of their own, so that a report tells the layers apart. */
APART static NTSTATUS upper_dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    const NTSTATUS status = layer_dispatch(device, irp);

    after = true;
    return status;
}

APART static NTSTATUS lower_dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    const NTSTATUS status = layer_dispatch(device, irp);

    after = true;
    return status;
}

static void never_done(HARNESS_UNUSED struct pinion_request *request)
{
}

/* A request through two layers of which one loses it. */
static void read_through_two(NTSTATUS (*upper)(struct layer *, PIRP), NTSTATUS (*lower)(struct layer *, PIRP))
{
    struct pinion_request request = {.operation = PINION_READ, .buffer = user_pages(1, PAGE_READWRITE), .bytes = PAGE_SIZE,
                                     .done = never_done};
    struct layer top, bottom;
    PFILE_OBJECT file;

    layer_create(&bottom, DO_DIRECT_IO, lower);
    layer_create(&top, DO_DIRECT_IO, upper);
    bottom.driver->MajorFunction[IRP_MJ_READ] = lower_dispatch;
    top.driver->MajorFunction[IRP_MJ_READ] = upper_dispatch;
    layer_attach(&top, &bottom);
    EXPECT_STATUS(pinion_open(bottom.device, &file), STATUS_SUCCESS);
    pinion_submit(file, &request);
    pinion_report_lost(file);
}

static NTSTATUS keep(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS send_and_keep(struct layer *layer, PIRP irp)
{
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
    IoCallDriver(layer->lower, irp);
    return STATUS_SUCCESS;
}

static void lose_after_completion(void *options)
{
    boot(options);
    read_through_two(send_and_keep, complete_with_success);
}

static NTSTATUS skip_and_forget(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    IoSkipCurrentIrpStackLocation(irp);
    return STATUS_SUCCESS;
}

static void lose_after_skip(void *options)
{
    boot(options);
    read_through_two(pass_down, skip_and_forget);
}

static const char *const verifiers[] = {"verifier=on", "verifier=off"};

/* The lower driver has completed it: it is the upper one's, whose completion routine kept it. */
TEST_UNTIDY(culprits, irp_lost__kept_by_a_completion_routine__names_its_driver)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(verifiers); i++) {
        const struct stop stop = run_until_stop(lose_after_completion, (void *)(ULONG_PTR)verifiers[i]);

        EXPECT(strstr(stop.stderr_text, "has not come back; upper_dispatch (") != NULL);
    }
}

/* A driver that passed its location over, and then called nobody, has no current one. */
TEST_UNTIDY(culprits, irp_lost__after_a_skip__names_the_driver_that_skipped)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(verifiers); i++) {
        const struct stop stop = run_until_stop(lose_after_skip, (void *)(ULONG_PTR)verifiers[i]);

        EXPECT(strstr(stop.stderr_text, "has not come back; lower_dispatch (") != NULL);
    }
}

/* ---- what the I/O manager finds ---------------------------------------------------------------------------------- */

static NTSTATUS raise_and_forget(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void return_at_another_irql(void *context)
{
    UNREFERENCED_PARAMETER(context);
    read_through(raise_and_forget);
}

/* The routine has returned, and is in no stack any more. */
TEST_UNTIDY(culprits, irql_changed__tells_the_dispatch_routine)
{
    const struct stop stop = run_until_stop(return_at_another_irql, NULL);

    EXPECT_EQ(stop.code, DRIVER_VERIFIER_IOMANAGER_VIOLATION);
    EXPECT(tells(stop.stderr_text, "the dispatch routine", "layer_dispatch"));
    EXPECT(strstr(stop.stderr_text, "the dispatch routine") < strstr(stop.stderr_text, "done at"));
}

APART static void free_mdl_of(PIRP irp)
{
    MmUnlockPages(irp->MdlAddress);
    IoFreeMdl(irp->MdlAddress);
    after = true;
}

static NTSTATUS free_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    free_mdl_of(irp);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void free_what_is_the_requests(void *context)
{
    UNREFERENCED_PARAMETER(context);
    read_through(free_and_complete);
}

TEST_UNTIDY(culprits, mdl_of_a_request__freed_by_the_driver__tells_where)
{
    const struct stop stop = run_until_stop(free_what_is_the_requests, NULL);

    EXPECT_EQ(stop.code, PAGE_FAULT_IN_FREED_SPECIAL_POOL);
    EXPECT(tells(stop.stderr_text, "freed at", "free_mdl_of"));
}

APART static NTSTATUS keep_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    LARGE_INTEGER interval = {.QuadPart = -10000 * 20};

    KeDelayExecutionThread(KernelMode, FALSE, &interval);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void keep_a_request(HARNESS_UNUSED void *context)
{
    boot("lock-limit=5");
    read_through(keep_and_complete);
}

/* The system locked the pages of a request; who kept that is in the stack that completes it. */
TEST_UNTIDY(culprits, request__kept_for_long__tells_who_completes_it)
{
    const struct stop stop = run_until_stop(keep_a_request, NULL);

    EXPECT_EQ(stop_warnings(&stop, "lock-held-long"), 1);
    EXPECT(tells(stop.stderr_text, "done at", "keep_and_complete"));
}
