/* SPDX-License-Identifier: MIT */
/*
 * Where IRPs live, and the routines that make, renew and free them.
 *
 * There are two kinds of slot, for stacks of up to 8 locations and for all others, each in an arena of its own.
 * Small ones pass through a cache of the thread: an IRP allocated and freed by one thread meets no lock, and
 * threads that free what others allocated hand slots over by the batch.
 */

#include "io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL_SLOTS = 1 << 18, LARGE_SLOTS = 1 << 12, BATCH = 32, MOST_REPORTED = 16 };

struct small_slot {
    struct io_slot    slot;
    IRP               irp;
    IO_STACK_LOCATION stack[IO_SMALL_STACK];
};

struct large_slot {
    struct io_slot    slot;
    IRP               irp;
    IO_STACK_LOCATION stack[IO_LARGE_STACK];
};

C_ASSERT(offsetof(struct small_slot, irp) == sizeof(struct io_slot));
C_ASSERT(offsetof(struct large_slot, irp) == sizeof(struct io_slot));
C_ASSERT(offsetof(struct small_slot, stack) == sizeof(struct io_slot) + sizeof(IRP));

/* Slots in a row; those from `nused` on have never been touched. Key: (C) constant after boot (L) under the lock */
struct io_arena {
    uint8_t        *base;               /* (C) */
    size_t          slot_bytes;         /* (C) */
    uint32_t        nslots;             /* (C) */
    uint32_t        nused;              /* (L) */
    struct io_slot *free;               /* (L) */
};

struct io_irps {
    struct host_mutex lock;
    struct io_arena   small;
    struct io_arena   large;
};

/* A thread's free small slots. Those of an earlier machine are gone with it. */
struct irp_cache {
    uint32_t        generation;
    unsigned        count;
    struct io_slot *first;
};

static _Thread_local struct irp_cache thread_cache;

/* ---- slots ---- */

static struct io_slot *take_locked(struct io_arena *arena, bool large)
{
    struct io_slot *slot = arena->free;

    if (slot != NULL) {
        arena->free = slot->next;
        return slot;
    }
    if (arena->nused == arena->nslots)
        return NULL;
    slot = (struct io_slot *)(void *)(arena->base + arena->nused++ * arena->slot_bytes);
    slot->large = large;
    return slot;
}

static void give_locked(struct io_arena *arena, struct io_slot *slot)
{
    slot->next = arena->free;
    arena->free = slot;
}

static struct irp_cache *own_cache(const struct machine *machine)
{
    struct irp_cache *cache = &thread_cache;

    if (UNLIKELY(cache->generation != machine->generation))
        *cache = (struct irp_cache){.generation = machine->generation};
    return cache;
}

static void push(struct irp_cache *cache, struct io_slot *slot)
{
    slot->next = cache->first;
    cache->first = slot;
    cache->count++;
}

static struct io_slot *pop(struct irp_cache *cache)
{
    struct io_slot *slot = cache->first;

    if (slot != NULL) {
        cache->first = slot->next;
        cache->count--;
    }
    return slot;
}

static void refill(struct io_irps *irps, struct irp_cache *cache)
{
    struct io_slot *slot;

    host_mutex_lock(&irps->lock);
    while (cache->count < BATCH && (slot = take_locked(&irps->small, false)) != NULL)
        push(cache, slot);
    host_mutex_unlock(&irps->lock);
}

static void hand_back(struct io_irps *irps, struct irp_cache *cache, unsigned count)
{
    host_mutex_lock(&irps->lock);
    while (count-- > 0)
        give_locked(&irps->small, pop(cache));
    host_mutex_unlock(&irps->lock);
}

static struct io_slot *take_small(const struct machine *machine)
{
    struct irp_cache *cache = own_cache(machine);

    if (UNLIKELY(cache->first == NULL))
        refill(machine->io->irps, cache);
    return pop(cache);
}

static void give_small(const struct machine *machine, struct io_slot *slot)
{
    struct irp_cache *cache = own_cache(machine);

    push(cache, slot);
    if (UNLIKELY(cache->count > 2 * BATCH))
        hand_back(machine->io->irps, cache, BATCH);
}

