/* SPDX-License-Identifier: MIT */
/*
 * GetScatterGatherList, BuildScatterGatherList, CalculateScatterGatherList, PutScatterGatherList: what a list describes, what
 * the device sees through it, and what the driver sees afterwards.
 */

#include "harness.h"
#include <wdm.h>

#include <stdlib.h>

#include "dma_support.h"

enum { PAGES = 6, SEED = 3 };

/* A locked buffer of the current process, which begins and ends inside a page. */
struct subject {
    UCHAR *va;
    PMDL mdl;
    ULONG bytes;
};

static struct subject make_subject(ULONG off, ULONG bytes)
{
    struct subject subject = {.va = user_pattern(BYTES_TO_PAGES(off + bytes), SEED), .bytes = bytes};

    subject.mdl = locked_mdl(subject.va + off, bytes);
    return subject;
}

static void end_subject(struct subject *subject)
{
    unlock_and_free(subject->mdl);
    pinion_user_free(subject->va);
}

/* ---- Types ----------------------------------------------------------------------------------------------------- */

/* GetScatterGatherList-01, CalculateScatterGatherList-01, BuildScatterGatherList-01, AdapterListControl-01: the types are those of the pages. */
TEST(dma_list, members__by_their_documented_types__are_there)
{
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, 65536);
    NTSTATUS (*const get)(PDMA_ADAPTER, PDEVICE_OBJECT, PMDL, PVOID, ULONG, PDRIVER_LIST_CONTROL, PVOID, BOOLEAN) =
        adapter->DmaOperations->GetScatterGatherList;
    NTSTATUS (*const calculate)(PDMA_ADAPTER, PMDL, PVOID, ULONG, PULONG, PULONG) =
        adapter->DmaOperations->CalculateScatterGatherList;
    NTSTATUS (*const build)(PDMA_ADAPTER, PDEVICE_OBJECT, PMDL, PVOID, ULONG, PDRIVER_LIST_CONTROL, PVOID, BOOLEAN, PVOID, ULONG) =
        adapter->DmaOperations->BuildScatterGatherList;
    VOID (*const control)(struct _DEVICE_OBJECT *, struct _IRP *, PSCATTER_GATHER_LIST, PVOID) = hear;
    const PDRIVER_LIST_CONTROL role = hear;

    EXPECT(get != NULL && calculate != NULL && build != NULL);
    EXPECT(role == control);
    put_adapter(adapter);
}

/* ---- What a list describes ------------------------------------------------------------------------------------- */

/* SCATTER_GATHER_LIST-02, GetScatterGatherList-05: elements are the runs of consecutive frames, and sum up to the length. */
TEST(dma_list, elements__of_a_64_bit_device__are_the_frames_in_order)
{
    struct subject subject = make_subject(100, PAGES * PAGE_SIZE - 300);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, 65536);
    const PSCATTER_GATHER_LIST list = get_list(adapter, subject.mdl, 0, subject.bytes, TRUE);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(subject.mdl);
    ULONG page = 0;

    EXPECT_EQ(list_sum(list), subject.bytes);
    for (ULONG i = 0; i < list->NumberOfElements; i++) {
        const uint64_t start = (uint64_t)list->Elements[i].Address.QuadPart;

        EXPECT_EQ(start, (pfns[page] << PAGE_SHIFT) + (i == 0 ? 100 : 0));
        for (uint64_t at = start >> PAGE_SHIFT; at <= (start + list->Elements[i].Length - 1) >> PAGE_SHIFT; at++)
            EXPECT_EQ(pfns[page++], at);
        if (page < PAGES)
            EXPECT_NE(pfns[page], pfns[page - 1] + 1);
    }
    EXPECT_EQ(page, PAGES);
    put_list(adapter, list, TRUE);
    put_adapter(adapter);
    end_subject(&subject);
}

/* SCATTER_GATHER_LIST-02: frames that follow each other are one element. */
TEST(dma_list, elements__of_contiguous_memory__are_one)
{
    const PHYSICAL_ADDRESS any = {.QuadPart = -1};
    UCHAR *const va = MmAllocateContiguousMemory(8 * PAGE_SIZE, any);
    const PMDL mdl = mdl_over(va + 10, 8 * PAGE_SIZE - 20);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, 65536);
    PSCATTER_GATHER_LIST list;

    MmBuildMdlForNonPagedPool(mdl);
    list = get_list(adapter, mdl, 0, 8 * PAGE_SIZE - 20, FALSE);
    EXPECT_EQ(list->NumberOfElements, 1);
    EXPECT_EQ(list->Elements[0].Length, 8 * PAGE_SIZE - 20);
    EXPECT_EQ(list->Elements[0].Address.QuadPart, MmGetPhysicalAddress(va + 10).QuadPart);
    put_list(adapter, list, FALSE);
    put_adapter(adapter);
    IoFreeMdl(mdl);
    MmFreeContiguousMemory(va);
}

