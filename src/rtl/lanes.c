/* SPDX-License-Identifier: MIT */
/* The bodies of lanes.h: scalar, AVX2, AVX-512. Compilers of today do not vectorise the scalar ones at -O2. */

#include "rtl/lanes.h"

#include <stdatomic.h>

/* ---- scalar ---- */

static void count_up(uint64_t *out, uint64_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = first + i;
}

static size_t count_run(const uint64_t *p, size_t n)
{
    size_t i = 1;

    while (i < n && p[i] == p[0] + i)
        i++;
    return n == 0 ? 0 : i;
}

static bool equal(const uint64_t *a, const uint64_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

static bool all_bytes(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        if ((atomic_load_explicit(&bytes[i], memory_order_acquire) & mask) != value)
            return false;
    return true;
}

static size_t count_marked(const void *entries, size_t n, uint64_t bits)
{
    const _Atomic uint64_t *words = entries;
    size_t i = 0;

    while (i < n && (atomic_load_explicit(&words[2 * i + 1], memory_order_acquire) & bits) != 0)
        i++;
    return i;
}

static const struct rtl_lanes scalar = {"scalar", count_up, count_run, equal, all_bytes, count_marked};

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#include <immintrin.h>

/* ---- AVX2: four numbers, 32 bytes; what is left over is scalar ---- */

#define AVX2 __attribute__((target("avx2")))

static AVX2 __m256i load4(const void *at)
{
    return _mm256_loadu_si256(at);
}

static AVX2 void count_up_avx2(uint64_t *out, uint64_t first, size_t n)
{
    const __m256i four = _mm256_set1_epi64x(4);
    __m256i next = _mm256_add_epi64(_mm256_set1_epi64x((long long)first), _mm256_set_epi64x(3, 2, 1, 0));
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        _mm256_storeu_si256((void *)&out[i], next);
        next = _mm256_add_epi64(next, four);
    }
    count_up(out + i, first + i, n - i);
}

static AVX2 size_t count_run_avx2(const uint64_t *p, size_t n)
{
    const __m256i one = _mm256_set1_epi64x(1);
    size_t i = 0;

    for (; i + 5 <= n; i += 4) {
        const __m256i follows = _mm256_cmpeq_epi64(_mm256_add_epi64(load4(p + i), one), load4(p + i + 1));

        if (_mm256_movemask_epi8(follows) != -1)
            break;
    }
    return n == 0 ? 0 : i + count_run(p + i, n - i);
}

static AVX2 bool equal_avx2(const uint64_t *a, const uint64_t *b, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const __m256i low = _mm256_xor_si256(load4(a + i), load4(b + i));
        const __m256i high = _mm256_xor_si256(load4(a + i + 4), load4(b + i + 4));
        const __m256i differ = _mm256_or_si256(low, high);

        if (!_mm256_testz_si256(differ, differ))
            return false;
    }
    return equal(a + i, b + i, n - i);
}

static AVX2 bool all_bytes_avx2(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value)
{
    const __m256i masks = _mm256_set1_epi8((char)mask), values = _mm256_set1_epi8((char)value);
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const __m256i differ = _mm256_xor_si256(_mm256_and_si256(load4((const void *)&bytes[i]), masks), values);

        if (!_mm256_testz_si256(differ, differ))
            return false;
    }
    return all_bytes(bytes + i, n - i, mask, value);
}

static AVX2 size_t count_marked_avx2(const void *entries, size_t n, uint64_t bits)
{
    const __m256i mask = _mm256_set_epi64x((long long)bits, 0, (long long)bits, 0);
    const __m256i lower = _mm256_set_epi64x(0, -1, 0, -1);
    const uint64_t *words = entries;
    size_t i = 0;

    for (; i + 2 <= n; i += 2) {
        const __m256i marks = _mm256_or_si256(_mm256_and_si256(load4(words + 2 * i), mask), lower);

        if (_mm256_movemask_epi8(_mm256_cmpeq_epi64(marks, _mm256_setzero_si256())) != 0)
            break;
    }
    return i + count_marked(words + 2 * i, n - i, bits);
}