static struct io_slot *take_large(struct io_irps *irps)
{
    struct io_slot *slot;

    host_mutex_lock(&irps->lock);
    slot = take_locked(&irps->large, true);
    host_mutex_unlock(&irps->lock);
    return slot;
}

static void give_large(struct io_irps *irps, struct io_slot *slot)
{
    host_mutex_lock(&irps->lock);
    give_locked(&irps->large, slot);
    host_mutex_unlock(&irps->lock);
}

static bool lies_in(const struct io_arena *arena, uintptr_t irp, size_t slot_bytes)
{
    const uintptr_t delta = irp - (uintptr_t)arena->base;

    return delta < slot_bytes * arena->nslots && delta % slot_bytes == sizeof(struct io_slot);
}

struct io_slot *io_slot_of(const struct machine *machine, const IRP *irp)
{
    const struct io_irps *irps = machine->io->irps;
    const uintptr_t va = (uintptr_t)irp;

    if (lies_in(&irps->small, va, sizeof(struct small_slot)) || lies_in(&irps->large, va, sizeof(struct large_slot)))
        return (struct io_slot *)va - 1;
    return NULL;
}

/* ---- IRPs ---- */

static void initialize(PIRP irp, size_t bytes, CCHAR stack_size)
{
    memset(irp, 0, bytes);
    irp->Type = IO_TYPE_IRP;
    irp->Size = (USHORT)bytes;
    irp->StackCount = stack_size;
    irp->CurrentLocation = (CHAR)(stack_size + 1);
    irp->Tail.Overlay.CurrentStackLocation = (PIO_STACK_LOCATION)(irp + 1) + stack_size;
    InitializeListHead(&irp->ThreadListEntry);
}

static struct io_slot *take(const struct machine *machine, bool large)
{
    if (ke_internal_fails())
        return NULL;
    return large ? take_large(machine->io->irps) : take_small(machine);
}

static const void *remember(const struct machine *machine, struct ke_site site)
{
    return machine->hooks.remember == NULL ? NULL : machine->hooks.remember(site);
}

static PIRP allocate(const struct machine *machine, struct ke_site site, enum io_maker maker, CCHAR stack_size, io_finish_fn *finish)
{
    const bool large = stack_size > IO_SMALL_STACK;
    struct io_slot *slot = take(machine, large);
    PIRP irp;

    if (slot == NULL)
        return NULL;
    *slot = (struct io_slot){.finish = finish, .large = large, .live = true, .maker = (uint8_t)maker,
                             .allocated = remember(machine, site)};
    irp = io_slot_irp(slot);
    initialize(irp, IoSizeOfIrp(stack_size), stack_size);
    irp->AllocationFlags = IRP_ALLOCATED_FIXED_SIZE;
    ke_count(KE_IRPS_ALLOCATED, 1);
    ke_count(KE_LIVE_IRPS, 1);
    return irp;
}

/* A freed IRP is no IRP any more: completing or freeing it again is found out by its type. */
static void release(const struct machine *machine, struct io_slot *slot)
{
    io_slot_irp(slot)->Type = 0;
    atomic_store_explicit(&slot->live, false, memory_order_relaxed);
    if (slot->large)
        give_large(machine->io->irps, slot);
    else
        give_small(machine, slot);
    ke_count(KE_LIVE_IRPS, -1);
}

PIRP io_irp_new_by(struct machine *machine, enum io_maker maker, CCHAR stack_size, io_finish_fn *finish)
{
    PIRP irp = stack_size < 0 || stack_size > IO_LARGE_STACK ? NULL : allocate(machine, KE_SITE, maker, stack_size, finish);

    if (irp != NULL)
        KE_HOOK(machine, irp_allocate_record, irp);
    return irp;
}

PIRP io_irp_new(struct machine *machine, CCHAR stack_size, io_finish_fn *finish)
{
    return io_irp_new_by(machine, IO_BY_MANAGER, stack_size, finish);
}

void io_irp_free(struct machine *machine, PIRP irp)
{
    release(machine, io_slot_of(machine, irp));
    KE_HOOK(machine, irp_free_record, irp);
}