/* SCATTER_GATHER_LIST-03, DEVICE_DESCRIPTION-03: a device without scatter/gather gets one element for scattered pages. */
TEST(dma_list, elements__without_scatter_gather__are_one)
{
    struct subject subject = make_subject(100, PAGES * PAGE_SIZE - 300);
    static UCHAR seen[PAGES * PAGE_SIZE];
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T i = 0; i < 3; i++) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, widths[i], FALSE, 65536));
        const PSCATTER_GATHER_LIST list = get_list(adapter, subject.mdl, 0, subject.bytes, TRUE);

        EXPECT_EQ(list->NumberOfElements, 1);
        EXPECT_EQ(list->Elements[0].Length, subject.bytes);
        device_reads(adapter, list, seen);
        EXPECT_PATTERN_AT(seen, subject.bytes, SEED, 100);
        put_list(adapter, list, TRUE);
        put_adapter(adapter);
    }
    end_subject(&subject);
}

/* GetScatterGatherList-05: CurrentVa is an index into the MDL; the list describes that part alone. */
TEST(dma_list, current_va__inside_the_buffer__starts_the_list_there)
{
    struct subject subject = make_subject(50, PAGES * PAGE_SIZE - 100);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 65536);
    const PSCATTER_GATHER_LIST list = get_list(adapter, subject.mdl, 5000, 7000, TRUE);
    static UCHAR seen[7000];

    EXPECT_EQ(list_sum(list), 7000);
    device_reads(adapter, list, seen);
    EXPECT_PATTERN_AT(seen, 7000, SEED, 5050);
    put_list(adapter, list, TRUE);
    put_adapter(adapter);
    end_subject(&subject);
}

/* GetScatterGatherList-08: a chain of three MDLs is one list over the sum of their buffers. */
TEST(dma_list, chain__of_three__is_one_list)
{
    static const struct {
        ULONG off, bytes;
    } parts[3] = {{700, 5000}, {4095, 1}, {0, 9000}};
    static UCHAR seen[14001];
    static const unsigned widths[] = {24, 32, 64};
    UCHAR *va[3];
    PMDL mdls[3];

    for (int i = 0; i < 3; i++) {
        va[i] = user_pattern(3, (ULONG)i);
        mdls[i] = locked_mdl(va[i] + parts[i].off, parts[i].bytes);
        if (i > 0)
            mdls[i - 1]->Next = mdls[i];
    }
    for (int i = 0; i < 6; i++) {
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION2, widths[i / 2], i % 2 == 0, 65536));
        const PSCATTER_GATHER_LIST list = get_list(adapter, mdls[0], 0, 14001, TRUE);

        EXPECT_EQ(list_sum(list), 14001);
        device_reads(adapter, list, seen);
        EXPECT_PATTERN_AT(seen, 5000, 0, 700);
        EXPECT_PATTERN_AT(seen + 5000, 1, 1, 4095);
        EXPECT_PATTERN_AT(seen + 5001, 9000, 2, 0);
        put_list(adapter, list, TRUE);
        put_adapter(adapter);
    }
    for (int i = 0; i < 3; i++) {
        mdls[i]->Next = NULL;
        unlock_and_free(mdls[i]);
        pinion_user_free(va[i]);
    }
}

/* ---- Runs of every length, in a chain whose MDLs may join inside a page ---- */

enum { CHAIN = 4, CHAIN_PAGES = 40 };

/* What the buffer is, page by page: where it is and how much of it, joined wherever it goes on at the next byte. */
static ULONG expected_elements(PMDL mdl, ULONG bytes, SCATTER_GATHER_ELEMENT *elements)
{
    ULONG n = 0;

    for (; bytes > 0; mdl = mdl->Next)
        for (ULONG at = mdl->ByteOffset, end = at + mdl->ByteCount; at < end && bytes > 0;) {
            const uint64_t pa = (MmGetMdlPfnArray(mdl)[at / PAGE_SIZE] << PAGE_SHIFT) + at % PAGE_SIZE;
            ULONG here = min(PAGE_SIZE - at % PAGE_SIZE, end - at);

            here = min(here, bytes);
            if (n > 0 && (uint64_t)elements[n - 1].Address.QuadPart + elements[n - 1].Length == pa)
                elements[n - 1].Length += here;
            else
                elements[n++] = (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONGLONG)pa, .Length = here};
            at += here;
            bytes -= here;
        }
    return n;
}

