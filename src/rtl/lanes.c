/* SPDX-License-Identifier: MIT */
/* The bodies of lanes.h: scalar, AVX2, AVX-512. Compilers of today do not vectorise the scalar ones at -O2. */

#include "rtl/lanes.h"

#include <stdatomic.h>

/* ---- scalar ---- */

static void store_steps(uint64_t *out, const struct rtl_steps *steps, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = rtl_step_number(steps, i);
}

static size_t count_steps_from(const uint64_t *p, const struct rtl_steps *steps, size_t i, size_t n)
{
    while (i < n && p[i] == rtl_step_number(steps, i))
        i++;
    return i;
}

static size_t count_steps(const uint64_t *p, const struct rtl_steps *steps, size_t n)
{
    return count_steps_from(p, steps, 0, n);
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

static size_t count_nonzero(const _Atomic uint8_t *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && atomic_load_explicit(&bytes[i], memory_order_acquire) != 0)
        i++;
    return i;
}

static size_t find_word(const _Atomic uint64_t *words, size_t n, uint64_t value)
{
    size_t i = 0;

    while (i < n && atomic_load_explicit(&words[i], memory_order_relaxed) != value)
        i++;
    return i;
}

static size_t count_breaks(const uint64_t *p, size_t n)
{
    size_t breaks = 0;

    for (size_t i = 1; i < n; i++)
        breaks += p[i] != p[i - 1] + 1;
    return breaks;
}

static const struct rtl_lanes scalar = {"scalar", store_steps, count_steps, equal, all_bytes, count_nonzero, find_word, count_breaks};

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#include <immintrin.h>

/* ---- AVX2: four numbers, 32 bytes; what is left over is scalar ---- */

#define AVX2 __attribute__((target("avx2")))

static AVX2 __m256i load4(const void *at)
{
    return _mm256_loadu_si256(at);
}

/* A progression four numbers at a time. */
struct steps4 {
    __m256i base, places, advance, mask;
};

static AVX2 struct steps4 steps4_of(const struct rtl_steps *steps)
{
    const uint64_t a = steps->place, step = steps->step;

    return (struct steps4){
        .base = _mm256_set1_epi64x((long long)steps->base),
        .places = _mm256_set_epi64x((long long)(a + 3 * step), (long long)(a + 2 * step), (long long)(a + step), (long long)a),
        .advance = _mm256_set1_epi64x((long long)(4 * step)),
        .mask = _mm256_set1_epi64x((long long)steps->mask),
    };
}

static AVX2 __m256i next4(struct steps4 *steps)
{
    const __m256i numbers = _mm256_add_epi64(steps->base, _mm256_and_si256(steps->places, steps->mask));

    steps->places = _mm256_add_epi64(steps->places, steps->advance);
    return numbers;
}

static AVX2 void store_steps_avx2(uint64_t *out, const struct rtl_steps *steps, size_t n)
{
    struct steps4 next = steps4_of(steps);
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        _mm256_storeu_si256((void *)&out[i], next4(&next));
    for (; i < n; i++)
        out[i] = rtl_step_number(steps, i);
}

static AVX2 size_t count_steps_avx2(const uint64_t *p, const struct rtl_steps *steps, size_t n)
{
    struct steps4 next = steps4_of(steps);
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        const __m256i differ = _mm256_xor_si256(load4(p + i), next4(&next));

        if (!_mm256_testz_si256(differ, differ))
            break;
    }
    return count_steps_from(p, steps, i, n);
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

static AVX2 size_t count_nonzero_avx2(const _Atomic uint8_t *bytes, size_t n)
{
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const __m256i zero = _mm256_cmpeq_epi8(load4((const void *)&bytes[i]), _mm256_setzero_si256());

        if (!_mm256_testz_si256(zero, zero))
            break;
    }
    return i + count_nonzero(bytes + i, n - i);
}

static AVX2 size_t find_word_avx2(const _Atomic uint64_t *words, size_t n, uint64_t value)
{
    const __m256i wanted = _mm256_set1_epi64x((long long)value);
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        const __m256i found = _mm256_cmpeq_epi64(load4((const void *)&words[i]), wanted);

        if (!_mm256_testz_si256(found, found))
            break;
    }
    return i + find_word(words + i, n - i, value);
}

/* A comparison that holds is -1: what follows is counted, and the rest are breaks. */
static AVX2 size_t count_breaks_avx2(const uint64_t *p, size_t n)
{
    const __m256i one = _mm256_set1_epi64x(1);
    __m256i follow = _mm256_setzero_si256();
    uint64_t sums[4];
    size_t i = 0;

    for (; i + 5 <= n; i += 4)
        follow = _mm256_sub_epi64(follow, _mm256_cmpeq_epi64(_mm256_add_epi64(load4(p + i), one), load4(p + i + 1)));
    _mm256_storeu_si256((void *)sums, follow);
    return i - (sums[0] + sums[1] + sums[2] + sums[3]) + count_breaks(p + i, n - i);
}

static const struct rtl_lanes avx2 = {
    "AVX2", store_steps_avx2, count_steps_avx2, equal_avx2, all_bytes_avx2, count_nonzero_avx2, find_word_avx2, count_breaks_avx2};

