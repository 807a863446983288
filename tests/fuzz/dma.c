/* SPDX-License-Identifier: MIT */
/*
 * DMA: transfers of parts of an MDL chain by an adapter of any shape, beside a model of the bytes.
 *
 *     memory   ..[===part 0===]..    ..[=part 1=]..    ..[=====part 2=====]..       each with its `image`: what it must hold
 *     chain      |------------||--------||----------------|                         counted from 0
 *     transfer            ^-from               ^-from + bytes                       `bytes_seen`: what the device sees of it
 *
 * A device that reads must see the chain's bytes as they were when the transfer began; what a device has written must be in memory when
 * the transfer has ended, and every other byte, beside the parts too, must be as it was. How many elements there are, where they lie,
 * and what was copied meanwhile is the library's affair, but for what the adapter's shape demands.
 *
 * Transfers are not under way together where one writes what the other covers: what would come of it is nobody's promise.
 */

#include "machine.h"

#include <string.h>

enum {
    PARTS = 3, MOST_PAGES = 4, PART_BYTES = MOST_PAGES * PAGE_SIZE, CHAIN_BYTES = PARTS * PART_BYTES, TRANSFERS = 3, MOST_STEPS = 100,
    LIST_BYTES = sizeof(SCATTER_GATHER_LIST) + (CHAIN_BYTES / PAGE_SIZE + PARTS) * sizeof(SCATTER_GATHER_ELEMENT), TAG = 'zzuF',
};

struct part {
    UCHAR *memory;
    bool in_pool;
    size_t memory_bytes;
    PMDL mdl;
    size_t at, bytes;                   /* of the memory */
    size_t first;                       /* its first byte's place in the chain */
    UCHAR image[PART_BYTES];            /* of the memory, all of it */
};

struct transfer {
    bool begun;
    bool to_device;
    size_t from, bytes;                 /* of the chain */
    PMDL mdl;                           /* that the list was asked for */
    PSCATTER_GATHER_LIST list;          /* NULL: others come first */
    bool seen;                          /* the list was there before */
    UCHAR bytes_seen[CHAIN_BYTES];
    _Alignas(16) UCHAR own_list[LIST_BYTES], context[DMA_TRANSFER_CONTEXT_SIZE_V1];
};

static struct {
    struct fuzz_input input;
    struct part parts[PARTS];
    unsigned nparts;
    size_t bytes;                       /* of the chain */
    PDMA_ADAPTER adapter;
    const DMA_OPERATIONS *operations;
    DEVICE_DESCRIPTION description;
    ULONG registers;
    struct transfer transfers[TRANSFERS];
    bool fails, may_fail;               /* the call that comes next */
    KIRQL irql;
} world;

/* ---- the chain ---- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct part *part_at(size_t place)
{
    struct part *part = world.parts;

    while (place >= part->first + part->bytes)
        part++;
    return part;
}

/* The image's bytes of a stretch of the chain, and back. */
static void read_image(size_t from, size_t bytes, UCHAR *out)
{
    for (size_t done = 0, n; done < bytes; done += n) {
        const struct part *part = part_at(from + done);
        const size_t in_part = from + done - part->first;

        n = smaller(bytes - done, part->bytes - in_part);
        memcpy(out + done, part->image + part->at + in_part, n);
    }
}

static void write_image(size_t from, size_t bytes, const UCHAR *in)
{
    for (size_t done = 0, n; done < bytes; done += n) {
        struct part *part = part_at(from + done);
        const size_t in_part = from + done - part->first;

        n = smaller(bytes - done, part->bytes - in_part);
        memcpy(part->image + part->at + in_part, in + done, n);
    }
}

/* Map registers for so much of the chain: one for each page of each part. */
static size_t pages_of(size_t from, size_t bytes)
{
    size_t npages = 0;

    for (size_t done = 0, n; done < bytes; done += n) {
        const struct part *part = part_at(from + done);
        const size_t in_part = from + done - part->first;

        n = smaller(bytes - done, part->bytes - in_part);
        npages += ADDRESS_AND_SIZE_TO_SPAN_PAGES(part->memory + part->at + in_part, n);
    }
    return npages;
}