static const struct rtl_lanes avx2 = {"AVX2", count_up_avx2, count_run_avx2, equal_avx2, all_bytes_avx2, count_marked_avx2};

/* ---- AVX-512: eight numbers, 64 bytes; what is left over goes to AVX2 ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx2")))

static AVX512 __m512i load8(const void *at)
{
    return _mm512_loadu_si512(at);
}

/* The first n of eight, or all of them. */
static __mmask8 first_lanes(size_t n)
{
    const unsigned all = 0xFF;

    return (__mmask8)(n >= 8 ? all : all >> (8 - n));
}

static AVX512 void count_up_avx512(uint64_t *out, uint64_t first, size_t n)
{
    const __m512i eight = _mm512_set1_epi64(8);
    __m512i next = _mm512_add_epi64(_mm512_set1_epi64((long long)first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        _mm512_storeu_si512(&out[i], next);
        next = _mm512_add_epi64(next, eight);
    }
    if (i < n)
        _mm512_mask_storeu_epi64(&out[i], first_lanes(n - i), next);
}

static AVX512 size_t count_run_avx512(const uint64_t *p, size_t n)
{
    const __m512i one = _mm512_set1_epi64(1);
    size_t i = 0;

    for (; i + 9 <= n; i += 8)
        if (_mm512_cmpneq_epi64_mask(_mm512_add_epi64(load8(p + i), one), load8(p + i + 1)) != 0)
            break;
    return n == 0 ? 0 : i + count_run(p + i, n - i);
}

static AVX512 bool equal_avx512(const uint64_t *a, const uint64_t *b, size_t n)
{
    __m512i differ = _mm512_setzero_si512();
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        differ = _mm512_or_si512(differ, _mm512_xor_si512(load8(a + i), load8(b + i)));
        differ = _mm512_or_si512(differ, _mm512_xor_si512(load8(a + i + 8), load8(b + i + 8)));
    }
    for (; i < n; i += 8) {
        const __mmask8 lanes = first_lanes(n - i);

        differ = _mm512_or_si512(differ, _mm512_xor_si512(_mm512_maskz_loadu_epi64(lanes, a + i), _mm512_maskz_loadu_epi64(lanes, b + i)));
    }
    return _mm512_test_epi64_mask(differ, differ) == 0;
}

static AVX512 bool all_bytes_avx512(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value)
{
    const __m512i masks = _mm512_set1_epi8((char)mask), values = _mm512_set1_epi8((char)value);

    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 lanes = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        const __m512i here = _mm512_maskz_loadu_epi8(lanes, (const void *)&bytes[i]);

        if (_mm512_mask_cmpneq_epi8_mask(lanes, _mm512_and_si512(here, masks), values) != 0)
            return false;
    }
    return true;
}

static AVX512 size_t count_marked_avx512(const void *entries, size_t n, uint64_t bits)
{
    const __m512i mask = _mm512_set1_epi64((long long)bits);
    const uint64_t *words = entries;
    const unsigned uppers = 0xAA;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        unsigned marked = uppers;

        for (size_t k = 0; k < 32; k += 8)
            marked &= _mm512_test_epi64_mask(load8(words + 2 * i + k), mask);
        if (marked != uppers)
            break;
    }
    return i + count_marked(words + 2 * i, n - i, bits);
}

static const struct rtl_lanes avx512 = {
    "AVX-512", count_up_avx512, count_run_avx512, equal_avx512, all_bytes_avx512, count_marked_avx512};

size_t rtl_lanes_available(const struct rtl_lanes *available[3])
{
    size_t n = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        available[n++] = &avx512;
    if (__builtin_cpu_supports("avx2"))
        available[n++] = &avx2;
    available[n++] = &scalar;
    return n;
}

#else

size_t rtl_lanes_available(const struct rtl_lanes *available[3])
{
    available[0] = &scalar;
    return 1;
}

#endif

const struct rtl_lanes *rtl_lanes = &scalar;

/* Before any machine boots, so that no call has to ask. */
__attribute__((constructor)) static void choose(void)
{
    const struct rtl_lanes *available[3];

    rtl_lanes_available(available);
    rtl_lanes = available[0];
}