/* Each number follows the one before it or not, as the seed wants. Every MDL but the first begins where the one before it ends, or elsewhere. */
static ULONG number_chain(PMDL *mdls, const PFN_NUMBER *memory, unsigned *seed)
{
    ULONG bytes = 0, next = 0;

    for (int i = 0; i < CHAIN; i++) {
        const ULONG end = i == 0 ? 0 : (mdls[i - 1]->ByteOffset + mdls[i - 1]->ByteCount) % PAGE_SIZE;
        const bool joins = i > 0 && rand_r(seed) % 2 == 0;

        mdls[i]->ByteOffset = joins ? end : (ULONG)rand_r(seed) % PAGE_SIZE;
        mdls[i]->ByteCount = 1 + (ULONG)rand_r(seed) % ((CHAIN_PAGES - 1) * PAGE_SIZE);
        next = joins ? (end == 0 ? next : next - 1) : (ULONG)rand_r(seed) % CHAIN_PAGES;
        for (ULONG page = 0; page < CHAIN_PAGES; page++) {
            next = rand_r(seed) % 4 == 0 && page > 0 ? (ULONG)rand_r(seed) % CHAIN_PAGES : next;
            MmGetMdlPfnArray(mdls[i])[page] = memory[next++ % (2 * CHAIN_PAGES)];
            if (page + 1 == ADDRESS_AND_SIZE_TO_SPAN_PAGES(mdls[i]->ByteOffset, mdls[i]->ByteCount))
                break;
        }
        bytes += mdls[i]->ByteCount;
    }
    return bytes;
}

/* SCATTER_GATHER_LIST-02: a list has one element for each run, wherever runs begin, end and go on in the chain's next MDL. */
TEST(dma_list, elements__runs_of_every_length_in_a_chain__join_to_the_byte)
{
    static SCATTER_GATHER_ELEMENT expected[CHAIN * CHAIN_PAGES];
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, CHAIN * CHAIN_PAGES * PAGE_SIZE);
    PFN_NUMBER memory[2 * CHAIN_PAGES];
    PUCHAR block = MmAllocateContiguousMemory(sizeof(memory) / sizeof(memory[0]) * PAGE_SIZE, (PHYSICAL_ADDRESS){.QuadPart = -1});
    PMDL mdls[CHAIN];
    unsigned seed = SEED;

    for (ULONG i = 0; i < 2 * CHAIN_PAGES; i++)
        memory[i] = frame_of(block + i * PAGE_SIZE);
    for (int i = 0; i < CHAIN; i++) {
        mdls[i] = mdl_over(block, CHAIN_PAGES * PAGE_SIZE);
        MmBuildMdlForNonPagedPool(mdls[i]);
        if (i > 0)
            mdls[i - 1]->Next = mdls[i];
    }
    for (int round = 0; round < 2000; round++) {
        const ULONG whole = number_chain(mdls, memory, &seed);
        const ULONG bytes = whole - (ULONG)rand_r(&seed) % mdls[CHAIN - 1]->ByteCount;
        const PSCATTER_GATHER_LIST list = get_list(adapter, mdls[0], 0, bytes, TRUE);
        const ULONG n = expected_elements(mdls[0], bytes, expected);

        EXPECT_EQ(list->NumberOfElements, n);
        for (ULONG i = 0; i < n; i++) {
            EXPECT_EQ(list->Elements[i].Address.QuadPart, expected[i].Address.QuadPart);
            EXPECT_EQ(list->Elements[i].Length, expected[i].Length);
        }
        put_list(adapter, list, TRUE);
    }
    for (int i = 0; i < CHAIN; i++) {
        mdls[i]->Next = NULL;
        IoFreeMdl(mdls[i]);
    }
    MmFreeContiguousMemory(block);
    put_adapter(adapter);
}

/* SCATTER_GATHER_LIST-02: a list of a thousand elements shows each byte once and in order. */
TEST(dma_list, elements__a_thousand__show_each_byte_in_order)
{
    enum { MANY = 1000 };
    UCHAR *const va = user_pattern(2 * MANY, SEED);
    UCHAR *const seen = malloc(MANY * PAGE_SIZE);
    const PMDL mdl = locked_mdl(va, 2 * MANY * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 64, MANY * PAGE_SIZE);
    PSCATTER_GATHER_LIST list;

    for (ULONG i = 1; i < MANY; i++)
        MmGetMdlPfnArray(mdl)[i] = frame_of(va + 2 * i * PAGE_SIZE);
    list = get_list(adapter, mdl, 0, MANY * PAGE_SIZE, TRUE);
    EXPECT_EQ(list->NumberOfElements, MANY);
    device_reads(adapter, list, seen);
    for (ULONG i = 0; i < MANY; i++)
        EXPECT_PATTERN_AT(seen + i * PAGE_SIZE, PAGE_SIZE, SEED, 2 * i * PAGE_SIZE);
    put_list(adapter, list, TRUE);
    put_adapter(adapter);
    free(seen);
    for (ULONG i = 1; i < 2 * MANY; i++)
        MmGetMdlPfnArray(mdl)[i] = frame_of(va + i * PAGE_SIZE);
    unlock_and_free(mdl);
    pinion_user_free(va);
}