static void lock_body(void *mdl)
{
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
}

static void make_part(struct part *part)
{
    part->in_pool = fuzz_flag(&world.input);
    part->memory_bytes = PAGE_SIZE * (1 + fuzz_below(&world.input, MOST_PAGES));
    part->at = fuzz_place(&world.input, part->memory_bytes - 1);
    part->bytes = 1 + fuzz_place(&world.input, part->memory_bytes - part->at - 1);
    part->first = world.bytes;
    part->memory = part->in_pool ? ExAllocatePool2(POOL_FLAG_NON_PAGED, part->memory_bytes, TAG)
                                 : pinion_user_alloc(part->memory_bytes, PAGE_READWRITE);
    FUZZ_EXPECT(part->memory != NULL);
    fill_bytes(part->image, part->memory_bytes, fuzz_byte(&world.input));
    memcpy(part->memory, part->image, part->memory_bytes);
    part->mdl = IoAllocateMdl(part->memory + part->at, (ULONG)part->bytes, FALSE, FALSE, NULL);
    FUZZ_EXPECT(part->mdl != NULL);
    if (part->in_pool)
        MmBuildMdlForNonPagedPool(part->mdl);
    else
        FUZZ_EXPECT(pinion_try(lock_body, part->mdl) == STATUS_SUCCESS);
    world.bytes += part->bytes;
    FUZZ_TRACE("part of %zu + %zu in %zu bytes of %s\n", part->at, part->bytes, part->memory_bytes, part->in_pool ? "pool" : "a process");
}

static void make_chain(void)
{
    world.bytes = 0;
    world.nparts = 1 + fuzz_below(&world.input, PARTS);
    for (unsigned i = 0; i < world.nparts; i++) {
        make_part(&world.parts[i]);
        if (i > 0)
            world.parts[i - 1].mdl->Next = world.parts[i].mdl;
    }
}

static void check_memory(const struct part *part)
{
    if (memcmp(part->memory, part->image, part->memory_bytes) != 0)
        fuzz_fail(__FILE__, __LINE__, "memory to be as the model has it", " part %ld, byte %zu (the MDL is at %zu + %zu)",
                  part - world.parts, first_difference(part->memory, part->image, part->memory_bytes), part->at, part->bytes);
}

static void free_part(struct part *part)
{
    check_memory(part);
    part->mdl->Next = NULL;
    if (!part->in_pool)
        MmUnlockPages(part->mdl);
    IoFreeMdl(part->mdl);
    if (part->in_pool)
        ExFreePoolWithTag(part->memory, TAG);
    else
        pinion_user_free(part->memory);
}

/* ---- the adapter ---- */

static void get_adapter(void)
{
    static const ULONG widths[] = {24, 28, 32, 36, 40, 64};
    const ULONG version = 1 + fuzz_below(&world.input, 3), width = widths[fuzz_below(&world.input, 6)];
    const bool scatter_gather = fuzz_flag(&world.input);

    world.description = (DEVICE_DESCRIPTION){
        .Version = version, .Master = TRUE, .ScatterGather = scatter_gather, .InterfaceType = width == 24 ? Isa : PCIBus,
        .Dma32BitAddresses = width == 32, .Dma64BitAddresses = width == 64, .DmaAddressWidth = version == 3 ? width : 0,
        .MaximumLength = 1 + (ULONG)fuzz_place(&world.input, CHAIN_BYTES - 1),
    };
    world.adapter = IoGetDmaAdapter(NULL, &world.description, &world.registers);
    FUZZ_EXPECT(world.adapter != NULL && world.registers != 0);
    world.operations = world.adapter->DmaOperations;
    FUZZ_TRACE("adapter of version %u, %u bits, %s, %u registers\n", version, width, scatter_gather ? "scatter/gather" : "packet",
               world.registers);
}

/* The least width that a description without a width of its own can come to. */
static unsigned address_bits(void)
{
    if (world.description.Version == 3)
        return world.description.DmaAddressWidth;
    if (world.description.Dma64BitAddresses)
        return 64;
    return world.description.InterfaceType == Isa && !world.description.Dma32BitAddresses ? 24 : 32;
}

