/* SPDX-License-Identifier: MIT */
/*
 * What does a scatter/gather list cost? GetScatterGatherList and PutScatterGatherList of a bus master that reaches all
 * memory: of contiguous pages against a vector scan of their numbers, of others against a scalar scan that stores elements.
 */

#include "bench.h"

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

struct listed {
    size_t                  npages;
    size_t                  nelements;
    char                   *va;
    PMDL                    mdl;
    SCATTER_GATHER_ELEMENT *elements;   /* where the anchor puts them */
};

static PDMA_ADAPTER adapter;

static VOID on_list(PDEVICE_OBJECT device, PIRP irp, PSCATTER_GATHER_LIST list, PVOID context)
{
    (void)device;
    (void)irp;
    *(PSCATTER_GATHER_LIST *)context = list;
}

static PSCATTER_GATHER_LIST get(const struct listed *listed)
{
    PSCATTER_GATHER_LIST list = NULL;

    adapter->DmaOperations->GetScatterGatherList(adapter, NULL, listed->mdl, listed->va, (ULONG)(listed->npages * PAGE_SIZE), on_list, &list, FALSE);
    return list;
}

static void get_and_put(void *context, uint64_t times)
{
    while (times-- > 0)
        adapter->DmaOperations->PutScatterGatherList(adapter, get(context), FALSE);
}

/* ---- anchors ---- */

static __attribute__((noinline)) size_t scan(const PFN_NUMBER *pfns, size_t n)
{
    size_t runs = 1;

    for (size_t i = 1; i < n; i++)
        runs += pfns[i] != pfns[i - 1] + 1;
    return runs;
}

__attribute__((noinline, target("avx512f"))) static size_t scan_avx512(const PFN_NUMBER *pfns, size_t n)
{
    const __m512i one = _mm512_set1_epi64(1);
    size_t runs = 1, i = 0;

    for (; i + 9 <= n; i += 8)
        runs += (size_t)__builtin_popcount(_mm512_cmpneq_epi64_mask(_mm512_add_epi64(_mm512_loadu_si512(pfns + i), one),
                                                                    _mm512_loadu_si512(pfns + i + 1)));
    return runs + scan(pfns + i, n - i) - 1;
}

__attribute__((noinline, target("avx2"))) static size_t scan_avx2(const PFN_NUMBER *pfns, size_t n)
{
    const __m256i one = _mm256_set1_epi64x(1);
    size_t runs = 1, i = 0;

    for (; i + 5 <= n; i += 4) {
        const __m256i follows = _mm256_cmpeq_epi64(_mm256_add_epi64(_mm256_loadu_si256((const void *)(pfns + i)), one),
                                                   _mm256_loadu_si256((const void *)(pfns + i + 1)));

        runs += 4 - (size_t)__builtin_popcount((unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(follows)));
    }
    return runs + scan(pfns + i, n - i) - 1;
}

static void vector_scan(void *context, uint64_t times)
{
    const struct listed *listed = context;
    size_t (*const best)(const PFN_NUMBER *, size_t) = __builtin_cpu_supports("avx512f") ? scan_avx512
                                                       : __builtin_cpu_supports("avx2")  ? scan_avx2 : scan;
    size_t runs = 0;

    while (times-- > 0)
        runs += best(MmGetMdlPfnArray(listed->mdl), listed->npages);
    bench_use(&runs);
}

static __attribute__((noinline)) size_t store_elements(const PFN_NUMBER *pfns, size_t n, SCATTER_GATHER_ELEMENT *elements)
{
    size_t last = 0;

    elements[0] = (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONGLONG)(pfns[0] << PAGE_SHIFT), .Length = PAGE_SIZE};
    for (size_t i = 1; i < n; i++) {
        if (pfns[i] == pfns[i - 1] + 1)
            elements[last].Length += PAGE_SIZE;
        else
            elements[++last] = (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONGLONG)(pfns[i] << PAGE_SHIFT), .Length = PAGE_SIZE};
    }
    return last + 1;
}