/* ---- The callback ---------------------------------------------------------------------------------------------- */

/* AdapterListControl-02, AdapterListControl-03, GetScatterGatherList-02: it runs once, at DISPATCH_LEVEL, with what was given. */
TEST(dma_list, callback__once__at_dispatch_level_with_the_callers_arguments)
{
    struct subject subject = make_subject(0, PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    const PDEVICE_OBJECT device = pinion_device_create("device");
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    struct heard heard = {0};
    IRP irp = {0};

    device->CurrentIrp = &irp;
    EXPECT_STATUS(adapter->DmaOperations->GetScatterGatherList(adapter, device, subject.mdl, subject.va, PAGE_SIZE, hear, &heard,
                                                               TRUE), STATUS_SUCCESS);
    EXPECT_EQ(heard.calls, 1);
    EXPECT_EQ(heard.irql, DISPATCH_LEVEL);
    EXPECT_PTR_EQ(heard.device, device);
    EXPECT_PTR_EQ(heard.irp, &irp);
    EXPECT(heard.list != NULL);
    EXPECT_EQ(counters_now().outstanding_lists, 1);
    device->CurrentIrp = NULL;
    adapter->DmaOperations->PutScatterGatherList(adapter, heard.list, TRUE);
    KeLowerIrql(irql);
    put_adapter(adapter);
    end_subject(&subject);
}

/* GetScatterGatherList-06, GetScatterGatherList-07: many lists are out at once while registers last; the rest wait, in order. */
TEST(dma_list, lists__more_than_registers__wait_and_come_in_order)
{
    enum { LISTS = 12 };
    struct subject subject = make_subject(0, PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 3 * PAGE_SIZE);      /* four registers */
    struct heard heard[LISTS] = {0};

    for (int i = 0; i < LISTS; i++)
        EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 0, PAGE_SIZE, TRUE, &heard[i]), STATUS_SUCCESS);
    for (int i = 0; i < LISTS; i++) {
        EXPECT_EQ(heard[i].calls, 1);
        EXPECT_EQ(i + 4 < LISTS ? heard[i + 4].calls : 0, 0);
        put_list(adapter, heard[i].list, TRUE);
    }
    put_adapter(adapter);
    end_subject(&subject);
}

/* GetScatterGatherList-07: a device that reaches everything never waits. */
TEST(dma_list, lists__of_a_64_bit_device__never_wait)
{
    enum { LISTS = 100 };
    struct subject subject = make_subject(0, PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 64, PAGE_SIZE);
    struct heard heard[LISTS] = {0};

    for (int i = 0; i < LISTS; i++) {
        EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 0, PAGE_SIZE, TRUE, &heard[i]), STATUS_SUCCESS);
        EXPECT_EQ(heard[i].calls, 1);
    }
    for (int i = 0; i < LISTS; i++)
        put_list(adapter, heard[i].list, TRUE);
    put_adapter(adapter);
    end_subject(&subject);
}

/* What a routine that asks again from inside itself needs. */
struct again {
    PDMA_ADAPTER adapter;
    PMDL mdl;
    unsigned left, depth, deepest;
};

static void ask_again(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST ScatterGather, PVOID Context)
{
    struct again *const again = Context;

    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    if (++again->depth > again->deepest)
        again->deepest = again->depth;
    again->adapter->DmaOperations->PutScatterGatherList(again->adapter, ScatterGather, TRUE);
    if (again->left != 0) {
        again->left--;
        EXPECT_STATUS(again->adapter->DmaOperations->GetScatterGatherList(again->adapter, NULL, again->mdl,
                                                                          MmGetMdlVirtualAddress(again->mdl), PAGE_SIZE, ask_again,
                                                                          again, TRUE), STATUS_SUCCESS);
    }
    again->depth--;
}

/* GetScatterGatherList-06, GetScatterGatherList-07: a routine may give its list back and ask for the next; no stack grows. */
TEST(dma_list, callback__that_asks_again__is_called_after_it_returned)
{
    struct subject subject = make_subject(0, PAGE_SIZE);
    struct again again = {.adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, PAGE_SIZE), .mdl = subject.mdl, .left = 10000};
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    EXPECT_STATUS(again.adapter->DmaOperations->GetScatterGatherList(again.adapter, NULL, subject.mdl, subject.va, PAGE_SIZE,
                                                                     ask_again, &again, TRUE), STATUS_SUCCESS);
    KeLowerIrql(irql);
    EXPECT_EQ(again.left, 0);
    EXPECT_EQ(again.deepest, 1);
    put_adapter(again.adapter);
    end_subject(&subject);
}