/* ---- the routines ---- */

PIRP IoAllocateIrp(CCHAR StackSize, BOOLEAN ChargeQuota)
{
    struct machine *machine = ke_machine();
    PIRP irp;

    if (StackSize < 0 || StackSize > IO_LARGE_STACK || ke_fails(KE_FALLIBLE_IoAllocateIrp))
        return NULL;
    irp = allocate(machine, KE_SITE, IO_BY_DRIVER, StackSize, NULL);
    if (irp == NULL)
        return NULL;
    if (ChargeQuota)
        irp->AllocationFlags |= IRP_QUOTA_CHARGED;
    KE_HOOK(machine, irp_allocate_record, irp);
    return irp;
}

enum { IRP_OF_A_THREAD = 0x02 };        /* parameter 1 of bug check 0xC9 */

/* Pool that the driver made an IRP of itself goes back to the pool; any other memory is bug check 0xC2 there. */
VOID IoFreeIrp(PIRP Irp)
{
    struct machine *machine = ke_machine();
    struct io_slot *slot = io_slot_of(machine, Irp);

    KE_HOOK(machine, irp_free_check, Irp);
    if (Irp->Type != IO_TYPE_IRP)
        ke_bug_check(MULTIPLE_IRP_COMPLETE_REQUESTS, (uintptr_t)Irp, 0, 0, 0);
    if (slot == NULL) {
        ExFreePool(Irp);
        return;
    }
    if (io_is_managers(slot))
        ke_bug_check(DRIVER_VERIFIER_IOMANAGER_VIOLATION, IRP_OF_A_THREAD, (uintptr_t)Irp, 0, 0);
    release(machine, slot);
    KE_HOOK(machine, irp_free_record, Irp);
}

VOID IoInitializeIrp(PIRP Irp, USHORT PacketSize, CCHAR StackSize)
{
    ke_machine();
    initialize(Irp, PacketSize, StackSize);
}

/* What IoBuildXxx and IoMakeAssociatedIrp have put into an IRP would be lost. */
static void warn_of_reuse(const struct io_slot *slot, const IRP *irp)
{
    if (slot != NULL && slot->maker != IO_BY_DRIVER)
        ke_warn("irp-reuse", "IoReuseIrp of IRP %p, which IoAllocateIrp has not made; allocate one that is to be used again",
                (const void *)irp);
}

VOID IoReuseIrp(PIRP Irp, NTSTATUS Iostatus)
{
    const UCHAR allocation_flags = Irp->AllocationFlags;

    warn_of_reuse(io_slot_of(ke_machine(), Irp), Irp);
    initialize(Irp, Irp->Size, Irp->StackCount);
    Irp->AllocationFlags = allocation_flags;
    Irp->IoStatus.Status = Iostatus;
}

/* ---- boot, check, shutdown ---- */

static size_t arena_bytes(const struct io_arena *arena)
{
    return span_bytes_to_pages(arena->slot_bytes * arena->nslots) * HOST_PAGE_SIZE;
}

static int open_arena(struct io_arena *arena, size_t slot_bytes, uint32_t nslots)
{
    void *base;
    int error;

    *arena = (struct io_arena){.slot_bytes = slot_bytes, .nslots = nslots};
    error = host_table(arena_bytes(arena), &base);
    if (error == 0)
        arena->base = base;
    return error;
}

int io_irps_boot(struct machine *machine)
{
    struct io_irps *irps = calloc(1, sizeof(*irps));
    int error;

    if (irps == NULL)
        return -ENOMEM;
    host_mutex_init(&irps->lock);
    machine->io->irps = irps;
    error = open_arena(&irps->small, sizeof(struct small_slot), SMALL_SLOTS);
    return error != 0 ? error : open_arena(&irps->large, sizeof(struct large_slot), LARGE_SLOTS);
}

void io_irps_shutdown(struct machine *machine)
{
    struct io_irps *irps = machine->io->irps;

    if (irps == NULL)
        return;
    if (irps->small.base != NULL)
        host_release(irps->small.base, arena_bytes(&irps->small));
    if (irps->large.base != NULL)
        host_release(irps->large.base, arena_bytes(&irps->large));
    host_mutex_destroy(&irps->lock);
    free(irps);
}