static void check_reach(uint64_t la, size_t bytes)
{
    const unsigned bits = address_bits();

    FUZZ_EXPECT(bits == 64 || la + bytes <= 1ull << bits, "0x%lx + %zu for %u bits", (unsigned long)la, bytes, bits);
}

static void to_dispatch(void)
{
    KeRaiseIrql(DISPATCH_LEVEL, &world.irql);
}

static void from_dispatch(void)
{
    KeLowerIrql(world.irql);
}

/* ---- failures ---- */

static void arm(const char *routine)
{
    const unsigned choice = fuzz_byte(&world.input);

    world.fails = routine != NULL && choice % 8 == 1;
    world.may_fail = choice % 8 == 2;
    if (world.fails)
        pinion_fail(routine, 1);
    if (world.may_fail)
        pinion_fail("internal", 1 + choice / 8 % 3);
}

/* True: the call has succeeded, as it was to. */
static bool outcome(const char *routine, NTSTATUS status, bool possible)
{
    if (world.fails)
        pinion_fail(routine, 0);
    if (world.may_fail)
        pinion_fail("internal", 0);
    FUZZ_TRACE("%s: 0x%x\n", routine, (unsigned)status);
    if (status == STATUS_SUCCESS)
        FUZZ_EXPECT(!world.fails);
    else
        FUZZ_EXPECT(status == STATUS_INSUFFICIENT_RESOURCES && (world.fails || world.may_fail || !possible), "%s: 0x%x", routine,
                    (unsigned)status);
    return status == STATUS_SUCCESS;
}

/* ---- lists ---- */

static void hear(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct transfer *transfer = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    FUZZ_EXPECT(transfer->begun && transfer->list == NULL && KeGetCurrentIrql() == DISPATCH_LEVEL);
    transfer->list = ScatterGather;
}

static bool any_begun(void)
{
    for (const struct transfer *transfer = world.transfers; transfer < world.transfers + TRANSFERS; transfer++)
        if (transfer->begun)
            return true;
    return false;
}

static bool collides(const struct transfer *one, const struct transfer *other)
{
    return other->begun && !(one->to_device && other->to_device) && one->from < other->from + other->bytes
        && other->from < one->from + one->bytes;
}

static bool may_begin(const struct transfer *wanted)
{
    for (const struct transfer *transfer = world.transfers; transfer < world.transfers + TRANSFERS; transfer++)
        if (collides(wanted, transfer))
            return false;
    return true;
}

/* Version 1 names the first byte by its address in the first MDL, version 3 by its place in the chain. */
static NTSTATUS ask(struct transfer *transfer, unsigned how)
{
    const struct part *part = part_at(transfer->from);
    const PVOID va = (UCHAR *)MmGetMdlVirtualAddress(part->mdl) + (transfer->from - part->first);
    const ULONG bytes = (ULONG)transfer->bytes;

    transfer->mdl = part->mdl;
    if (how % 4 == 1 && world.description.Version >= 2)
        return world.operations->BuildScatterGatherList(world.adapter, NULL, part->mdl, va, bytes, hear, transfer, transfer->to_device,
                                                        transfer->own_list, sizeof(transfer->own_list));
    if (how % 4 < 2 || world.description.Version < 3)
        return world.operations->GetScatterGatherList(world.adapter, NULL, part->mdl, va, bytes, hear, transfer, transfer->to_device);
    transfer->mdl = world.parts[0].mdl;
    FUZZ_EXPECT(world.operations->InitializeDmaTransferContext(world.adapter, transfer->context) == STATUS_SUCCESS);
    if (how % 4 == 2)
        return world.operations->GetScatterGatherListEx(world.adapter, NULL, transfer->context, transfer->mdl, transfer->from, bytes, 0,
                                                        hear, transfer, transfer->to_device, NULL, NULL, NULL);
    return world.operations->GetScatterGatherListEx(world.adapter, NULL, transfer->context, transfer->mdl, transfer->from, bytes,
                                                    DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, transfer->to_device, NULL, NULL, &transfer->list);
}