/* ---- AVX-512: eight numbers, 64 bytes; what is left over goes to AVX2 ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx2")))

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

/* The first n of 64, or all of them. */
static __mmask64 first_bytes(size_t n)
{
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

/* A progression eight numbers at a time. */
struct steps8 {
    __m512i base, places, advance, mask;
};

static AVX512 struct steps8 steps8_of(const struct rtl_steps *steps)
{
    const __m512i count = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i step = _mm512_set1_epi64((long long)steps->step);

    return (struct steps8){
        .base = _mm512_set1_epi64((long long)steps->base),
        .places = _mm512_add_epi64(_mm512_set1_epi64((long long)steps->place), _mm512_mullo_epi64(count, step)),
        .advance = _mm512_set1_epi64((long long)(8 * steps->step)),
        .mask = _mm512_set1_epi64((long long)steps->mask),
    };
}

static AVX512 __m512i next8(struct steps8 *steps)
{
    const __m512i numbers = _mm512_add_epi64(steps->base, _mm512_and_si512(steps->places, steps->mask));

    steps->places = _mm512_add_epi64(steps->places, steps->advance);
    return numbers;
}

static AVX512 void store_steps_avx512(uint64_t *out, const struct rtl_steps *steps, size_t n)
{
    struct steps8 next = steps8_of(steps);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm512_storeu_si512(&out[i], next8(&next));
    if (i < n)
        _mm512_mask_storeu_epi64(&out[i], first_lanes(n - i), next8(&next));
}

static AVX512 __m512i differ8(const uint64_t *p, struct steps8 *next)
{
    return _mm512_xor_si512(load8(p), next8(next));
}

/* Four vectors at a time, so that one branch decides about 32 numbers. Where these end, and the last few, are looked at by eights. */
static AVX512 size_t count_steps_avx512(const uint64_t *p, const struct rtl_steps *steps, size_t n)
{
    struct steps8 next = steps8_of(steps);
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        const __m512i start = next.places;
        __m512i differ = differ8(p + i, &next);

        differ = _mm512_or_si512(differ, differ8(p + i + 8, &next));
        differ = _mm512_or_si512(differ, differ8(p + i + 16, &next));
        differ = _mm512_or_si512(differ, differ8(p + i + 24, &next));
        if (_mm512_test_epi64_mask(differ, differ) != 0) {
            next.places = start;
            break;
        }
    }
    for (; i < n; i += 8) {
        const __mmask8 lanes = first_lanes(n - i);
        const unsigned differ = _mm512_mask_cmpneq_epi64_mask(lanes, _mm512_maskz_loadu_epi64(lanes, p + i), next8(&next));

        if (differ != 0)
            return i + (size_t)__builtin_ctz(differ);
    }
    return n;
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
        const __mmask64 lanes = first_bytes(n - i);
        const __m512i here = _mm512_maskz_loadu_epi8(lanes, (const void *)&bytes[i]);

        if (_mm512_mask_cmpneq_epi8_mask(lanes, _mm512_and_si512(here, masks), values) != 0)
            return false;
    }
    return true;
}

static AVX512 size_t count_nonzero_avx512(const _Atomic uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 lanes = first_bytes(n - i);
        const __m512i here = _mm512_maskz_loadu_epi8(lanes, (const void *)&bytes[i]);
        const __mmask64 zero = _mm512_mask_testn_epi8_mask(lanes, here, here);

        if (zero != 0)
            return i + (size_t)__builtin_ctzll(zero);
    }
    return n;
}

static AVX512 size_t find_word_avx512(const _Atomic uint64_t *words, size_t n, uint64_t value)
{
    const __m512i wanted = _mm512_set1_epi64((long long)value);

    for (size_t i = 0; i < n; i += 8) {
        const __mmask8 lanes = first_lanes(n - i);
        const unsigned found = _mm512_mask_cmpeq_epi64_mask(lanes, _mm512_maskz_loadu_epi64(lanes, (const void *)&words[i]), wanted);

        if (found != 0)
            return i + (size_t)__builtin_ctz(found);
    }
    return n;
}

static AVX512 size_t count_breaks_avx512(const uint64_t *p, size_t n)
{
    const __m512i one = _mm512_set1_epi64(1);
    __m512i breaks = _mm512_setzero_si512();
    size_t i = 0;

    for (; i + 9 <= n; i += 8) {
        const __mmask8 lanes = _mm512_cmpneq_epi64_mask(_mm512_add_epi64(load8(p + i), one), load8(p + i + 1));

        breaks = _mm512_mask_add_epi64(breaks, lanes, breaks, one);
    }
    return (size_t)_mm512_reduce_add_epi64(breaks) + count_breaks(p + i, n - i);
}

static const struct rtl_lanes avx512 = {
    "AVX-512", store_steps_avx512, count_steps_avx512, equal_avx512, all_bytes_avx512, count_nonzero_avx512, find_word_avx512,
    count_breaks_avx512};

size_t rtl_lanes_available(const struct rtl_lanes *available[3])
{
    size_t n = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
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