void io_irps_thread_exit(struct machine *machine)
{
    struct irp_cache *cache = own_cache(machine);

    hand_back(machine->io->irps, cache, cache->count);
}

const char *io_maker_name(const struct io_slot *slot)
{
    static const char *const names[] = {
        [IO_BY_DRIVER] = "IoAllocateIrp",
        [IO_BY_ASYNC_BUILD] = "IoBuildAsynchronousFsdRequest",
        [IO_BY_ASSOCIATION] = "IoMakeAssociatedIrp",
        [IO_BY_MANAGER] = "the I/O manager",
    };

    return names[slot->maker];
}

void io_irp_tell(const struct machine *machine, const struct io_slot *slot)
{
    const struct ke_hooks *hooks = &machine->hooks;

    if (hooks->tell_stack != NULL && slot->allocated != NULL)
        hooks->tell_stack("allocated at", slot->allocated);
    if (hooks->tell_code != NULL)
        hooks->tell_code("last with", (const void *)atomic_load_explicit(&slot->had_by, memory_order_relaxed));
}

static void report(struct io_slot *slot)
{
    const IRP *irp = io_slot_irp(slot);
    struct ke_finding finding;

    ke_finding_begin(&finding);
    if (!io_is_managers(slot))
        ke_warn("irp-leak", "IRP %p of %s was never freed", (const void *)irp, io_maker_name(slot));
    else
        ke_warn("irp-leak", "IRP %p of a request was never completed; it stands at location %d of %d",
                (const void *)irp, irp->CurrentLocation, irp->StackCount);
    io_irp_tell(&ke_the_machine, slot);
    ke_finding_end(&finding);
}

static void check_arena(struct io_arena *arena)
{
    unsigned leaked = 0;

    for (uint32_t i = 0; i < arena->nused; i++) {
        struct io_slot *slot = (struct io_slot *)(void *)(arena->base + i * arena->slot_bytes);

        if (atomic_load_explicit(&slot->live, memory_order_relaxed) && leaked++ < MOST_REPORTED)
            report(slot);
    }
    if (leaked > MOST_REPORTED)
        ke_warn("irp-leak", "and %u IRP%s more", leaked - MOST_REPORTED, leaked == MOST_REPORTED + 1 ? "" : "s");
}

/* The finding's place is where the dispatch routine begins, told as a call from there. */
static void report_lost(struct io_slot *slot)
{
    const uintptr_t dispatch = (uintptr_t)atomic_load_explicit(&slot->had_by, memory_order_relaxed), at = dispatch + 1;
    struct ke_finding finding;
    char name[256];

    ke_finding_begin(&finding);
    host_symbols_begin();
    host_symbol(at, name, sizeof(name));
    host_symbols_end();
    ke_warn("irp-lost", "IRP %p of a request has not come back; %s had it last", (const void *)io_slot_irp(slot),
            dispatch == 0 ? "no driver" : name);
    ke_finding_stack("last with", &at, dispatch != 0);
    ke_finding_end(&finding);
}

static unsigned report_lost_in(const struct io_arena *arena, const struct io_file *file, unsigned found)
{
    for (uint32_t i = 0; i < arena->nused; i++) {
        struct io_slot *slot = (struct io_slot *)(void *)(arena->base + i * arena->slot_bytes);

        if (atomic_load(&slot->live) && slot->file == file && found++ < MOST_REPORTED)
            report_lost(slot);
    }
    return found;
}

unsigned io_irps_report_lost(struct machine *machine, const struct io_file *file)
{
    const struct io_irps *irps = machine->io->irps;

    return report_lost_in(&irps->large, file, report_lost_in(&irps->small, file, 0));
}

void io_irps_check(struct machine *machine)
{
    struct io_irps *irps = machine->io->irps;

    host_mutex_lock(&irps->lock);
    check_arena(&irps->small);
    check_arena(&irps->large);
    host_mutex_unlock(&irps->lock);
}