static void begin_list(void)
{
    struct transfer *transfer = &world.transfers[fuzz_below(&world.input, TRANSFERS)];
    const unsigned how = fuzz_byte(&world.input);
    const size_t from = fuzz_place(&world.input, world.bytes - 1), bytes = 1 + fuzz_place(&world.input, world.bytes - from - 1);
    const bool others = any_begun();
    const char *routine = how % 4 == 0 ? "GetScatterGatherList" : NULL;
    NTSTATUS status;

    if (transfer->begun)
        return;
    *transfer = (struct transfer){.from = from, .bytes = bytes, .to_device = how & 4};
    if (!may_begin(transfer))
        return;
    read_image(from, bytes, transfer->bytes_seen);
    transfer->begun = true;
    arm(routine);
    to_dispatch();
    status = ask(transfer, how);
    from_dispatch();
    FUZZ_TRACE("list %ld, way %u, %s, %zu + %zu: ", transfer - world.transfers, how % 4, transfer->to_device ? "out" : "in", from, bytes);
    transfer->begun = outcome(routine == NULL ? "list" : routine, status, pages_of(from, bytes) <= world.registers && !(others && how % 4 == 3));
}

/* What the device does with a stretch of a list, element by element. */
static void move(const struct transfer *transfer, size_t at, size_t bytes, UCHAR *data, bool write)
{
    const SCATTER_GATHER_LIST *list = transfer->list;
    size_t first = 0, done = 0;

    for (ULONG i = 0; i < list->NumberOfElements && done < bytes; first += list->Elements[i].Length, i++) {
        const size_t length = list->Elements[i].Length, in_element = at + done - first;
        const size_t n = at + done < first + length ? smaller(bytes - done, length - in_element) : 0;
        const uint64_t la = (uint64_t)list->Elements[i].Address.QuadPart + in_element;

        if (n == 0)
            continue;
        FUZZ_EXPECT((write ? pinion_device_write(world.adapter, la, data + done, n) : pinion_device_read(world.adapter, la, data + done, n))
                    == STATUS_SUCCESS, "element %u", i);
        done += n;
    }
    FUZZ_EXPECT(done == bytes);
}

static void check_device_sees(const struct transfer *transfer, size_t at, size_t bytes)
{
    static UCHAR seen[CHAIN_BYTES];

    move(transfer, at, bytes, seen, false);
    if (memcmp(seen, transfer->bytes_seen + at, bytes) != 0)
        fuzz_fail(__FILE__, __LINE__, "the device to see the chain", " list %ld, byte %zu", transfer - world.transfers,
                  at + first_difference(seen, transfer->bytes_seen + at, bytes));
}

static void check_new_list(struct transfer *transfer)
{
    const SCATTER_GATHER_LIST *list = transfer->list;
    size_t sum = 0;

    FUZZ_EXPECT(world.description.ScatterGather || list->NumberOfElements == 1, "%u elements", list->NumberOfElements);
    for (ULONG i = 0; i < list->NumberOfElements; i++) {
        check_reach((uint64_t)list->Elements[i].Address.QuadPart, list->Elements[i].Length);
        sum += list->Elements[i].Length;
    }
    FUZZ_EXPECT(sum == transfer->bytes, "%zu, not %zu bytes", sum, transfer->bytes);
    if (transfer->to_device)
        check_device_sees(transfer, 0, transfer->bytes);
    transfer->seen = true;
}

/* One of the transfers whose list is there; NULL: none. */
static struct transfer *pick_granted(void)
{
    const unsigned first = fuzz_below(&world.input, TRANSFERS);

    for (unsigned i = 0; i < TRANSFERS; i++) {
        struct transfer *transfer = &world.transfers[(first + i) % TRANSFERS];

        if (transfer->begun && transfer->list != NULL)
            return transfer;
    }
    return NULL;
}