/* ---- Refusals -------------------------------------------------------------------------------------------------- */

/* GetScatterGatherList-03: a transfer that needs more map registers than there are is refused, and its routine not called. */
TEST(dma_list, get__of_more_pages_than_registers__is_refused)
{
    struct subject subject = make_subject(1, 4 * PAGE_SIZE);
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T i = 0; i < 3; i++) {
        const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, widths[i], 3 * PAGE_SIZE);
        const struct pinion_counters before = counters_now();
        struct heard heard = {0};

        EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 0, 4 * PAGE_SIZE, TRUE, &heard), STATUS_INSUFFICIENT_RESOURCES);
        EXPECT_EQ(heard.calls, 0);
        EXPECT_SAME_COUNTERS(before);
        put_list(adapter, get_list(adapter, subject.mdl, 0, 4 * PAGE_SIZE - 1, TRUE), TRUE);
        put_adapter(adapter);
    }
    end_subject(&subject);
}

/* GetScatterGatherList-03: short of memory, it says so and calls nothing. */
TEST(dma_list, get__made_to_fail__calls_nothing)
{
    struct subject subject = make_subject(0, PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct heard heard = {0};

    pinion_fail("GetScatterGatherList", 1);
    EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 0, PAGE_SIZE, TRUE, &heard), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(heard.calls, 0);
    put_adapter(adapter);
    end_subject(&subject);
}

/* GetScatterGatherList-04: a length beyond the buffer is refused; one that ends with it is not. */
TEST(dma_list, get__beyond_the_buffer__is_refused)
{
    struct subject subject = make_subject(10, 5000);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct heard heard = {0};

    EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 0, 5001, TRUE, &heard), STATUS_BUFFER_TOO_SMALL);
    EXPECT_STATUS(ask_for_list(adapter, subject.mdl, 4999, 2, TRUE, &heard), STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(heard.calls, 0);
    put_list(adapter, get_list(adapter, subject.mdl, 4999, 1, TRUE), TRUE);
    put_adapter(adapter);
    end_subject(&subject);
}

/* ---- Copies ---------------------------------------------------------------------------------------------------- */

/* GetScatterGatherList-09, PutScatterGatherList-01, BuildScatterGatherList-04: what a narrow device wrote is in the buffer after the put,
   not before. */
