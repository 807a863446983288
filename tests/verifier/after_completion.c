/* SPDX-License-Identifier: MIT */
/*
 * The MDL of a request after IoCompleteRequest, as the MdlAfterReqCompleted rules forbid it: each routine and macro that they
 * name, in a read, a write, a device control and an internal device control.
 */

#include "harness.h"
#include <wdm.h>

#include "../contract/io_stack.h"
#include "../contract/partial.h"

enum { BYTES = 3 * PAGE_SIZE / 2, CONTROL = CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_OUT_DIRECT, FILE_ANY_ACCESS) };

/* ---- what is forbidden ------------------------------------------------------------------------------------------ */

/* One that must not touch memory, so that the compiler keeps the read. */
static volatile ULONG_PTR seen;

/* The MDL of a request, and what a driver knew of it before it completed that. */
struct target {
    PMDL  mdl, other;                   /* `other` is a partial MDL of its own */
    PVOID va;
};

static void use_system_address(const struct target *target)
{
    MmGetSystemAddressForMdlSafe(target->mdl, NORMAL_NX);
}

static void use_as_source(const struct target *target)
{
    IoBuildPartialMdl(target->mdl, target->other, target->va, 1);
}

static void use_as_target(const struct target *target)
{
    IoBuildPartialMdl(target->other, target->mdl, target->va, 1);
}

static void use_flush(const struct target *target)
{
    KeFlushIoBuffers(target->mdl, TRUE, FALSE);
}

static void use_prepare(const struct target *target)
{
    MmPrepareMdlForReuse(target->mdl);
}

MAY_FAULT static void use_byte_count(const struct target *target)
{
    seen = MmGetMdlByteCount(target->mdl);
}

MAY_FAULT static void use_byte_offset(const struct target *target)
{
    seen = MmGetMdlByteOffset(target->mdl);
}

MAY_FAULT static void use_virtual_address(const struct target *target)
{
    seen = (ULONG_PTR)MmGetMdlVirtualAddress(target->mdl);
}

MAY_FAULT static void use_page_numbers(const struct target *target)
{
    seen = MmGetMdlPfnArray(target->mdl)[0];
}

static const struct use {
    const char *name;
    bool        is_macro;               /* the driver itself reads the MDL */
    void      (*use)(const struct target *target);
} uses[] = {
    {"MmGetSystemAddressForMdlSafe", false, use_system_address},
    {"IoBuildPartialMdl, argument 1", false, use_as_source},
    {"IoBuildPartialMdl, argument 2", false, use_as_target},
    {"KeFlushIoBuffers", false, use_flush},
    {"MmPrepareMdlForReuse", false, use_prepare},
    {"MmGetMdlByteCount", true, use_byte_count},
    {"MmGetMdlByteOffset", true, use_byte_offset},
    {"MmGetMdlVirtualAddress", true, use_virtual_address},
    {"MmGetMdlPfnArray", true, use_page_numbers},
};

/* ---- requests --------------------------------------------------------------------------------------------------- */

enum kind { READ, WRITE, DEVICE_CONTROL, INTERNAL_DEVICE_CONTROL, KINDS };

static const struct use *forbidden;     /* what the dispatch routine does */
static bool before;                     /* before it completes the request, and not after */

static NTSTATUS use_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    struct target target = {.mdl = mdl, .va = MmGetMdlVirtualAddress(mdl)};
    NTSTATUS status;

    target.other = mdl_over(target.va, BYTES);
    IoBuildPartialMdl(mdl, target.other, target.va, BYTES);
    if (before && forbidden->use != use_as_target)
        forbidden->use(&target);
    status = layer_complete(irp, STATUS_SUCCESS, 0);
    if (!before)
        forbidden->use(&target);
    IoFreeMdl(target.other);
    return status;
}

static PIRP build(enum kind kind, PDEVICE_OBJECT device, PVOID buffer, PKEVENT event, PIO_STATUS_BLOCK block)
{
    LARGE_INTEGER offset = {.QuadPart = 0};

    if (kind == READ || kind == WRITE)
        return IoBuildSynchronousFsdRequest(kind == READ ? IRP_MJ_READ : IRP_MJ_WRITE, device, buffer, BYTES, &offset, event, block);
    return IoBuildDeviceIoControlRequest(CONTROL, device, NULL, 0, buffer, BYTES, kind == INTERNAL_DEVICE_CONTROL, event, block);
}

static void request_of(enum kind kind)
{
    struct layer layer;
    UCHAR *const block = ExAllocatePoolWithTag(NonPagedPoolNx, BYTES, TEST_TAG);
    IO_STATUS_BLOCK status;
    KEVENT event;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    layer_create(&layer, DO_DIRECT_IO, use_and_complete);
    IoCallDriver(layer.device, build(kind, layer.device, block, &event, &status));
    EXPECT_STATUS(status.Status, STATUS_SUCCESS);
    layer_destroy(&layer);
    ExFreePoolWithTag(block, TEST_TAG);
}

static void request_in_child(void *context)
{
    request_of(*(const enum kind *)context);
}

/* DDI_compliance_rules_for_MDLs-02 MmGetMdlByteCount-03 KeFlushIoBuffers-04: none of them after the request is completed. A routine says so
   itself; where a macro reads the MDL, the driver is met at the read. */
TEST_UNTIDY(after_completion, mdl_of_the_request__used__stops)
{
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (SIZE_T i = 0; i < ARRAYSIZE(uses); i++) {
            forbidden = &uses[i];

            const struct stop stop = run_until_stop(request_in_child, &kind);
            const ULONG code = uses[i].is_macro ? DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL : PAGE_FAULT_IN_FREED_SPECIAL_POOL;

            if (!stop.stopped || stop.code != code)
                harness_fail(HARNESS_HERE, "%s after request %d: %s", uses[i].name, kind, stop.stderr_text);
            EXPECT(strstr(stop.stderr_text, "freed at") != NULL);
        }
}

/* DDI_compliance_rules_for_MDLs-02: before that they are what MDLs are for. */
SILENT_TEST(after_completion, mdl_of_the_request__used_before__is_silent)
{
    before = true;
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (SIZE_T i = 0; i < ARRAYSIZE(uses); i++) {
            forbidden = &uses[i];
            request_of(kind);
        }
    before = false;
}
