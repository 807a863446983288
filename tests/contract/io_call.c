/* SPDX-License-Identifier: MIT */
/* Sending IRPs down a stack and completing them: IoCallDriver, IoCompleteRequest, completion routines, pending. */

#include "io_stack.h"

#include <stdio.h>
#include <stdlib.h>

/* What happened, in order. */
static char log_text[256];

static void note(const char *what)
{
    strcat(log_text, what);
    strcat(log_text, " ");
}

static void expect_log(const char *expected)
{
    EXPECT(strlen(log_text) < sizeof(log_text));
    EXPECT_MEM_EQ(log_text, expected, strlen(expected) + 1);
    log_text[0] = 0;
}

/* ---- down -------------------------------------------------------------------------------------------------------- */

/* The routines have the types of their pages. */
TEST(io_call, prototypes__are_the_documented_ones)
{
    /* IoCallDriver-01 IoCompleteRequest-01 */
    NTSTATUS (*call)(PDEVICE_OBJECT, PIRP) = &IofCallDriver;
    VOID (*complete)(PIRP, CCHAR) = &IofCompleteRequest;

    EXPECT(call != NULL && complete != NULL);
}

struct seen {
    PDEVICE_OBJECT device;
    PIRP irp;
    PIO_STACK_LOCATION location;
    int current;
};
static struct seen seen;

static NTSTATUS look_and_keep(struct layer *layer, PIRP irp)
{
    seen = (struct seen){layer->device, irp, IoGetCurrentIrpStackLocation(irp), irp->CurrentLocation};
    layer->held = irp;
    IoMarkIrpPending(irp);
    return STATUS_PENDING;
}

static NTSTATUS free_own_irp(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* The next location becomes current, gets the device, and the status of the dispatch routine comes back. */
TEST(io_call, call__moves_to_the_next_location__and_returns_what_dispatch_returns)
{
    /* IoCallDriver-02 */
    struct layer bottom;
    PIRP irp = IoAllocateIrp(3, FALSE);
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

    layer_create(&bottom, 0, look_and_keep);
    next->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, free_own_irp, NULL, TRUE, TRUE, TRUE);
    EXPECT_EQ(irp->CurrentLocation, 4);
    EXPECT_STATUS(IoCallDriver(bottom.device, irp), STATUS_PENDING);
    EXPECT_PTR_EQ(seen.device, bottom.device);
    EXPECT_PTR_EQ(seen.irp, irp);
    EXPECT_PTR_EQ(seen.location, next);
    EXPECT_PTR_EQ(next->DeviceObject, bottom.device);
    EXPECT_EQ(seen.current, 3);
    layer_complete(irp, STATUS_SUCCESS, 0);
    layer_destroy(&bottom);
}

/* A driver that handles no read says so by default. */
TEST(io_call, call__major_function_that_no_driver_handles__is_refused)
{
    PDRIVER_OBJECT driver;
    PDEVICE_OBJECT device;
    struct layer layer;
    PIRP irp = IoAllocateIrp(1, FALSE);

    layer_create(&layer, 0, complete_with_success);
    driver = layer.driver;
    device = layer.device;
    driver->MajorFunction[IRP_MJ_FLUSH_BUFFERS] = driver->MajorFunction[IRP_MJ_READ];
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_MAXIMUM_FUNCTION + 1;
    IoSetCompletionRoutine(irp, free_own_irp, NULL, TRUE, TRUE, TRUE);
    EXPECT_STATUS(IoCallDriver(device, irp), STATUS_INVALID_DEVICE_REQUEST);
    layer_destroy(&layer);
}

static void tell(PIRP irp)
{
    fprintf(stderr, "irp %llx\n", (unsigned long long)(uintptr_t)irp);
}

static uint64_t told(const struct stop *stop)
{
    const char *line = strstr(stop->stderr_text, "irp ");

    EXPECT(line != NULL);
    return strtoull(line + 4, NULL, 16);
}