static void device_moves(void)
{
    struct transfer *transfer = pick_granted();
    const size_t at = transfer == NULL ? 0 : fuzz_place(&world.input, transfer->bytes - 1);
    const size_t bytes = transfer == NULL ? 0 : 1 + fuzz_place(&world.input, transfer->bytes - at - 1);

    if (transfer == NULL)
        return;
    FUZZ_TRACE("device: list %ld, %zu + %zu\n", transfer - world.transfers, at, bytes);
    if (transfer->to_device) {
        check_device_sees(transfer, at, bytes);
        return;
    }
    fill_bytes(transfer->bytes_seen + at, bytes, fuzz_byte(&world.input));
    move(transfer, at, bytes, transfer->bytes_seen + at, true);
}

/* A new MDL shows what the device sees. The original one stands for itself. */
static void check_target(const struct transfer *transfer, PMDL target)
{
    size_t done = 0;

    for (PMDL mdl = target; mdl != NULL; mdl = mdl->Next) {
        const UCHAR *view = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
        const size_t bytes = MmGetMdlByteCount(mdl);

        FUZZ_EXPECT(view != NULL && bytes <= transfer->bytes - done);
        if (memcmp(view, transfer->bytes_seen + done, bytes) != 0)
            fuzz_fail(__FILE__, __LINE__, "the new MDL to show the list", " byte %zu",
                      done + first_difference(view, transfer->bytes_seen + done, bytes));
        done += bytes;
    }
    FUZZ_EXPECT(done == transfer->bytes, "%zu, not %zu bytes", done, transfer->bytes);
}

static void build_mdl(void)
{
    struct transfer *transfer = world.description.Version >= 2 ? pick_granted() : NULL;
    PMDL target = NULL;
    NTSTATUS status;

    if (transfer == NULL)
        return;
    arm("BuildMdlFromScatterGatherList");
    status = world.operations->BuildMdlFromScatterGatherList(world.adapter, transfer->list, transfer->mdl, &target);
    if (status == STATUS_NONE_MAPPED) { /* there is one already */
        world.fails = false;
        status = STATUS_SUCCESS;
        target = transfer->mdl;
    }
    if (outcome("BuildMdlFromScatterGatherList", status, true) && target != transfer->mdl)
        check_target(transfer, target);
}

static void put_list(struct transfer *transfer)
{
    FUZZ_TRACE("put list %ld\n", transfer - world.transfers);
    if (transfer->to_device)
        check_device_sees(transfer, 0, transfer->bytes);
    to_dispatch();
    world.operations->PutScatterGatherList(world.adapter, transfer->list, transfer->to_device);
    from_dispatch();
    if (!transfer->to_device)
        write_image(transfer->from, transfer->bytes, transfer->bytes_seen);
    transfer->begun = false;
}

static void put_some_list(void)
{
    struct transfer *transfer = pick_granted();

    if (transfer != NULL)
        put_list(transfer);
}

/* ---- packet DMA ---- */

static IO_ALLOCATION_ACTION keep_registers(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID MapRegisterBase, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PVOID *)Context = MapRegisterBase;
    return DeallocateObjectKeepRegisters;
}

/* What the device does with one stretch that was mapped for it; the bytes are noted in the image where it writes. */
static void move_mapped(uint64_t la, size_t from, size_t bytes, bool to_device, unsigned seed)
{
    static UCHAR seen[CHAIN_BYTES], wanted[CHAIN_BYTES];

    check_reach(la, bytes);
    if (to_device) {
        read_image(from, bytes, wanted);
        FUZZ_EXPECT(pinion_device_read(world.adapter, la, seen, bytes) == STATUS_SUCCESS);
        FUZZ_EXPECT(memcmp(seen, wanted, bytes) == 0, "at %zu of the chain", from + first_difference(seen, wanted, bytes));
    } else {
        fill_bytes(seen, bytes, seed);
        FUZZ_EXPECT(pinion_device_write(world.adapter, la, seen, bytes) == STATUS_SUCCESS);
        write_image(from, bytes, seen);
    }
}

