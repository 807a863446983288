/* SPDX-License-Identifier: MIT */
/*
 * Final completion: what the I/O manager does with an IRP of its own once the highest completion routine has
 * run.
 *
 * The data of buffered input goes to the requester's buffer, the MDLs of the chain are unlocked and freed, the
 * system buffer is freed, and last the requester is told. Windows does the first on the requester's thread, below
 * DISPATCH_LEVEL; here any thread does it, and the requester's memory is reached by its address.
 */

#include "io/io.h"

#include <string.h>

struct copy {
    void       *to;
    const void *from;
    size_t      bytes;
};

static void copy_bytes(void *context)
{
    const struct copy *copy = context;

    memcpy(copy->to, copy->from, copy->bytes);
}

/* At the IRQL of the requester's own thread: a page of the buffer that has been taken away can come back. */
static NTSTATUS copy_to_requester(struct copy copy)
{
    struct ke_thread *self = ke_self();
    const KIRQL irql = self->irql;
    NTSTATUS status;

    self->irql = PASSIVE_LEVEL;
    status = pinion_try(copy_bytes, &copy);
    self->irql = irql;
    return status;
}

static size_t bytes_to_return(const struct io_slot *slot, const IO_STATUS_BLOCK *outcome)
{
    if (outcome->Information <= slot->user_bytes)
        return outcome->Information;
    ke_warn("irp-information",
            "a driver completed a buffered request with IoStatus.Information 0x%llX; there is room for 0x%X bytes",
            (unsigned long long)outcome->Information, slot->user_bytes);
    return slot->user_bytes;
}

static void return_data(const struct io_slot *slot, IO_STATUS_BLOCK *outcome)
{
    struct copy copy = {.to = slot->user_buffer, .from = slot->system_buffer};
    NTSTATUS status;

    if (slot->user_buffer == NULL || NT_ERROR(outcome->Status))
        return;
    copy.bytes = bytes_to_return(slot, outcome);
    if (copy.bytes == 0)
        return;
    status = copy_to_requester(copy);
    if (!NT_SUCCESS(status))
        *outcome = (IO_STATUS_BLOCK){.Status = status};
}

void io_complete_finally(struct machine *machine, PIRP irp)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    IO_STATUS_BLOCK outcome = irp->IoStatus;

    if (slot == NULL || slot->finish == NULL) {
        ke_warn("irp-unclaimed",
                "IRP %p, which a driver allocated, was completed past its last completion routine; its owner must "
                "keep it by a completion routine that returns STATUS_MORE_PROCESSING_REQUIRED", (void *)irp);
        return;
    }
    return_data(slot, &outcome);
    io_irp_release_buffers(machine, irp);
    slot->finish(machine, slot, &outcome);
}
