/* SPDX-License-Identifier: MIT */
/* The hooks of IRPs and of drivers: what the I/O manager's routines are held to. */

#include "verifier/about.h"

#include "io/io.h"

/* ---- IRPs ---- */

static void irp_call_check(struct ke_site site, PDEVICE_OBJECT device, PIRP irp)
{
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_IRP_CALL_IRQL, about(site, NULL), ke_self()->irql, address(irp), 0, 0);
    if (irp->Type != IO_TYPE_IRP)
        vf_stop(VF_IRP_INVALID, about(site, NULL), address(irp), 0, 0, 0);
    if (device == NULL || device->Type != IO_TYPE_DEVICE)
        vf_stop(VF_IRP_NO_DEVICE, about(site, NULL), address(device), 0, 0, 0);
    if (irp->CurrentLocation > 1)
        vf_invariant_call(site, device, irp);
}

static void irp_call_record(struct ke_site site, PDEVICE_OBJECT device, PDRIVER_DISPATCH dispatch, KIRQL irql_before)
{
    const struct vf_case of = {.site = site, .dispatch = (const void *)dispatch};

    if (ke_self()->irql != irql_before)
        vf_stop(VF_IRP_DISPATCH_IRQL, of, address(device), irql_before, ke_self()->irql, 0);
}

static void irp_complete_check(struct ke_site site, PIRP irp)
{
    const PDRIVER_CANCEL routine = __atomic_load_n(&irp->CancelRoutine, __ATOMIC_RELAXED);
    const NTSTATUS status = irp->IoStatus.Status;

    vf_forget_not_mapped();
    if (is_above(DISPATCH_LEVEL))
        vf_stop(VF_IRP_COMPLETE_IRQL, about(site, NULL), ke_self()->irql, address(irp), 0, 0);
    if (status == STATUS_PENDING || status == -1)
        vf_stop(VF_IRP_COMPLETE_PENDING, about(site, NULL), (uint32_t)status, address(irp), 0, 0);
    if (routine != NULL)
        vf_stop(VF_IRP_COMPLETE_CANCEL, about(site, NULL), (uintptr_t)routine, address(irp), 0, 0);
    vf_invariant_complete(site, irp);
}

/* Told of as a call from where the routine begins. */
static void irp_passed_check(struct ke_site site, PIRP irp, PIO_COMPLETION_ROUTINE routine)
{
    const struct vf_case of = {.site = {.ip = (uintptr_t)routine + 1}};

    (void)site;
    if (__atomic_load_n(&irp->CancelRoutine, __ATOMIC_RELAXED) != NULL)
        vf_warn(VF_IRP_PASSED_CANCELABLE, of);
}

static void irp_free_record(struct ke_site site, PIRP irp)
{
    (void)site;
    vf_invariant_forget(irp);
}

/* ---- drivers ---- */

enum { MOST_BLOCKS_TOLD = 4 };

static void driver_unload_check(struct ke_site site, PDRIVER_OBJECT driver)
{
    struct ke_pool_block some[MOST_BLOCKS_TOLD];
    struct vf_case of = {.site = site};
    uint64_t nblocks, nmdls;

    if (!(the()->options.verifier & KE_VERIFIER_POOL_TRACKING))
        return;
    vf_mark_rest_of_chains(the());
    nmdls = vf_count_of_driver(the(), driver, &of.mdl);
    nblocks = mm_pool_blocks_of_driver(the(), driver, some, MOST_BLOCKS_TOLD);
    if (nblocks != 0) {
        of.block = some;
        of.more_blocks = (nblocks < MOST_BLOCKS_TOLD ? nblocks : MOST_BLOCKS_TOLD) - 1;
    }
    if (nmdls + nblocks != 0)
        vf_stop(VF_DRIVER_LEFT_POOL, of, address(driver->DriverName.Buffer), 0, nmdls + nblocks, 0);
}

static void irp_free_check(struct ke_site site, PIRP irp)
{
    const struct io_slot *slot = io_slot_of(the(), irp);

    if (irp->Type != IO_TYPE_IRP)
        vf_stop(VF_IRP_FREE_OF_NONE, about(site, NULL), address(irp), 0, 0, 0);
    if (slot != NULL && io_is_managers(slot))
        vf_stop(VF_IRP_FREE_OF_THREADS, about(site, NULL), address(irp), 0, 0, 0);
}

static void irp_fsd_buffer_check(struct ke_site site, PDEVICE_OBJECT device, ULONG major, NTSTATUS status)
{
    vf_stop(VF_FSD_BAD_BUFFER, about(site, NULL), address(device), major, (uint32_t)status, 0);
}

static void irp_control_buffer_check(struct ke_site site, PDEVICE_OBJECT device, ULONG code, NTSTATUS status)
{
    vf_stop(VF_CONTROL_BAD_BUFFER, about(site, NULL), address(device), code, (uint32_t)status, 0);
}

static void irp_requester_check(struct ke_site site, const IRP *irp, uintptr_t sp)
{
    const struct io_slot *slot = io_slot_of(the(), irp);
    const struct vf_case of = {.made = slot->allocated};

    (void)site;
    if (host_frame_is_left(&slot->status_frame, sp))
        vf_stop(VF_IRP_STATUS_BLOCK_GONE, of, address(irp->UserIosb), 0, 0, 0);
    if (host_frame_is_left(&slot->event_frame, sp))
        vf_stop(VF_IRP_EVENT_GONE, of, address(irp->UserEvent), 0, 0, 0);
}

void vf_irp_hooks_install(struct ke_hooks *hooks)
{
    hooks->irp_call_check = irp_call_check;
    hooks->irp_call_record = irp_call_record;
    hooks->irp_complete_check = irp_complete_check;
    hooks->irp_passed_check = irp_passed_check;
    hooks->irp_free_check = irp_free_check;
    hooks->irp_free_record = irp_free_record;
    hooks->irp_fsd_buffer_check = irp_fsd_buffer_check;
    hooks->irp_control_buffer_check = irp_control_buffer_check;
    hooks->irp_requester_check = irp_requester_check;
    hooks->driver_unload_check = driver_unload_check;
}
