/* SPDX-License-Identifier: MIT */
/*
 * MDLs: sequences of legal calls over a few buffers and a few MDLs, beside a model of what they must lead to (mdl_model.h).
 *
 * Nothing is done that would be a driver's mistake. Where a call ends what others rely on (a lock that partial MDLs live on, a mapping
 * that they share), they are retired first, as a driver would be done with them first.
 */

#include "machine.h"
#include "mdl_model.h"

/* ---- calls ---- */

static void arm(const char *routine)
{
    if (world.fault == ROUTINE_FAILS)
        pinion_fail(world.failing = routine, 1);
    else if (world.fault == ALLOCATION_FAILS)
        pinion_fail(world.failing = "internal", world.nth);
}

static void disarm(void)
{
    if (world.failing != NULL)
        pinion_fail(world.failing, 0);
    world.failing = NULL;
}

/* Around a call that may be told to fail: the outcome must be one that was possible. False: it failed, and nothing must have changed. */
static bool outcome(bool success)
{
    const bool may_succeed = world.fault != ROUTINE_FAILS || world.failing == NULL;
    const bool may_fail = world.fault != NO_FAULT && world.failing != NULL;

    disarm();
    FUZZ_EXPECT(success ? may_succeed : may_fail, "but a call %s", success ? "succeeded that was to fail" : "failed");
    return success;
}

/* Around a call that never fails, whatever allocation of the library's does. */
static void begin_call(bool may_be_raised)
{
    if (world.fault == ALLOCATION_FAILS)
        pinion_fail(world.failing = "internal", world.nth);
    world.irql = KeGetCurrentIrql();
    if (world.at_dispatch && may_be_raised)
        KeRaiseIrql(DISPATCH_LEVEL, &world.irql);
}

static void end_call(void)
{
    KeLowerIrql(world.irql);
    disarm();
}

/* ---- being done with what is about to go ---- */

static void unmap_user(struct slot *slot)
{
    if (slot->user == NULL)
        return;
    begin_call(false);
    MmUnmapLockedPages(slot->user, slot->mdl);
    end_call();
    slot->user = NULL;
}

static void retire(struct slot *slot);