TEST(dma_list, read__through_registers__arrives_with_the_put)
{
    struct subject subject = make_subject(300, 3 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    const PSCATTER_GATHER_LIST list = get_list(adapter, subject.mdl, 0, subject.bytes, FALSE);
    static UCHAR sent[3 * PAGE_SIZE];

    fill_pattern(sent, sizeof(sent), SEED + 1);
    device_writes(adapter, list, sent);
    EXPECT_PATTERN(subject.va, 4 * PAGE_SIZE, SEED);
    put_list(adapter, list, FALSE);
    EXPECT_PATTERN(subject.va + 300, subject.bytes, SEED + 1);
    EXPECT_PATTERN(subject.va, 300, SEED);
    EXPECT_PATTERN_AT(subject.va + 300 + subject.bytes, PAGE_SIZE - 300, SEED, 300 + subject.bytes);
    put_adapter(adapter);
    end_subject(&subject);
}

static void shorten(PMDL mdl)
{
    mdl->ByteCount = 100;
}

static void move_start(PMDL mdl)
{
    mdl->ByteOffset += 50;
    mdl->ByteCount -= 50;
}

static void unchain(PMDL mdl)
{
    mdl->Next = NULL;
}

static void advance(PMDL mdl)
{
    EXPECT_STATUS(MmAdvanceMdl(mdl, 2 * PAGE_SIZE), STATUS_SUCCESS);
}

/*
 * GetScatterGatherList-09, PutScatterGatherList-01: a list has the pages that it was made of, whatever its driver writes into the MDLs while
 * it is out. Without the verifier, which has something to say of pages that are no longer locked.
 */
TEST(dma_list, read__over_mdls_changed_meanwhile__arrives_whole)
{
    static void (*const edits[])(PMDL) = {shorten, move_start, unchain, advance};
    static UCHAR sent[6 * PAGE_SIZE];

    boot("verifier=off");
    for (SIZE_T i = 0; i < 2 * sizeof(edits) / sizeof(edits[0]); i++) {
        struct subject subject = make_subject(300, 3 * PAGE_SIZE), second = make_subject(0, 3 * PAGE_SIZE);
        const PDMA_ADAPTER adapter = get_adapter(describe(DEVICE_DESCRIPTION_VERSION1, 32, i % 2 == 0, 65536));
        const MDL before = *subject.mdl;
        PSCATTER_GATHER_LIST list;

        subject.mdl->Next = second.mdl;
        list = get_list(adapter, subject.mdl, 0, 6 * PAGE_SIZE, FALSE);
        fill_pattern(sent, sizeof(sent), 7);
        device_writes(adapter, list, sent);
        edits[i / 2](subject.mdl);
        put_list(adapter, list, FALSE);
        EXPECT_PATTERN(subject.va + 300, 3 * PAGE_SIZE, 7);
        EXPECT_PATTERN_AT(second.va, 3 * PAGE_SIZE, 7, 3 * PAGE_SIZE);
        EXPECT_PATTERN(subject.va, 300, SEED);
        subject.mdl->Next = NULL;
        if (edits[i / 2] != advance)
            *subject.mdl = before;
        put_adapter(adapter);
        end_subject(&subject);
        end_subject(&second);
    }
}

/* GetScatterGatherList-09: what the device left alone comes back as it was, whatever the registers held before. */
TEST(dma_list, read__that_ends_early__leaves_the_rest_alone)
{
    struct subject subject = make_subject(0, 2 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 2 * PAGE_SIZE);
    static UCHAR junk[2 * PAGE_SIZE];
    PSCATTER_GATHER_LIST list = get_list(adapter, subject.mdl, 0, subject.bytes, FALSE);

    fill_pattern(junk, sizeof(junk), 99);
    device_writes(adapter, list, junk);
    put_list(adapter, list, FALSE);
    fill_pattern(subject.va, subject.bytes, SEED);
    list = get_list(adapter, subject.mdl, 0, subject.bytes, FALSE);
    EXPECT_STATUS(pinion_device_write(adapter, (uint64_t)list->Elements[0].Address.QuadPart, junk, 10), STATUS_SUCCESS);
    put_list(adapter, list, FALSE);
    EXPECT_PATTERN(subject.va, 10, 99);
    EXPECT_PATTERN_AT(subject.va + 10, subject.bytes - 10, SEED, 10);
    put_adapter(adapter);
    end_subject(&subject);
}

/* Map_registers-01, GetScatterGatherList-05: only pages out of reach are copied. */
TEST(dma_list, copies__only_what_is_out_of_reach)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0xFFFFFFFF};
    UCHAR *const below = MmAllocateContiguousMemory(PAGE_SIZE, low);
    struct subject above = make_subject(0, PAGE_SIZE);
    const PMDL mdl = mdl_over(below, PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION1, 32, 65536);
    struct pinion_totals before, after;
    PSCATTER_GATHER_LIST list;

    MmBuildMdlForNonPagedPool(mdl);
    mdl->Next = above.mdl;
    pinion_totals(&before);
    list = get_list(adapter, mdl, 0, 2 * PAGE_SIZE, TRUE);
    pinion_totals(&after);
    EXPECT_EQ(after.bytes_bounced - before.bytes_bounced, PAGE_SIZE);
    EXPECT_EQ(after.map_registers_used - before.map_registers_used, 2);
    EXPECT_EQ(list->NumberOfElements, 2);
    EXPECT_EQ(list->Elements[0].Address.QuadPart, MmGetPhysicalAddress(below).QuadPart);
    EXPECT_NE(list->Elements[1].Address.QuadPart, MmGetPhysicalAddress(above.va).QuadPart);
    put_list(adapter, list, TRUE);
    mdl->Next = NULL;
    IoFreeMdl(mdl);
    MmFreeContiguousMemory(below);
    put_adapter(adapter);
    end_subject(&above);
}

/* Map_registers-03: memory of the host process lies beyond any width but 64 bits, and goes through registers. */
TEST(dma_list, host_memory__on_every_device__goes_both_ways)
{
    static const unsigned widths[] = {24, 32, 64};
    static UCHAR host[3 * PAGE_SIZE], seen[3 * PAGE_SIZE];
    const PMDL mdl = locked_mdl(host + 7, 9000);

    for (SIZE_T i = 0; i < 3; i++) {
        const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, widths[i], 65536);
        PSCATTER_GATHER_LIST list;

        fill_pattern(host, sizeof(host), SEED);
        list = get_list(adapter, mdl, 0, 9000, TRUE);
        device_reads(adapter, list, seen);
        EXPECT_PATTERN_AT(seen, 9000, SEED, 7);
        put_list(adapter, list, TRUE);
        list = get_list(adapter, mdl, 0, 9000, FALSE);
        fill_pattern(seen, 9000, 77);
        device_writes(adapter, list, seen);
        put_list(adapter, list, FALSE);
        EXPECT_PATTERN(host + 7, 9000, 77);
        put_adapter(adapter);
    }
    unlock_and_free(mdl);
}

