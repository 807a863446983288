/* SPDX-License-Identifier: MIT */
/* Internal allocations that fail in turn (internal.h says how): IRPs, devices, requests. */

#include "internal.h"

/* ---- I/O ---------------------------------------------------------------------------------------------- */

static PIRP many_irps[MANY];

static void free_irps(struct scene *scene)
{
    for (ULONG i = 0; i < MANY && many_irps[i] != NULL; i++) {
        IoFreeIrp(many_irps[i]);
        many_irps[i] = NULL;
    }
    scene->made = NULL;
}

static NTSTATUS allocate_irps(struct scene *scene)
{
    for (ULONG i = 0; i < MANY; i++) {
        many_irps[i] = IoAllocateIrp((CCHAR)(1 + i % 20), FALSE);
        if (many_irps[i] == NULL) {
            free_irps(scene);
            return RETURNED_NULL;
        }
    }
    return made(scene, many_irps);
}

/* IoAllocateIrp, many of them of all sizes. */
TEST(fault_internal, io_allocate_irp__each_allocation_fails)
{
    sweep((struct routine){allocate_irps, free_irps, RETURNED_NULL, NULL});
}

static NTSTATUS associated_irp(struct scene *scene)
{
    return made_irp(scene, IoMakeAssociatedIrp(scene->master, 3));
}

static void free_irp(struct scene *scene)
{
    IoFreeIrp(scene->made_irp);
}

/* IoMakeAssociatedIrp. */
TEST(fault_internal, io_make_associated_irp__each_allocation_fails)
{
    sweep((struct routine){associated_irp, free_irp, RETURNED_NULL, NULL});
}

static NTSTATUS create_device(struct scene *scene)
{
    PDEVICE_OBJECT device = NULL;
    const NTSTATUS status =
        IoCreateDevice(scene->layer.driver, 3 * PAGE_SIZE, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);

    scene->made = device;
    return status;
}

static void delete_device(struct scene *scene)
{
    IoDeleteDevice(scene->made);
}