/* All of a stretch of one part, with MapTransfer as often as it takes. */
static void map_all(const struct part *part, PVOID base, size_t at, size_t bytes, bool to_device)
{
    UCHAR *const start = (UCHAR *)MmGetMdlVirtualAddress(part->mdl) + at;
    const unsigned seed = fuzz_byte(&world.input);

    for (size_t done = 0; done < bytes;) {
        ULONG length = (ULONG)(bytes - done);
        const PHYSICAL_ADDRESS la = world.operations->MapTransfer(world.adapter, part->mdl, base, start + done, &length, to_device);

        FUZZ_EXPECT(length != 0 && length <= bytes - done);
        move_mapped((uint64_t)la.QuadPart, part->first + at + done, length, to_device, seed);
        done += length;
    }
    FUZZ_EXPECT(world.operations->FlushAdapterBuffers(world.adapter, part->mdl, base, start, (ULONG)bytes, to_device));
}

static void transfer_packet(void)
{
    const struct part *part = &world.parts[fuzz_below(&world.input, world.nparts)];
    const size_t at = fuzz_place(&world.input, part->bytes - 1), bytes = 1 + fuzz_place(&world.input, part->bytes - at - 1);
    const ULONG registers = (ULONG)pages_of(part->first + at, bytes);
    const bool to_device = fuzz_flag(&world.input);
    PVOID base = NULL;
    NTSTATUS status;

    if (any_begun())
        return;
    FUZZ_TRACE("packet %s, %zu + %zu\n", to_device ? "out" : "in", part->first + at, bytes);
    arm("AllocateAdapterChannel");
    to_dispatch();
    status = world.operations->AllocateAdapterChannel(world.adapter, NULL, registers, keep_registers, &base);
    from_dispatch();
    if (!outcome("AllocateAdapterChannel", status, registers <= world.registers))
        return;
    FUZZ_EXPECT(base != NULL);
    map_all(part, base, at, bytes, to_device);
    to_dispatch();
    world.operations->FreeMapRegisters(world.adapter, base, registers);
    from_dispatch();
}

/* A stretch of the chain, as much at a time as registers and the room in the list allow. */
static void map_all_ex(PVOID base, size_t from, size_t bytes, bool to_device)
{
    static _Alignas(16) UCHAR space[LIST_BYTES];
    const PSCATTER_GATHER_LIST list = (PSCATTER_GATHER_LIST)(void *)space;
    const ULONG room = (ULONG)(sizeof(*list) + (1 + fuzz_below(&world.input, 6)) * sizeof(list->Elements[0]));
    const unsigned seed = fuzz_byte(&world.input);
    const PMDL mdl = world.parts[0].mdl;

    for (size_t done = 0; done < bytes;) {
        ULONG length = (ULONG)(bytes - done);
        size_t in_list = 0;

        FUZZ_EXPECT(world.operations->MapTransferEx(world.adapter, mdl, base, from + done, 0, &length, to_device, list, room, NULL, NULL)
                    == STATUS_SUCCESS);
        FUZZ_EXPECT(length != 0 && length <= bytes - done);
        for (ULONG i = 0; i < list->NumberOfElements; in_list += list->Elements[i].Length, i++)
            move_mapped((uint64_t)list->Elements[i].Address.QuadPart, from + done + in_list, list->Elements[i].Length, to_device, seed);
        FUZZ_EXPECT(in_list == length);
        FUZZ_EXPECT(world.operations->FlushAdapterBuffersEx(world.adapter, mdl, base, from + done, length, to_device) == STATUS_SUCCESS);
        done += length;
    }
}

static void transfer_packet_ex(void)
{
    _Alignas(16) UCHAR context[DMA_TRANSFER_CONTEXT_SIZE_V1];
    const size_t from = fuzz_place(&world.input, world.bytes - 1), bytes = 1 + fuzz_place(&world.input, world.bytes - from - 1);
    const ULONG registers = 1 + fuzz_below(&world.input, world.registers);
    const bool to_device = fuzz_flag(&world.input);
    PVOID base = NULL;
    NTSTATUS status;

    if (any_begun() || world.description.Version < 3)
        return;
    FUZZ_TRACE("packet of version 3 %s, %zu + %zu, %u registers\n", to_device ? "out" : "in", from, bytes, registers);
    FUZZ_EXPECT(world.operations->InitializeDmaTransferContext(world.adapter, context) == STATUS_SUCCESS);
    arm(NULL);
    to_dispatch();
    status = world.operations->AllocateAdapterChannelEx(world.adapter, NULL, context, registers, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL,
                                                        &base);
    from_dispatch();
    if (!outcome("AllocateAdapterChannelEx", status, true))
        return;
    map_all_ex(base, from, bytes, to_device);
    world.operations->FreeAdapterObject(world.adapter, DeallocateObject);
}

