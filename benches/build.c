/* SPDX-License-Identifier: MIT */
/* What does describing nonpaged memory cost? MmBuildMdlForNonPagedPool against storing consecutive numbers. */

#include "bench.h"

#include <immintrin.h>

struct pool_buffer {
    size_t      npages;
    PMDL        mdl;
    PFN_NUMBER *numbers;
};

static void build(void *context, uint64_t times)
{
    const struct pool_buffer *buffer = context;

    while (times-- > 0)
        MmBuildMdlForNonPagedPool(buffer->mdl);
}

__attribute__((noinline, target("avx2"))) static void iota(PFN_NUMBER *out, PFN_NUMBER first, size_t n)
{
    const __m256i four = _mm256_set1_epi64x(4);
    __m256i next = _mm256_add_epi64(_mm256_set1_epi64x((long long)first), _mm256_set_epi64x(3, 2, 1, 0));
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        _mm256_storeu_si256((__m256i *)(void *)&out[i], next);
        next = _mm256_add_epi64(next, four);
    }
    for (; i < n; i++)
        out[i] = first + i;
}

static void number(void *context, uint64_t times)
{
    const struct pool_buffer *buffer = context;

    while (times-- > 0) {
        iota(buffer->numbers, 0x200000, buffer->npages);
        bench_use(buffer->numbers);
    }
}

static bool is_built(void *context)
{
    const struct pool_buffer *buffer = context;
    char *va = MmGetMdlVirtualAddress(buffer->mdl);

    build(context, 1);
    for (size_t i = 0; i < buffer->npages; i++)
        if (MmGetMdlPfnArray(buffer->mdl)[i] != (PFN_NUMBER)MmGetPhysicalAddress(va + i * PAGE_SIZE).QuadPart >> PAGE_SHIFT)
            return false;
    return true;
}

static void prepare(struct pool_buffer *buffer, size_t npages)
{
    const ULONG bytes = (ULONG)(npages * PAGE_SIZE);

    buffer->npages = npages;
    buffer->mdl = IoAllocateMdl(ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, 'hcnB'), bytes, FALSE, FALSE, NULL);
    buffer->numbers = bench_copy_target(NULL, npages * sizeof(PFN_NUMBER));
}

static void release(struct pool_buffer *buffer)
{
    ExFreePool(MmGetMdlVirtualAddress(buffer->mdl));
    IoFreeMdl(buffer->mdl);
}

int main(int argc, char **argv)
{
    static struct pool_buffer one, sixteen, large, huge;
    struct pool_buffer *const all[] = {&one, &sixteen, &large, &huge};
    const struct bench_case cases[] = {
        {"4", "describe nonpaged pool, 1 page", "AVX2 iota", 1.3, 3, build, number, is_built, &one, NULL},
        {"4", "describe nonpaged pool, 16 pages", "AVX2 iota", 1.3, 3, build, number, is_built, &sixteen, NULL},
        {"4", "describe nonpaged pool, 256 pages", "AVX2 iota", 1.3, 3, build, number, is_built, &large, NULL},
        {"4", "describe nonpaged pool, 16384 pages", "AVX2 iota", 1.3, 3, build, number, is_built, &huge, NULL},
    };
    int code;

    pinion_boot("verifier=off:layout=linear");
    prepare(&one, 1);
    prepare(&sixteen, 16);
    prepare(&large, 256);
    prepare(&huge, 16384);
    code = bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        release(all[i]);
    return code;
}
