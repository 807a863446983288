/* SPDX-License-Identifier: MIT */
/*
 * Requests that belong to the thread which built them: a thread that ends cancels those that are still under way, and
 * waits a while for their end, as Windows does.
 *
 * Requests end on any thread, at any time. One that ends while its thread is cancelling it must stay, because a cancel
 * routine is looking at it: whoever ends it says so in its slot, and the cancelling thread frees it.
 */

#include "io/io.h"

#define PATIENCE_NS 5000000000ll
#define LOOK_EVERY_NS 1000000ll

static struct io_slot *slot_of_link(PLIST_ENTRY link)
{
    return CONTAINING_RECORD(link, struct io_slot, link);
}

/* How many threads' stacks it holds a part of: 0 or 1. */
static uint32_t lent(const struct io_slot *slot)
{
    return slot->status_frame.link != 0 || slot->event_frame.link != 0;
}

void io_request_queue(struct machine *machine, PIRP irp)
{
    struct io_slot *slot = io_slot_of(machine, irp);

    if (machine->hooks.irp_requester_check != NULL) {
        slot->status_frame = host_frame_of(irp->UserIosb);
        slot->event_frame = host_frame_of(irp->UserEvent);
    }
    host_mutex_lock(&machine->io->requests_lock);
    slot->thread = ke_self();
    atomic_fetch_add_explicit(&slot->thread->nlent, lent(slot), memory_order_relaxed);
    InsertTailList(&machine->io->requests, &slot->link);
    host_mutex_unlock(&machine->io->requests_lock);
}

static void forget_locked(struct io_slot *slot)
{
    if (slot->thread == NULL)
        return;
    atomic_fetch_sub_explicit(&slot->thread->nlent, lent(slot), memory_order_relaxed);
    RemoveEntryList(&slot->link);
    slot->thread = NULL;
}

struct io_ending io_request_unqueue(struct machine *machine, PIRP irp)
{
    struct io_slot *slot = io_slot_of(machine, irp);
    struct io_ending ending;

    host_mutex_lock(&machine->io->requests_lock);
    if (slot->thread != NULL)
        KE_HOOK(machine, irp_requester_check, irp, slot->thread == ke_self() ? (uintptr_t)__builtin_frame_address(0) : 0);
    forget_locked(slot);
    ending = (struct io_ending){.tell = !slot->abandoned, .free = !slot->cancelling};
    slot->over = true;
    host_mutex_unlock(&machine->io->requests_lock);
    return ending;
}

/* ---- what a request was lent of its thread's stack ---- */

static unsigned for_each_own(struct machine *machine, void (*visit_locked)(struct machine *, struct io_slot *, uintptr_t), uintptr_t sp)
{
    struct io_state *io = machine->io;
    unsigned n = 0;

    host_mutex_lock(&io->requests_lock);
    for (PLIST_ENTRY link = io->requests.Flink, next; link != &io->requests; link = next) {
        next = link->Flink;
        if (slot_of_link(link)->thread != ke_self())
            continue;
        n++;
        if (visit_locked != NULL)
            visit_locked(machine, slot_of_link(link), sp);
    }
    host_mutex_unlock(&io->requests_lock);
    return n;
}

/* One that its maker has, never sent or kept by its completion routine, ends only if the maker goes on with it. */
static void check_lent_locked(struct machine *machine, struct io_slot *slot, uintptr_t sp)
{
    if (atomic_load_explicit(&slot->had_by, memory_order_relaxed) != NULL)
        KE_HOOK(machine, irp_requester_check, io_slot_irp(slot), sp);
}

/* What was still lent when an earlier machine ended is nobody's any more. */
void io_requests_frames_left(struct machine *machine, uintptr_t sp)
{
    if (for_each_own(machine, check_lent_locked, sp) == 0)
        atomic_store_explicit(&ke_self()->nlent, 0, memory_order_relaxed);
}

/* ---- the end of a thread ---- */

static struct io_slot *next_to_cancel(struct machine *machine)
{
    struct io_state *io = machine->io;
    struct io_slot *found = NULL;

    host_mutex_lock(&io->requests_lock);
    for (PLIST_ENTRY link = io->requests.Flink; link != &io->requests && found == NULL; link = link->Flink)
        if (slot_of_link(link)->thread == ke_self() && !slot_of_link(link)->cancelled)
            found = slot_of_link(link);
    if (found != NULL)
        found->cancelled = found->cancelling = true;
    host_mutex_unlock(&io->requests_lock);
    return found;
}

static void cancel(struct machine *machine, struct io_slot *slot)
{
    bool over;

    (void)IoCancelIrp(io_slot_irp(slot));
    host_mutex_lock(&machine->io->requests_lock);
    slot->cancelling = false;
    over = slot->over;
    host_mutex_unlock(&machine->io->requests_lock);
    if (over)
        io_irp_free(machine, io_slot_irp(slot));
}

/* A thread that ends has left all its frames: nothing that stands on its stack may be written to any more. */
static void abandon_stack_locked(struct machine *machine, struct io_slot *slot, uintptr_t unused)
{
    const IRP *irp = io_slot_irp(slot);
    uintptr_t low, high;

    (void)unused;
    host_stack_bounds(&low, &high);
    KE_HOOK(machine, irp_requester_check, irp, high);
    if ((uintptr_t)irp->UserIosb - low < high - low || (uintptr_t)irp->UserEvent - low < high - low)
        slot->abandoned = true;
}

static void abandon_locked(struct machine *machine, struct io_slot *slot, uintptr_t unused)
{
    struct ke_finding finding;

    (void)unused;
    slot->abandoned = true;
    forget_locked(slot);
    ke_finding_begin(&finding);
    ke_warn("irp-lost",
            "a thread has ended, but IRP %p, which it had built, did not end within %lld s of being cancelled; whoever keeps an "
            "IRP sets a cancel routine", (void *)io_slot_irp(slot), PATIENCE_NS / 1000000000);
    io_irp_tell(machine, slot);
    ke_finding_end(&finding);
}

void io_requests_thread_exit(struct machine *machine)
{
    struct io_slot *slot;

    if (for_each_own(machine, abandon_stack_locked, 0) == 0)
        return;
    while ((slot = next_to_cancel(machine)) != NULL)
        cancel(machine, slot);
    for (int64_t waited = 0; waited < PATIENCE_NS && for_each_own(machine, NULL, 0) != 0; waited += LOOK_EVERY_NS)
        host_sleep_ns(LOOK_EVERY_NS);
    for_each_own(machine, abandon_locked, 0);
}