/* ---- other ---- */

/* The processor and the device see the same bytes of it. */
static void use_common_buffer(void)
{
    static UCHAR seen[PART_BYTES];
    const ULONG bytes = 1 + (ULONG)fuzz_place(&world.input, PART_BYTES - 1);
    PHYSICAL_ADDRESS la;
    UCHAR *va;

    arm("AllocateCommonBuffer");
    va = world.operations->AllocateCommonBuffer(world.adapter, bytes, &la, TRUE);
    if (!outcome("AllocateCommonBuffer", va == NULL ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS, true))
        return;
    check_reach((uint64_t)la.QuadPart, bytes);
    fill_bytes(va, bytes, fuzz_byte(&world.input));
    FUZZ_EXPECT(pinion_device_read(world.adapter, (uint64_t)la.QuadPart, seen, bytes) == STATUS_SUCCESS);
    FUZZ_EXPECT(memcmp(va, seen, bytes) == 0);
    fill_bytes(seen, bytes, fuzz_byte(&world.input));
    FUZZ_EXPECT(pinion_device_write(world.adapter, (uint64_t)la.QuadPart, seen, bytes) == STATUS_SUCCESS);
    FUZZ_EXPECT(memcmp(va, seen, bytes) == 0);
    world.operations->FreeCommonBuffer(world.adapter, bytes, la, va, TRUE);
}

/* Between transfers the chain is its owner's. */
static void owner_writes(void)
{
    struct part *part = &world.parts[fuzz_below(&world.input, world.nparts)];
    const size_t at = fuzz_place(&world.input, part->memory_bytes - 1), bytes = 1 + fuzz_place(&world.input, part->memory_bytes - at - 1);

    if (any_begun())
        return;
    fill_bytes(part->image + at, bytes, fuzz_byte(&world.input));
    memcpy(part->memory + at, part->image + at, bytes);
}

/* ---- a whole input ---- */

/* Lists that were granted meanwhile; and a list that waits, waits for another one. */
static void check(void)
{
    bool waiting = false, granted = false;

    for (struct transfer *transfer = world.transfers; transfer < world.transfers + TRANSFERS; transfer++) {
        waiting |= transfer->begun && transfer->list == NULL;
        granted |= transfer->begun && transfer->list != NULL;
        if (transfer->begun && transfer->list != NULL && !transfer->seen)
            check_new_list(transfer);
    }
    FUZZ_EXPECT(!waiting || granted, "a list that nobody else is in the way of");
    for (unsigned i = 0; i < world.nparts && !granted && !waiting; i++)
        check_memory(&world.parts[i]);
}

static void put_all(void)
{
    struct transfer *transfer;

    while ((transfer = pick_granted()) != NULL) {
        put_list(transfer);
        check();
    }
}

static void step(void)
{
    static void (*const operations[])(void) = {
        begin_list, begin_list, begin_list, device_moves, device_moves, build_mdl, put_some_list, put_some_list, transfer_packet,
        transfer_packet_ex, use_common_buffer, owner_writes,
    };

    operations[fuzz_below(&world.input, sizeof(operations) / sizeof(operations[0]))]();
    check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    machine_begin_input();
    world.input = (struct fuzz_input){data, size};
    make_chain();
    get_adapter();
    for (unsigned n = 0; n < MOST_STEPS && world.input.left != 0; n++)
        step();
    put_all();
    world.operations->PutDmaAdapter(world.adapter);
    for (unsigned i = 0; i < world.nparts; i++)
        free_part(&world.parts[i]);
    machine_end_input();
    return 0;
}