/* ---- Calculate and build --------------------------------------------------------------------------------------- */

/* CalculateScatterGatherList-02, CalculateScatterGatherList-04: the actual size is at most the largest possible, and registers are optional. */
TEST(dma_list, calculate__with_and_without_an_mdl__actual_is_at_most_maximum)
{
    struct subject subject = make_subject(500, 4 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 65536);
    const PCALCULATE_SCATTER_GATHER_LIST_SIZE calculate = adapter->DmaOperations->CalculateScatterGatherList;
    ULONG most = 0, actual = 0, registers = 0;

    EXPECT_STATUS(calculate(adapter, NULL, subject.va + 500, subject.bytes, &most, &registers), STATUS_SUCCESS);
    EXPECT_EQ(registers, 5);
    EXPECT(most >= sizeof(SCATTER_GATHER_LIST) + 5 * sizeof(SCATTER_GATHER_ELEMENT));
    EXPECT_STATUS(calculate(adapter, subject.mdl, subject.va + 500, subject.bytes, &actual, NULL), STATUS_SUCCESS);
    EXPECT(actual <= most);
    EXPECT(actual >= sizeof(SCATTER_GATHER_LIST) + sizeof(SCATTER_GATHER_ELEMENT));
    put_adapter(adapter);
    end_subject(&subject);
}

/* CalculateScatterGatherList-03: too many pages for the registers, and a length beyond the buffer. */
TEST(dma_list, calculate__of_what_cannot_be__is_refused)
{
    struct subject subject = make_subject(1, 4 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 3 * PAGE_SIZE);
    const PCALCULATE_SCATTER_GATHER_LIST_SIZE calculate = adapter->DmaOperations->CalculateScatterGatherList;
    ULONG size = 7, registers = 7;

    EXPECT_STATUS(calculate(adapter, subject.mdl, subject.va + 1, 4 * PAGE_SIZE, &size, &registers), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_STATUS(calculate(adapter, NULL, subject.va + 1, 4 * PAGE_SIZE, &size, &registers), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_STATUS(calculate(adapter, subject.mdl, subject.va + 1, 4 * PAGE_SIZE + 1, &size, &registers), STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(size, 7);
    EXPECT_EQ(registers, 7);
    put_adapter(adapter);
    end_subject(&subject);
}

static NTSTATUS build(PDMA_ADAPTER adapter, const struct subject *subject, struct heard *heard, PVOID buffer, ULONG buffer_bytes)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);
    const NTSTATUS status = adapter->DmaOperations->BuildScatterGatherList(
        adapter, NULL, subject->mdl, MmGetMdlVirtualAddress(subject->mdl), subject->bytes, hear, heard, TRUE, buffer, buffer_bytes);

    KeLowerIrql(irql);
    return status;
}

/* BuildScatterGatherList-02, BuildScatterGatherList-03, BuildScatterGatherList-04: the list is built in the caller's buffer if it is as
   large as calculated. */
TEST(dma_list, build__in_the_callers_buffer__needs_the_size_calculated)
{
    struct subject subject = make_subject(500, 4 * PAGE_SIZE);
    static UCHAR seen[4 * PAGE_SIZE];
    static const unsigned widths[] = {24, 32, 64};

    for (SIZE_T i = 0; i < 3; i++) {
        const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, widths[i], 65536);
        struct heard heard = {0};
        ULONG size = 0;
        UCHAR *buffer;

        EXPECT_STATUS(adapter->DmaOperations->CalculateScatterGatherList(adapter, subject.mdl, subject.va + 500, subject.bytes, &size,
                                                                         NULL), STATUS_SUCCESS);
        buffer = ExAllocatePoolWithTag(NonPagedPoolNx, size, TEST_TAG);
        EXPECT_STATUS(build(adapter, &subject, &heard, buffer, size - 1), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(heard.calls, 0);
        pinion_fail_every("ExAllocatePoolWithTag", 1);
        EXPECT_STATUS(build(adapter, &subject, &heard, buffer, size), STATUS_SUCCESS);
        pinion_fail_every("ExAllocatePoolWithTag", 0);
        EXPECT_EQ(heard.calls, 1);
        EXPECT_PTR_EQ(heard.list, buffer);
        device_reads(adapter, heard.list, seen);
        EXPECT_PATTERN_AT(seen, subject.bytes, SEED, 500);
        put_list(adapter, heard.list, TRUE);
        ExFreePoolWithTag(buffer, TEST_TAG);
        put_adapter(adapter);
    }
    end_subject(&subject);
}

/* BuildScatterGatherList-03: too few map registers. */
TEST(dma_list, build__of_more_pages_than_registers__is_refused)
{
    struct subject subject = make_subject(1, 4 * PAGE_SIZE);
    const PDMA_ADAPTER adapter = master(DEVICE_DESCRIPTION_VERSION2, 32, 3 * PAGE_SIZE);
    static UCHAR buffer[4096];
    struct heard heard = {0};

    EXPECT_STATUS(build(adapter, &subject, &heard, buffer, sizeof(buffer)), STATUS_INSUFFICIENT_RESOURCES);
    EXPECT_EQ(heard.calls, 0);
    put_adapter(adapter);
    end_subject(&subject);
}

/* ---- Against a model ------------------------------------------------------------------------------------------- */

static ULONG next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (ULONG)(*state >> 33);
}