static void retire_borrowers(const struct slot *lender)
{
    for (struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (slot != lender && slot->lender == lender)
            retire(slot);
}

static void prepare_for_reuse(struct slot *slot)
{
    if (owns_mapping(slot))
        retire_borrowers(slot);
    begin_call(true);
    MmPrepareMdlForReuse(slot->mdl);
    end_call();
    if (owns_mapping(slot)) {
        slot->system = NULL;
        slot->lender = NULL;
    }
}

/* Nobody looks at what the partial MDL describes from here on; it may still be a target, or be freed. */
static void retire(struct slot *slot)
{
    unmap_user(slot);
    prepare_for_reuse(slot);
    slot->state = DESCRIBES;
    slot->buffer = NULL;
    slot->system = NULL;
    slot->lender = slot->root = NULL;
}

/* The partial MDLs that live on the slot's hold of pages below `page`. */
static void retire_parts(const struct slot *root, const UCHAR *page)
{
    for (struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (slot->state == PART && slot->root == root && (UCHAR *)PAGE_ALIGN(slot->va) < page)
            retire(slot);
}

static void retire_all_parts(const struct slot *root)
{
    retire_parts(root, (const UCHAR *)UINTPTR_MAX);
}

/* A buffer that was freed while its pages were locked is gone with the last lock. */
static void forget_if_gone(struct buffer *buffer)
{
    if (buffer->origin == PROCESS && buffer->va == NULL && !is_held(buffer))
        buffer->origin = NOWHERE;
}

/* ---- buffers ---- */

static UCHAR *allocate_buffer(struct buffer *buffer)
{
    const bool paged = buffer->origin == PAGED_POOL;

    switch (buffer->origin) {
    case PROCESS:
        for (size_t i = 0; i < PAGES; i++)
            buffer->protection[i] = PAGE_READWRITE;
        buffer->bytes = ROUND_TO_PAGES(buffer->bytes);
        return pinion_user_alloc(buffer->bytes, PAGE_READWRITE);
    case HOST:
        return world.host_memory[buffer - world.buffers] + fuzz_place(&world.input, PAGE_SIZE);
    default:
        return ExAllocatePool2(paged ? POOL_FLAG_PAGED : POOL_FLAG_NON_PAGED, buffer->bytes, TAG);
    }
}

static void make_buffer(void)
{
    struct buffer *buffer = &world.buffers[fuzz_below(&world.input, BUFFERS)];

    if (buffer->origin != NOWHERE)
        return;
    *buffer = (struct buffer){.origin = (enum origin)(PROCESS + fuzz_below(&world.input, HOST)),
                              .bytes = 1 + fuzz_place(&world.input, BUFFER_BYTES - 1)};
    buffer->va = allocate_buffer(buffer);
    FUZZ_EXPECT(buffer->va != NULL);
    FUZZ_TRACE("buffer %ld: origin %d, %zu bytes at %p\n", buffer - world.buffers, buffer->origin, buffer->bytes, (void *)buffer->va);
    fill_bytes(buffer->image, buffer->bytes, fuzz_byte(&world.input));
    memcpy(buffer->va, buffer->image, buffer->bytes);
}

static void free_memory(struct buffer *buffer)
{
    if (buffer->origin == PROCESS) {
        pinion_user_protect(buffer->va, buffer->bytes, PAGE_READWRITE);
        expect_image(buffer, 0, buffer->va, buffer->bytes, "memory that is freed");
        pinion_user_free(buffer->va);
    } else if (buffer->origin != HOST) {
        expect_image(buffer, 0, buffer->va, buffer->bytes, "pool that is freed");
        ExFreePoolWithTag(buffer->va, TAG);
    }
}

/* Process memory may be freed while it is locked: its pages live on, and whoever has them mapped still sees them. */
static void free_buffer(struct buffer *buffer)
{
    if (buffer->va == NULL || (buffer->origin != PROCESS && is_held(buffer)))
        return;
    FUZZ_TRACE("free buffer %ld\n", buffer - world.buffers);
    for (struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (slot->buffer == buffer && slot->state == DESCRIBES)
            slot->buffer = NULL;
    free_memory(buffer);
    buffer->va = NULL;
    if (buffer->origin != PROCESS)
        buffer->origin = NOWHERE;
    forget_if_gone(buffer);
}

static void free_some_buffer(void)
{
    free_buffer(&world.buffers[fuzz_below(&world.input, BUFFERS)]);
}

static void trim(void)
{
    pinion_trim();
    FUZZ_EXPECT(pinion_trim() == 0);
}

static void protect_buffer(void)
{
    static const ULONG protections[] = {PAGE_READWRITE, PAGE_READONLY, PAGE_NOACCESS};
    struct buffer *buffer = &world.buffers[fuzz_below(&world.input, BUFFERS)];
    const size_t page = fuzz_below(&world.input, PAGES);
    const ULONG protection = protections[fuzz_below(&world.input, 3)];

    if (buffer->origin != PROCESS || buffer->va == NULL || page >= buffer->bytes / PAGE_SIZE)
        return;
    FUZZ_TRACE("protect buffer %ld, page %zu: 0x%x\n", buffer - world.buffers, page, protection);
    pinion_user_protect(buffer->va + page * PAGE_SIZE, PAGE_SIZE, protection);
    buffer->protection[page] = protection;
}

/* The owner looks at one of its pages, and writes to it. */
static void touch_buffer(void)
{
    struct buffer *buffer = &world.buffers[fuzz_below(&world.input, BUFFERS)];
    const size_t at = fuzz_place(&world.input, BUFFER_BYTES - 1);
    const UCHAR value = (UCHAR)fuzz_byte(&world.input);
    const ULONG protection = buffer->origin == PROCESS ? buffer->protection[at >> PAGE_SHIFT] : PAGE_READWRITE;

    if (buffer->va == NULL || at >= buffer->bytes || protection == PAGE_NOACCESS)
        return;
    expect_image(buffer, at, buffer->va + at, 1, "the buffer itself");
    if (protection == PAGE_READWRITE)
        buffer->va[at] = buffer->image[at] = value;
}

/* ---- MDLs ---- */

static void describe(struct slot *slot, struct buffer *buffer, size_t from, size_t bytes)
{
    *slot = (struct slot){.state = DESCRIBES, .buffer = buffer, .from = from, .bytes = bytes};
    slot->va = buffer == NULL ? NULL : address_behind(buffer->va, from);
    slot->room = span_of(slot);
}

/* Over a part of a buffer, or for nothing yet. */
static void allocate_mdl(void)
{
    struct slot *slot = pick(is_free);
    struct buffer *buffer = &world.buffers[fuzz_below(&world.input, BUFFERS)];
    const size_t from = fuzz_place(&world.input, BUFFER_BYTES - 1), bytes = 1 + fuzz_place(&world.input, BUFFER_BYTES - 1);

    if (slot == NULL || (buffer->va != NULL && from >= buffer->bytes))
        return;
    if (buffer->va == NULL)
        describe(slot, NULL, 0, bytes);
    else
        describe(slot, buffer, from, 1 + (bytes - 1) % (buffer->bytes - from));
    arm("IoAllocateMdl");
    slot->mdl = IoAllocateMdl(slot->va, (ULONG)slot->bytes, FALSE, FALSE, NULL);
    FUZZ_TRACE("MDL %ld: allocated over %zu + %zu\n", slot - world.slots, slot->from, slot->bytes);
    if (!outcome(slot->mdl != NULL))
        *slot = (struct slot){0};
}

static void allocate_pages(void)
{
    struct slot *slot = pick(is_free);
    struct buffer *buffer = &world.buffers[fuzz_below(&world.input, BUFFERS)];
    const PHYSICAL_ADDRESS lowest = {.QuadPart = 0}, highest = {.QuadPart = -1 & INT64_MAX};
    const size_t npages = 1 + fuzz_below(&world.input, PAGES);

    if (slot == NULL || buffer->origin != NOWHERE)
        return;
    *buffer = (struct buffer){.origin = ALLOCATED_PAGES, .bytes = npages * PAGE_SIZE};
    describe(slot, buffer, 0, buffer->bytes);
    arm("MmAllocatePagesForMdlEx");
    slot->mdl = MmAllocatePagesForMdlEx(lowest, highest, lowest, buffer->bytes, MmCached, MM_ALLOCATE_FULLY_REQUIRED);
    FUZZ_TRACE("MDL %ld: %zu pages\n", slot - world.slots, npages);
    slot->state = OWN_PAGES;
    slot->for_write = true;
    if (!outcome(slot->mdl != NULL)) {
        *slot = (struct slot){0};
        buffer->origin = NOWHERE;
        return;
    }
    memcpy(slot->pfns, MmGetMdlPfnArray(slot->mdl), npages * sizeof(PFN_NUMBER));
}

/* The page numbers that the MDL must have been given: what stands behind the addresses of its buffer. */
static void note_pages(struct slot *slot)
{
    for (size_t i = 0; i < span_of(slot); i++)
        slot->pfns[i] = (PFN_NUMBER)MmGetPhysicalAddress((UCHAR *)PAGE_ALIGN(slot->va) + i * PAGE_SIZE).QuadPart >> PAGE_SHIFT;
}

struct lock_call {
    struct slot *slot;
    KPROCESSOR_MODE mode;
    LOCK_OPERATION operation;
    bool names_process;
};

static void lock_body(void *context)
{
    const struct lock_call *call = context;

    if (call->names_process)
        MmProbeAndLockProcessPages(call->slot->mdl, IoGetCurrentProcess(), call->mode, call->operation);
    else
        MmProbeAndLockPages(call->slot->mdl, call->mode, call->operation);
}

/* Is there a page among the slot's that refuses the access? */
static bool is_refused(const struct slot *slot, bool write)
{
    const ULONG *protection = &slot->buffer->protection[slot->from >> PAGE_SHIFT];

    for (size_t i = 0; slot->buffer->origin == PROCESS && i < span_of(slot); i++)
        if (protection[i] == PAGE_NOACCESS || (write && protection[i] == PAGE_READONLY))
            return true;
    return false;
}

static void lock(void)
{
    struct slot *slot = pick(is_lockable);
    const unsigned how = fuzz_byte(&world.input);
    struct lock_call call = {.slot = slot, .mode = how & 1 ? UserMode : KernelMode, .operation = (LOCK_OPERATION)((how >> 1) % 3)};
    NTSTATUS status;

    if (slot == NULL)
        return;
    if (slot->buffer->origin == PAGED_POOL || slot->buffer->origin == NONPAGED_POOL)
        call.mode = KernelMode;
    if (slot->buffer->origin == HOST)
        call.operation = IoWriteAccess; /* what is locked for reading is mapped for reading only, and host memory cannot be */
    call.names_process = slot->buffer->origin == PROCESS && (how & 0x80);
    arm(call.names_process ? "MmProbeAndLockProcessPages" : "MmProbeAndLockPages");
    status = pinion_try(lock_body, &call);
    FUZZ_TRACE("MDL %ld: lock %d: 0x%x\n", slot - world.slots, call.operation, (unsigned)status);
    if (is_refused(slot, call.operation != IoReadAccess)) {
        disarm();
        FUZZ_EXPECT(!NT_SUCCESS(status));
    } else if (outcome(status == STATUS_SUCCESS)) {
        slot->state = LOCKED;
        slot->for_write = call.operation != IoReadAccess;
        note_pages(slot);
    }
}

static void build(void)
{
    struct slot *slot = pick(is_buildable);

    if (slot == NULL)
        return;
    FUZZ_TRACE("MDL %ld: build\n", slot - world.slots);
    begin_call(true);
    MmBuildMdlForNonPagedPool(slot->mdl);
    end_call();
    slot->state = BUILT;
    slot->for_write = slot->system_writable = true;
    slot->system = slot->va;
    note_pages(slot);
}

/* The part of a source that begins at `at`: its pages, and what it shares with the source. */
static void become_part(struct slot *slot, const struct slot *source, size_t at, size_t bytes)
{
    *slot = (struct slot){.mdl = slot->mdl, .state = PART, .buffer = source->buffer, .va = address_behind(source->va, at), .from = source->from + at,
                          .bytes = bytes, .room = slot->room, .for_write = source->for_write};
    memcpy(slot->pfns, source->pfns + page_at(source, at), span_of(slot) * sizeof(PFN_NUMBER));
    if (source->state != BUILT)
        slot->root = source->state == PART ? source->root : (struct slot *)source;
    if (source->system != NULL) {
        slot->system = source->system + at;
        slot->system_writable = source->system_writable;
        slot->lender = source->lender;
    }
}

static void build_part(void)
{
    struct slot *source = pick(holds), *slot = pick(is_target);
    const size_t at = source == NULL ? 0 : fuzz_place(&world.input, source->bytes - 1);
    const size_t wanted = source == NULL ? 0 : fuzz_place(&world.input, source->bytes - at);
    const size_t bytes = source == NULL || wanted != 0 ? wanted : source->bytes - at;

    if (source == NULL || slot == NULL || slot == source || ADDRESS_AND_SIZE_TO_SPAN_PAGES(address_behind(source->va, at), bytes) > slot->room)
        return;
    FUZZ_TRACE("MDL %ld: part of %ld, %zu + %zu\n", slot - world.slots, source - world.slots, at, bytes);
    begin_call(true);
    IoBuildPartialMdl(source->mdl, slot->mdl, address_behind(MmGetMdlVirtualAddress(source->mdl), at), (ULONG)wanted);
    end_call();
    become_part(slot, source, at, bytes);
}

static void advance(void)
{
    struct slot *slot = pick(is_advanceable);
    const size_t by = slot == NULL ? 0 : fuzz_place(&world.input, slot->bytes + PAGE_SIZE);
    size_t span, passed;
    NTSTATUS status;

    if (slot == NULL)
        return;
    span = span_of(slot);
    passed = by < slot->bytes ? page_at(slot, by) : 0;
    if (slot->state == LOCKED)
        retire_parts(slot, address_behind(PAGE_ALIGN(slot->va), passed * PAGE_SIZE));
    begin_call(true);
    status = MmAdvanceMdl(slot->mdl, (ULONG)by);
    end_call();
    FUZZ_TRACE("MDL %ld: advance by %zu: 0x%x\n", slot - world.slots, by, (unsigned)status);
    FUZZ_EXPECT(status == (by < slot->bytes ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER_2));
    if (by >= slot->bytes)
        return;
    memmove(slot->pfns, slot->pfns + passed, (span - passed) * sizeof(PFN_NUMBER));
    slot->va = address_behind(slot->va, by);
    slot->from += by;
    slot->bytes -= by;
    if (slot->system != NULL)
        slot->system += by;
}

static void unlock(struct slot *slot)
{
    if (slot == NULL)
        return;
    FUZZ_TRACE("MDL %ld: unlock\n", slot - world.slots);
    retire_all_parts(slot);
    unmap_user(slot);
    begin_call(true);
    MmUnlockPages(slot->mdl);
    end_call();
    slot->state = DESCRIBES;
    slot->system = NULL;
    slot->lender = NULL;
    forget_if_gone(slot->buffer);
    if (slot->buffer->va == NULL)
        slot->buffer = NULL;
}

static void unlock_some(void)
{
    unlock(pick(is_locked));
}

static void free_pages(struct slot *slot)
{
    retire_all_parts(slot);
    begin_call(true);
    MmFreePagesFromMdl(slot->mdl);
    ExFreePool(slot->mdl);
    end_call();
    slot->buffer->origin = NOWHERE;
}

static void free_mdl(struct slot *slot)
{
    struct buffer *buffer;

    if (slot == NULL)
        return;
    FUZZ_TRACE("MDL %ld: free\n", slot - world.slots);
    buffer = slot->buffer;
    unmap_user(slot);
    if (owns_mapping(slot))
        retire_borrowers(slot);
    if (slot->state == OWN_PAGES) {
        free_pages(slot);
    } else {
        begin_call(true);
        IoFreeMdl(slot->mdl);
        end_call();
    }
    *slot = (struct slot){0};
    if (buffer != NULL)
        forget_if_gone(buffer);
}

static void free_some_mdl(void)
{
    free_mdl(pick(is_freeable));
}

/* ---- mappings ---- */

static ULONG some_priority(const struct slot *slot, bool *writable)
{
    static const ULONG priorities[] = {LowPagePriority, NormalPagePriority, HighPagePriority};
    const bool no_write = fuzz_flag(&world.input) && slot->buffer->origin != HOST;

    *writable = slot->for_write && !no_write;
    return priorities[fuzz_below(&world.input, 3)] | (ULONG)MdlMappingNoExecute | (no_write ? (ULONG)MdlMappingNoWrite : 0);
}

static void note_mapped(struct slot *slot, UCHAR *va, bool writable)
{
    FUZZ_TRACE("MDL %ld: mapped at %p\n", slot - world.slots, (void *)va);
    slot->system = va;
    slot->system_writable = writable;
    slot->lender = slot;
}

static void get_system_address(void)
{
    struct slot *slot = pick(holds);
    bool writable;
    ULONG priority;
    UCHAR *va;

    if (slot == NULL)
        return;
    priority = some_priority(slot, &writable);
    if (slot->system == NULL)
        arm("MmGetSystemAddressForMdlSafe");
    if (world.at_dispatch)
        KeRaiseIrql(DISPATCH_LEVEL, &world.irql);
    va = MmGetSystemAddressForMdlSafe(slot->mdl, priority);
    if (world.at_dispatch)
        KeLowerIrql(world.irql);
    if (slot->system != NULL)
        FUZZ_EXPECT(va == slot->system, "MDL %ld: at %p, not at %p", slot - world.slots, (void *)va, (void *)slot->system);
    else if (outcome(va != NULL))
        note_mapped(slot, va, writable);
}

static void map_system(void)
{
    struct slot *slot = pick(is_mappable);
    bool writable;
    ULONG priority;
    UCHAR *va;

    if (slot == NULL)
        return;
    priority = some_priority(slot, &writable);
    arm("MmMapLockedPagesSpecifyCache");
    va = MmMapLockedPagesSpecifyCache(slot->mdl, KernelMode, MmCached, NULL, FALSE, priority);
    if (outcome(va != NULL))
        note_mapped(slot, va, writable);
}

static void unmap_system(void)
{
    struct slot *slot = pick(owns_mapping);

    if (slot == NULL)
        return;
    FUZZ_TRACE("MDL %ld: unmap\n", slot - world.slots);
    retire_borrowers(slot);
    begin_call(true);
    MmUnmapLockedPages(slot->system, slot->mdl);
    end_call();
    slot->system = NULL;
    slot->lender = NULL;
}

static void reuse(void)
{
    struct slot *slot = pick(is_reusable);

    if (slot == NULL)
        return;
    FUZZ_TRACE("MDL %ld: prepare for reuse\n", slot - world.slots);
    prepare_for_reuse(slot);
}

struct map_call {
    PMDL mdl;
    ULONG priority;
    UCHAR *va;
};

static void map_body(void *context)
{
    struct map_call *call = context;

    call->va = MmMapLockedPagesSpecifyCache(call->mdl, UserMode, MmCached, NULL, FALSE, call->priority);
}

static void map_user(void)
{
    struct slot *slot = pick(is_user_mappable);
    struct map_call call = {0};

    if (slot == NULL)
        return;
    call.mdl = slot->mdl;
    call.priority = some_priority(slot, &slot->user_writable);
    arm("MmMapLockedPagesSpecifyCache");
    if (outcome(pinion_try(map_body, &call) == STATUS_SUCCESS))
        slot->user = call.va;
    FUZZ_TRACE("MDL %ld: mapped for the user at %p\n", slot - world.slots, (void *)slot->user);
}

static void unmap_some_user(void)
{
    struct slot *slot = pick(is_user_mapped);

    if (slot != NULL)
        unmap_user(slot);
}

/* A mapping that partial MDLs share is left as it is: what it permits would change for them, too. */
static void protect_mapping(void)
{
    struct slot *slot = pick(holds);
    const bool writable = fuzz_flag(&world.input);
    NTSTATUS status;

    if (slot == NULL || slot->buffer->origin == HOST || (slot->lender != NULL && !owns_mapping(slot)) || is_lent(slot))
        return;
    begin_call(true);
    status = MmProtectMdlSystemAddress(slot->mdl, writable ? PAGE_READWRITE : PAGE_READONLY);
    KeLowerIrql(world.irql);
    FUZZ_TRACE("MDL %ld: protect: 0x%x\n", slot - world.slots, (unsigned)status);
    if (!owns_mapping(slot)) {
        disarm();
        FUZZ_EXPECT(status == STATUS_NOT_MAPPED_VIEW);
    } else if (outcome(status == STATUS_SUCCESS)) {
        slot->system_writable = writable && slot->for_write;
    }
}

/* Through one of the addresses at which a slot's range is seen. */
static void store(void)
{
    struct slot *slot = pick(is_writable);
    size_t at, bytes;
    bool by_user;
    UCHAR *to;

    if (slot == NULL)
        return;
    by_user = slot->user != NULL && slot->user_writable && (fuzz_flag(&world.input) || slot->system == NULL || !slot->system_writable);
    to = by_user ? slot->user : slot->system;
    at = fuzz_place(&world.input, slot->bytes - 1);
    bytes = 1 + fuzz_place(&world.input, slot->bytes - at - 1);
    FUZZ_TRACE("MDL %ld: store %zu + %zu at %p\n", slot - world.slots, at, bytes, (void *)to);
    fill_bytes(slot->buffer->image + slot->from + at, bytes, fuzz_byte(&world.input));
    memcpy(to + at, slot->buffer->image + slot->from + at, bytes);
}

/* ---- a whole input ---- */

static void (*const operations[])(void) = {
    make_buffer, make_buffer, free_some_buffer, trim, protect_buffer, touch_buffer,
    allocate_mdl, allocate_mdl, allocate_mdl, allocate_pages, lock, lock, lock, build, build_part, build_part, build_part, advance,
    unlock_some, free_some_mdl,
    get_system_address, get_system_address, map_system, unmap_system, reuse, map_user, unmap_some_user, protect_mapping, store, store,
};

static void step(void)
{
    const unsigned which = fuzz_below(&world.input, sizeof(operations) / sizeof(operations[0]));
    const unsigned how = fuzz_byte(&world.input);

    world.fault = (how & 7) == 1 ? ROUTINE_FAILS : (how & 7) == 2 ? ALLOCATION_FAILS : NO_FAULT;
    world.nth = 1 + (how >> 3) % 4;
    world.at_dispatch = (how & 0xC0) == 0xC0;
    operations[which]();
    check();
}

static void clear_away(void)
{
    world.fault = NO_FAULT;
    world.at_dispatch = false;
    for (struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (is_locked(slot))
            unlock(slot);
    for (struct slot *slot = world.slots; slot < world.slots + SLOTS; slot++)
        if (!is_free(slot))
            free_mdl(slot);
    for (struct buffer *buffer = world.buffers; buffer < world.buffers + BUFFERS; buffer++)
        free_buffer(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    machine_begin_input();
    world.input = (struct fuzz_input){data, size};
    for (unsigned n = 0; n < MOST_STEPS && world.input.left != 0; n++)
        step();
    clear_away();
    machine_end_input();
    return 0;
}