static void call_without_location(HARNESS_UNUSED void *context)
{
    struct layer top, bottom;
    PIRP irp = IoAllocateIrp(1, FALSE);

    layer_create(&bottom, 0, complete_with_success);
    layer_create(&top, 0, look_and_keep);
    tell(irp);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoCallDriver(top.device, irp);
    IoCallDriver(bottom.device, irp);
}

/* An IRP with no location left for the driver below stops the machine. */
TEST_UNTIDY(io_call, call__no_location_left__bug_check_0x35)
{
    /* IoCallDriver-03 */
    const struct stop stop = run_until_stop(call_without_location, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x35);
    EXPECT_EQ(stop.p[0], told(&stop));
}

/* ---- up ---------------------------------------------------------------------------------------------------------- */

struct three {
    struct layer bottom, middle, top;
};

static NTSTATUS note_top(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    const struct three *three = context;

    note(device == three->top.device ? "top" : "top?");
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    return STATUS_SUCCESS;
}

static NTSTATUS note_middle(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    const struct three *three = context;

    note(device == three->middle.device ? "middle" : "middle?");
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    return STATUS_SUCCESS;
}

static NTSTATUS note_owner(PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    note(device == NULL ? "owner" : "owner?");
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static struct three *current;

static NTSTATUS forward_with(struct layer *layer, PIRP irp, PIO_COMPLETION_ROUTINE routine)
{
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, routine, current, TRUE, TRUE, TRUE);
    return IoCallDriver(layer->lower, irp);
}

static NTSTATUS forward_top(struct layer *layer, PIRP irp)
{
    return forward_with(layer, irp, note_top);
}

static NTSTATUS forward_middle(struct layer *layer, PIRP irp)
{
    return forward_with(layer, irp, note_middle);
}

static void build(struct three *three, NTSTATUS (*top)(struct layer *, PIRP),
                  NTSTATUS (*middle)(struct layer *, PIRP), NTSTATUS (*bottom)(struct layer *, PIRP))
{
    layer_create(&three->bottom, 0, bottom);
    layer_create(&three->middle, 0, middle);
    layer_create(&three->top, 0, top);
    layer_attach(&three->middle, &three->bottom);
    layer_attach(&three->top, &three->middle);
    current = three;
    log_text[0] = 0;
}

static void tear_down(struct three *three)
{
    layer_destroy(&three->top);
    layer_destroy(&three->middle);
    layer_destroy(&three->bottom);
}

static PIRP new_read(const struct three *three, PIO_COMPLETION_ROUTINE routine)
{
    PIRP irp = IoAllocateIrp(three->top.device->StackSize, FALSE);

    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, routine, NULL, TRUE, TRUE, TRUE);
    return irp;
}

/* Leave no zeros behind the locations of the next IRP that is allocated. */
static void soil_irp_memory(void)
{
    PIRP irp = IoAllocateIrp(8, FALSE);

    memset(irp + 1, 0xEE, 8 * sizeof(IO_STACK_LOCATION));
    IoFreeIrp(irp);
}

/* Completion routines run from the next-higher driver upwards, each with its own device, the IRP's maker with none. */
TEST(io_call, complete__routines_run_upwards__each_with_its_device)
{
    /* IoCompleteRequest-02 */
    struct three three;

    build(&three, forward_top, forward_middle, complete_with_success);
    soil_irp_memory();
    EXPECT_STATUS(IoCallDriver(three.top.device, new_read(&three, note_owner)), STATUS_SUCCESS);
    expect_log("middle top owner ");
    tear_down(&three);
}