enum { MOST_MDLS = 4, MOST_PAGES = 5, MODEL_BYTES = MOST_MDLS * MOST_PAGES * PAGE_SIZE };

/* A random chain, and what its buffers hold, one after the other. */
struct chain {
    ULONG n, bytes;
    UCHAR *pages[MOST_MDLS];
    UCHAR *start[MOST_MDLS];
    PMDL mdls[MOST_MDLS];
};

static struct chain make_chain(uint64_t *random)
{
    struct chain chain = {.n = 1 + next_random(random) % MOST_MDLS};

    for (ULONG i = 0; i < chain.n; i++) {
        const ULONG off = next_random(random) % PAGE_SIZE;
        const ULONG bytes = 1 + next_random(random) % (MOST_PAGES * PAGE_SIZE - off);

        chain.pages[i] = user_pattern(MOST_PAGES, next_random(random) % 100);
        chain.start[i] = chain.pages[i] + off;
        chain.mdls[i] = locked_mdl(chain.start[i], bytes);
        chain.bytes += bytes;
        if (i > 0)
            chain.mdls[i - 1]->Next = chain.mdls[i];
    }
    return chain;
}

static void end_chain(struct chain *chain)
{
    for (ULONG i = 0; i < chain->n; i++) {
        chain->mdls[i]->Next = NULL;
        unlock_and_free(chain->mdls[i]);
        pinion_user_free(chain->pages[i]);
    }
}

static void read_chain(const struct chain *chain, UCHAR *out)
{
    for (ULONG i = 0; i < chain->n; i++) {
        RtlCopyMemory(out, chain->start[i], MmGetMdlByteCount(chain->mdls[i]));
        out += MmGetMdlByteCount(chain->mdls[i]);
    }
}

/* One transfer over a part of the chain that starts in its first MDL; everything else must stay as it is. */
static void transfer(const struct chain *chain, uint64_t *random)
{
    static const unsigned widths[] = {24, 32, 64};
    static UCHAR model[MODEL_BYTES], now[MODEL_BYTES], device[MODEL_BYTES];
    const BOOLEAN write = next_random(random) % 2 != 0;
    const ULONG off = next_random(random) % MmGetMdlByteCount(chain->mdls[0]);
    const ULONG bytes = 1 + next_random(random) % (chain->bytes - off);
    const PDMA_ADAPTER adapter = get_adapter(
        describe(DEVICE_DESCRIPTION_VERSION2, widths[next_random(random) % 3], next_random(random) % 3 != 0, MODEL_BYTES));
    const PSCATTER_GATHER_LIST list = get_list(adapter, chain->mdls[0], off, bytes, write);

    EXPECT_EQ(list_sum(list), bytes);
    read_chain(chain, model);
    if (write) {
        device_reads(adapter, list, device);
        EXPECT_MEM_EQ(device, model + off, bytes);
    } else {
        for (ULONG i = 0; i < bytes; i++)
            device[i] = (UCHAR)next_random(random);
        device_writes(adapter, list, device);
        RtlCopyMemory(model + off, device, bytes);
    }
    put_list(adapter, list, write);
    read_chain(chain, now);
    EXPECT_MEM_EQ(now, model, chain->bytes);
    put_adapter(adapter);
}

static void compare_with_model(uint64_t random, unsigned chains)
{
    for (unsigned i = 0; i < chains; i++) {
        struct chain chain = make_chain(&random);

        for (unsigned j = 0; j < 6; j++)
            transfer(&chain, &random);
        end_chain(&chain);
    }
}

/* GetScatterGatherList-05, GetScatterGatherList-08, PutScatterGatherList-01: random chains, ranges, widths and directions, against a copy
   of the bytes. */
TEST(dma_list, random__transfers__agree_with_a_model)
{
    compare_with_model(20240501, 60);
}

/* The same through an IOMMU. */
TEST(dma_list, random__transfers_remapped__agree_with_a_model)
{
    boot("dma=remapped");
    compare_with_model(20240502, 60);
}

/* The same where frames lie in order. */
TEST(dma_list, random__transfers_over_linear_frames__agree_with_a_model)
{
    boot("layout=linear");
    compare_with_model(20240503, 30);
}