static void scalar_scan(void *context, uint64_t times)
{
    const struct listed *listed = context;

    while (times-- > 0) {
        const size_t n = store_elements(MmGetMdlPfnArray(listed->mdl), listed->npages, listed->elements);

        bench_use(listed->elements + n);
    }
}

/* ---- proof ---- */

/* As many elements as there are runs of pages, the same as a scalar scan finds, and what a device stores through them is there. */
static bool is_listed(void *context)
{
    const struct listed *listed = context;
    const size_t n = store_elements(MmGetMdlPfnArray(listed->mdl), listed->npages, listed->elements);
    PSCATTER_GATHER_LIST list = get(listed);
    bool good = list != NULL && list->NumberOfElements == n && n == listed->nelements;

    for (size_t i = 0; good && i < n; i++) {
        good = list->Elements[i].Address.QuadPart == listed->elements[i].Address.QuadPart && list->Elements[i].Length == listed->elements[i].Length;
        good = good && pinion_device_write(adapter, (uint64_t)list->Elements[i].Address.QuadPart, &i, sizeof(i)) == STATUS_SUCCESS;
    }
    for (size_t i = 0, page = 0; good && i < n; page += list->Elements[i++].Length / PAGE_SIZE)
        good = *(size_t *)(void *)(listed->va + (n == 1 ? page : 2 * page) * PAGE_SIZE) == i;
    adapter->DmaOperations->PutScatterGatherList(adapter, list, FALSE);
    return good;
}

/* All pages of a buffer, or the numbers of every other one of a buffer twice as long, whose pages stay locked by the long MDL. */
static void prepare(struct listed *listed, size_t npages, bool contiguous)
{
    const size_t reach = contiguous ? npages : 2 * npages;
    PMDL whole;

    *listed = (struct listed){.npages = npages, .nelements = contiguous ? 1 : npages};
    listed->va = pinion_user_alloc(reach * PAGE_SIZE, PAGE_READWRITE);
    whole = IoAllocateMdl(listed->va, (ULONG)(reach * PAGE_SIZE), FALSE, FALSE, NULL);
    MmProbeAndLockPages(whole, UserMode, IoWriteAccess);
    listed->mdl = contiguous ? whole : IoAllocateMdl(listed->va, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);
    for (size_t i = 0; !contiguous && i < npages; i++)
        MmGetMdlPfnArray(listed->mdl)[i] = MmGetMdlPfnArray(whole)[2 * i];
    listed->mdl->MdlFlags |= MDL_PAGES_LOCKED;
    listed->elements = bench_copy_target(MmGetMdlPfnArray(listed->mdl), npages * sizeof(SCATTER_GATHER_ELEMENT));
}

int main(int argc, char **argv)
{
    static struct listed contiguous, contiguous_many, fragmented, fragmented_many;
    const struct bench_case cases[] = {
        {"7", "list + put, contiguous, 256 pages", "vector scan", 1.3, 0, get_and_put, vector_scan, is_listed, &contiguous, NULL},
        {"7", "list + put, contiguous, 16384 pages", "vector scan", 1.3, 0, get_and_put, vector_scan, is_listed, &contiguous_many, NULL},
        {"7", "list + put, fragmented, 256 pages", "scalar scan", 0.65, 0, get_and_put, scalar_scan, is_listed, &fragmented, NULL},
        {"7", "list + put, fragmented, 16384 pages", "scalar scan", 0.65, 0, get_and_put, scalar_scan, is_listed, &fragmented_many, NULL},
    };
    DEVICE_DESCRIPTION description = {.Version = DEVICE_DESCRIPTION_VERSION2, .Master = TRUE, .ScatterGather = TRUE,
                                      .Dma64BitAddresses = TRUE, .InterfaceType = PCIBus, .MaximumLength = 64u << 20};
    ULONG registers;
    KIRQL irql;

    pinion_boot("verifier=off:layout=linear");
    adapter = IoGetDmaAdapter(pinion_device_create("disk"), &description, &registers);
    if (adapter == NULL)
        abort();
    prepare(&contiguous, 256, true);
    prepare(&contiguous_many, 16384, true);
    prepare(&fragmented, 256, false);
    prepare(&fragmented_many, 16384, false);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