/* IoCreateDevice. */
TEST(fault_internal, io_create_device__each_allocation_fails)
{
    sweep((struct routine){create_device, delete_device, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

static NTSTATUS allocate_work_item(struct scene *scene)
{
    return made(scene, IoAllocateWorkItem(scene->layer.device));
}

static void free_work_item(struct scene *scene)
{
    IoFreeWorkItem(scene->made);
}

static NTSTATUS build_asynchronous(struct scene *scene)
{
    LARGE_INTEGER offset = {.QuadPart = 0};

    return made_irp(scene, IoBuildAsynchronousFsdRequest(IRP_MJ_READ, scene->layer.device, scene->buffer,
                                                         BYTES, &offset, NULL));
}

static void free_asynchronous(struct scene *scene)
{
    const PMDL mdl = scene->made_irp->MdlAddress;

    if (mdl != NULL) {
        scene->made_irp->MdlAddress = NULL;
        unlock_and_free(mdl);
    }
    IoFreeIrp(scene->made_irp);
}

/* Send what a builder made: the I/O manager frees it. */
static void send(struct scene *scene)
{
    IoCallDriver(scene->layer.device, scene->made_irp);
}

static IO_STATUS_BLOCK block;
static KEVENT event;

static void prepare_event(struct scene *scene HARNESS_UNUSED)
{
    KeInitializeEvent(&event, NotificationEvent, FALSE);
}

static NTSTATUS build_synchronous(struct scene *scene)
{
    LARGE_INTEGER offset = {.QuadPart = 0};

    return made_irp(scene, IoBuildSynchronousFsdRequest(IRP_MJ_READ, scene->layer.device, scene->buffer,
                                                        BYTES, &offset, &event, &block));
}

static NTSTATUS build_control(struct scene *scene, ULONG method)
{
    return made_irp(scene, IoBuildDeviceIoControlRequest(
                               CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, method, FILE_ANY_ACCESS),
                               scene->layer.device, scene->buffer, PAGE_SIZE, scene->buffer + PAGE_SIZE,
                               2 * PAGE_SIZE, FALSE, &event, &block));
}

static NTSTATUS build_control_buffered(struct scene *scene)
{
    return build_control(scene, METHOD_BUFFERED);
}

static NTSTATUS build_control_direct(struct scene *scene)
{
    return build_control(scene, METHOD_OUT_DIRECT);
}

static NTSTATUS complete_control(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    return layer_complete(irp, STATUS_SUCCESS, 0);
}

static void send_control(struct scene *scene)
{
    scene->layer.dispatch = complete_control;
    send(scene);
    scene->layer.dispatch = complete_with_success;
}

/* IoAllocateWorkItem. */
TEST(fault_internal, io_allocate_work_item__each_allocation_fails)
{
    sweep((struct routine){allocate_work_item, free_work_item, RETURNED_NULL, NULL});
}

/* IoBuildAsynchronousFsdRequest for direct I/O: IRP, MDL and lock. */
TEST(fault_internal, io_build_asynchronous_fsd_request__each_allocation_fails)
{
    sweep((struct routine){build_asynchronous, free_asynchronous, RETURNED_NULL, NULL});
}

/* IoBuildSynchronousFsdRequest. */
TEST(fault_internal, io_build_synchronous_fsd_request__each_allocation_fails)
{
    sweep((struct routine){build_synchronous, send, RETURNED_NULL, prepare_event});
}

/* IoBuildDeviceIoControlRequest with buffered data. */
TEST(fault_internal, io_build_device_io_control__buffered__each_allocation_fails)
{
    sweep((struct routine){build_control_buffered, send_control, RETURNED_NULL, prepare_event});
}

/* IoBuildDeviceIoControlRequest with direct data. */
TEST(fault_internal, io_build_device_io_control__direct__each_allocation_fails)
{
    sweep((struct routine){build_control_direct, send_control, RETURNED_NULL, prepare_event});
}

static unsigned done_count;

static void count_done(struct pinion_request *request HARNESS_UNUSED)
{
    done_count++;
}

/* A refused request must not call `done`. */
static NTSTATUS submit(struct scene *scene)
{
    static struct pinion_request request;
    const unsigned before = done_count;

    request = (struct pinion_request){
        .operation = PINION_READ, .buffer = scene->buffer, .bytes = BYTES, .done = count_done};
    const NTSTATUS status = pinion_submit(scene->file, &request);
    EXPECT_EQ(done_count, before + (NT_SUCCESS(status) ? 1 : 0));
    return status;
}

static NTSTATUS transfer(struct scene *scene)
{
    struct pinion_request request = {.operation = PINION_WRITE, .buffer = scene->buffer, .bytes = BYTES};

    return pinion_transfer(scene->file, &request);
}

static NTSTATUS control(struct scene *scene)
{
    uint64_t information;

    return pinion_control(scene->file, CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS),
                          scene->buffer, PAGE_SIZE, NULL, 0, &information);
}

static NTSTATUS open_and_close(struct scene *scene)
{
    PFILE_OBJECT file = NULL;
    const NTSTATUS status = pinion_open(scene->layer.device, &file);

    scene->made = file;
    return status;
}

static void close_opened(struct scene *scene)
{
    pinion_close(scene->made);
}

/* pinion_submit with direct I/O: IRP, MDL, lock. */
TEST(fault_internal, submit__each_allocation_fails)
{
    sweep((struct routine){submit, NULL, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

/* pinion_transfer. */
TEST(fault_internal, transfer__each_allocation_fails)
{
    sweep((struct routine){transfer, NULL, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

/* pinion_control with buffered data. */
TEST(fault_internal, control__each_allocation_fails)
{
    sweep((struct routine){control, NULL, STATUS_INSUFFICIENT_RESOURCES, NULL});
}

/* pinion_open. */
TEST(fault_internal, open__each_allocation_fails)
{
    sweep((struct routine){open_and_close, close_opened, STATUS_INSUFFICIENT_RESOURCES, NULL});
}