static NTSTATUS stop_here(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    struct three *three = context;

    note("stop");
    three->middle.held = irp;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS forward_and_stop(struct layer *layer, PIRP irp)
{
    IoMarkIrpPending(irp);
    forward_with(layer, irp, stop_here);
    return STATUS_PENDING;
}

/* STATUS_MORE_PROCESSING_REQUIRED stops the way up; IoCompleteRequest goes on above that routine. */
TEST(io_call, complete__more_processing_required__stops_and_a_second_call_resumes_above)
{
    /* IoCompleteRequest-03 */
    struct three three;

    build(&three, forward_top, forward_and_stop, complete_with_success);
    EXPECT_STATUS(IoCallDriver(three.top.device, new_read(&three, note_owner)), STATUS_PENDING);
    expect_log("stop ");
    IoCompleteRequest(three.middle.held, IO_NO_INCREMENT);
    expect_log("top owner ");
    tear_down(&three);
}

static NTSTATUS complete_with_traces(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    PIO_STACK_LOCATION own = IoGetCurrentIrpStackLocation(irp);

    seen.location = own;
    own->Parameters.Read.Length = 0x1234;
    own->Flags = 0x55;
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static NTSTATUS inspect_lower(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    static const IO_STACK_LOCATION zero;

    EXPECT_PTR_EQ(IoGetNextIrpStackLocation(irp), seen.location);
    EXPECT_MEM_EQ(seen.location, &zero, sizeof(zero));
    note("zero");
    return STATUS_SUCCESS;
}

static NTSTATUS forward_inspecting(struct layer *layer, PIRP irp)
{
    return forward_with(layer, irp, inspect_lower);
}

/* A driver's location is zero by the time the routine of the driver above runs. */
TEST(io_call, complete__passed_location__is_zero_in_the_routine_above)
{
    /* IoCompleteRequest-04 */
    struct three three;

    build(&three, forward_top, forward_inspecting, complete_with_traces);
    IoCallDriver(three.top.device, new_read(&three, note_owner));
    expect_log("zero top owner ");
    tear_down(&three);
}

static NTSTATUS keep_irp(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, HARNESS_UNUSED PVOID context)
{
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS complete_twice(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    layer_complete(irp, STATUS_SUCCESS, 0);
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void complete_again(void *context)
{
    const bool freed = context != NULL;
    struct layer layer;
    PIRP irp = IoAllocateIrp(1, FALSE);

    layer_create(&layer, 0, complete_twice);
    tell(irp);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoSetCompletionRoutine(irp, freed ? free_own_irp : keep_irp, NULL, TRUE, TRUE, TRUE);
    IoCallDriver(layer.device, irp);
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

/* Completing an IRP that is complete stops the machine, be it freed meanwhile or not. */
TEST_UNTIDY(io_call, complete__already_completed__bug_check_0x44)
{
    /* IoCompleteRequest-05 */
    for (int freed = 0; freed < 2; freed++) {
        const struct stop stop = run_until_stop(complete_again, freed ? &seen : NULL);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, 0x44);
        EXPECT_EQ(stop.p[0], told(&stop));
    }
}

/* ---- when a routine runs ----------------------------------------------------------------------------------------- */

struct outcome {
    NTSTATUS status;
    BOOLEAN cancel;
};

static struct outcome next_outcome;
static BOOLEAN flags[3];                /* on success, on error, on cancel */

static NTSTATUS complete_as_told(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    irp->Cancel = next_outcome.cancel;
    return layer_complete(irp, next_outcome.status, 0);
}

static NTSTATUS note_called(HARNESS_UNUSED PDEVICE_OBJECT device, HARNESS_UNUSED PIRP irp, PVOID context)
{
    EXPECT_PTR_EQ(context, flags);
    note("called");
    return STATUS_SUCCESS;
}

static NTSTATUS forward_by_flags(struct layer *layer, PIRP irp)
{
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, note_called, flags, flags[0], flags[1], flags[2]);
    return IoCallDriver(layer->lower, irp);
}

/* InvokeOnSuccess, InvokeOnError and InvokeOnCancel select, alone and together, when the routine runs. */
TEST(io_call, completion_routine__runs_for_the_outcomes_asked_for)
{
    /* IoSetCompletionRoutine-01 */
    static const struct outcome outcomes[] = {
        {STATUS_SUCCESS, FALSE}, {STATUS_END_OF_FILE, FALSE}, {STATUS_CANCELLED, TRUE}, {STATUS_SUCCESS, TRUE},
        {STATUS_BUFFER_OVERFLOW, FALSE}};
    struct three three;

    build(&three, pass_down, forward_by_flags, complete_as_told);
    for (unsigned mask = 0; mask < 8; mask++) {
        for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
            const bool success = NT_SUCCESS(outcomes[i].status);
            bool expected = success ? mask & 1 : mask & 2;

            expected |= outcomes[i].cancel && (mask & 4);
            next_outcome = outcomes[i];
            for (int flag = 0; flag < 3; flag++)
                flags[flag] = (mask >> flag) & 1;
            EXPECT_STATUS(IoCallDriver(three.top.device, new_read(&three, free_own_irp)), outcomes[i].status);
            expect_log(expected ? "called " : "");
        }
    }
    tear_down(&three);
}

static NTSTATUS free_irp_and_mdl(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    EXPECT_PTR_EQ(irp->MdlAddress, context);
    IoFreeMdl(irp->MdlAddress);
    IoFreeIrp(irp);
    note("freed");
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A driver's own IRP: its routine gets it back for every outcome, and frees it and its MDL. */
TEST(io_call, completion_routine__of_a_drivers_own_irp__frees_irp_and_mdl)
{
    /* IoSetCompletionRoutine-02 IoAllocateIrp-03 */
    static const struct outcome outcomes[] = {
        {STATUS_SUCCESS, FALSE}, {STATUS_IO_DEVICE_ERROR, FALSE}, {STATUS_CANCELLED, TRUE}};
    struct layer layer;

    log_text[0] = 0;
    layer_create(&layer, 0, complete_as_told);
    for (size_t i = 0; i < 3; i++) {
        PIRP irp = IoAllocateIrp(1, FALSE);
        PMDL mdl = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, irp);

        next_outcome = outcomes[i];
        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
        IoSetCompletionRoutine(irp, free_irp_and_mdl, mdl, TRUE, TRUE, TRUE);
        IoCallDriver(layer.device, irp);
        expect_log("freed ");
    }
    layer_destroy(&layer);
}

/* A driver that lets its own IRP go all the way up has lost it: nobody above can know what to do with it. */
WARN_TEST(io_call, complete__own_irp_without_routine__is_reported, "irp-unclaimed")
{
    struct layer layer;
    PIRP irp = IoAllocateIrp(1, FALSE);

    layer_create(&layer, 0, complete_with_success);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_READ;
    IoCallDriver(layer.device, irp);
    IoFreeIrp(irp);
    layer_destroy(&layer);
}

/* ---- pending ----------------------------------------------------------------------------------------------------- */

static NTSTATUS note_pending(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    note(irp->PendingReturned ? "pending" : "direct");
    return STATUS_SUCCESS;
}

static NTSTATUS forward_without_marking(struct layer *layer, PIRP irp)
{
    return forward_with(layer, irp, note_pending);
}

static NTSTATUS note_pending_and_mark(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    note_pending(device, irp, context);
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    return STATUS_SUCCESS;
}

static NTSTATUS forward_and_mark(struct layer *layer, PIRP irp)
{
    return forward_with(layer, irp, note_pending_and_mark);
}

static NTSTATUS note_pending_and_free(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    note_pending(device, irp, context);
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS copy_down(struct layer *layer, PIRP irp)
{
    IoCopyCurrentIrpStackLocationToNext(irp);
    return IoCallDriver(layer->lower, irp);
}

/* The mark becomes PendingReturned above; it goes further up where a routine repeats it, or where there is none. */
TEST(io_call, mark_pending__becomes_pending_returned_above)
{
    /* IoMarkIrpPending-01 */
    static const struct {
        NTSTATUS (*middle)(struct layer *, PIRP);
        NTSTATUS (*bottom)(struct layer *, PIRP);
        const char *expected;           /* the middle's routine, if any, the top's, the owner's */
    } cases[] = {
        {forward_and_mark, hold, "pending pending pending "},
        {forward_without_marking, hold, "pending direct direct "},
        {copy_down, hold, "pending pending "},
        {pass_down, hold, "pending pending "},
        {forward_and_mark, complete_with_success, "direct direct direct "},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct three three;
        NTSTATUS status;

        build(&three, forward_and_mark, cases[i].middle, cases[i].bottom);
        status = IoCallDriver(three.top.device, new_read(&three, note_pending_and_free));
        EXPECT_STATUS(status, cases[i].bottom == hold ? STATUS_PENDING : STATUS_SUCCESS);
        if (three.bottom.held != NULL)
            layer_complete(three.bottom.held, STATUS_SUCCESS, 0);
        expect_log(cases[i].expected);
        tear_down(&three);
    }
}

/* ---- IoSetCompletionRoutineEx ------------------------------------------------------------------------------------ */

static NTSTATUS ex_status;

static NTSTATUS forward_ex(struct layer *layer, PIRP irp)
{
    IoCopyCurrentIrpStackLocationToNext(irp);
    ex_status = IoSetCompletionRoutineEx(layer->device, irp, note_called, flags, flags[0], flags[1], flags[2]);
    if (!NT_SUCCESS(ex_status))
        return layer_complete(irp, ex_status, 0);
    return IoCallDriver(layer->lower, irp);
}

/* The routine runs as IoSetCompletionRoutine's would, with the driver's context; the memory comes back either way. */
TEST(io_call, completion_routine_ex__success_and_error__calls_as_asked)
{
    /* IoSetCompletionRoutineEx-01 */
    struct three three;

    build(&three, pass_down, forward_ex, complete_as_told);
    for (unsigned mask = 0; mask < 4; mask++) {
        for (int error = 0; error < 2; error++) {
            next_outcome = (struct outcome){error ? STATUS_END_OF_FILE : STATUS_SUCCESS, FALSE};
            flags[0] = mask & 1;
            flags[1] = (mask >> 1) & 1;
            flags[2] = FALSE;
            EXPECT_STATUS(IoCallDriver(three.top.device, new_read(&three, free_own_irp)), next_outcome.status);
            EXPECT_STATUS(ex_status, STATUS_SUCCESS);
            expect_log(flags[error] ? "called " : "");
        }
    }
    tear_down(&three);
}

/* Out of memory: STATUS_INSUFFICIENT_RESOURCES, and the driver can still complete the IRP. */
TEST(io_call, completion_routine_ex__no_memory__says_so_and_registers_nothing)
{
    /* IoSetCompletionRoutineEx-01 */
    struct three three;

    build(&three, pass_down, forward_ex, complete_with_success);
    flags[0] = flags[1] = flags[2] = TRUE;
    pinion_fail("IoSetCompletionRoutineEx", 1);
    EXPECT_STATUS(IoCallDriver(three.top.device, new_read(&three, free_own_irp)), STATUS_INSUFFICIENT_RESOURCES);
    expect_log("");
    tear_down(&three);
}

/* A registration whose IRP is never sent keeps its memory for ever: that is a leak, and is told. */
WARN_TEST(io_call, completion_routine_ex__irp_never_sent__is_a_leak, "completion-leak")
{
    /* IoSetCompletionRoutineEx-01 */
    struct layer layer;
    PIRP irp = IoAllocateIrp(2, FALSE);

    layer_create(&layer, 0, complete_with_success);
    EXPECT_STATUS(IoSetCompletionRoutineEx(layer.device, irp, note_called, NULL, TRUE, TRUE, TRUE), STATUS_SUCCESS);
    IoFreeIrp(irp);
    layer_destroy(&layer);
}
