/* SPDX-License-Identifier: MIT */
/*
 * Lanes: loops over arrays of page numbers and page attributes that the widest vectors of the processor run.
 *
 * Each has a scalar body, which says what it does, and an AVX2 and an AVX-512 one; which run is chosen when the library is loaded. A test compares
 * them. Under ThreadSanitizer the scalar bodies run: they read attributes the way that it understands.
 */
#ifndef PINION_RTL_LANES_H
#define PINION_RTL_LANES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * A progression of page numbers: the i-th one is base + ((place + i * step) & mask). Pages that are neighbours in the RAM file have
 * such numbers; where they simply count up, step is 1 and mask all ones.
 */
struct rtl_steps {
    uint64_t base, place, step, mask;
};

static inline struct rtl_steps rtl_steps_up_from(uint64_t first)
{
    return (struct rtl_steps){.base = 0, .place = first, .step = 1, .mask = ~(uint64_t)0};
}

static inline uint64_t rtl_step_number(const struct rtl_steps *steps, size_t i)
{
    return steps->base + ((steps->place + i * steps->step) & steps->mask);
}

struct rtl_lanes {
    const char *name;

    /* out[i] = the i-th number */
    void (*store_steps)(uint64_t *out, const struct rtl_steps *steps, size_t n);

    /* How many entries from the start are the progression's. */
    size_t (*count_steps)(const uint64_t *p, const struct rtl_steps *steps, size_t n);

    bool (*equal)(const uint64_t *a, const uint64_t *b, size_t n);

    /* (bytes[i] & mask) == value for all i? */
    bool (*all_bytes)(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value);

    /* How many bytes from the start are not zero. */
    size_t (*count_nonzero)(const _Atomic uint8_t *bytes, size_t n);

    /* The index of the first entry with this value; n: there is none. */
    size_t (*find_word)(const _Atomic uint64_t *words, size_t n, uint64_t value);

    /* How many of the entries do not follow the one before them: p[i] != p[i - 1] + 1. */
    size_t (*count_breaks)(const uint64_t *p, size_t n);
};

/* Those that this processor can run, the best one first; the scalar ones are always the last. How many there are. */
size_t rtl_lanes_available(const struct rtl_lanes *available[3]);

/* The best of them. */
extern const struct rtl_lanes *rtl_lanes;

/* As the bodies of these names. A few entries are looked at right here: they take less time than the call. */

enum { RTL_FEW = 8, RTL_FEW_BYTES = 16, RTL_SLACK_BYTES = 8 };

#if defined(__SANITIZE_THREAD__)
enum { RTL_BY_EIGHTS = false };         /* it follows accesses to whole entries only */
#else
enum { RTL_BY_EIGHTS = true };
#endif

typedef uint64_t rtl_eight_bytes __attribute__((aligned(1), may_alias));

static inline uint64_t rtl_load_eight(const _Atomic uint8_t *bytes)
{
    const uint64_t eight = *(const volatile rtl_eight_bytes *)(const volatile void *)bytes;

    atomic_signal_fence(memory_order_acquire);
    return eight;
}

/* The same byte eight times. */
static inline uint64_t rtl_repeat_byte(uint8_t byte)
{
    return byte * (~(uint64_t)0 / 0xFF);
}

static inline void rtl_store_steps(uint64_t *out, const struct rtl_steps *steps, size_t n)
{
    if (n > RTL_FEW) {
        rtl_lanes->store_steps(out, steps, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = rtl_step_number(steps, i);
}

/*
 *     5 numbers    | first 4 ........ |          the two halves overlap where the count is no power of two
 *                     | ........ last 4 |
 */
static inline uint64_t rtl_differ_up_to_8(const uint64_t *a, const uint64_t *b, size_t n)
{
    const uint64_t *a_end = a + n, *b_end = b + n;
    uint64_t differ = 0;

    if (n == 1)
        return a[0] ^ b[0];
    if (n >= 2)
        differ = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a_end[-1] ^ b_end[-1]) | (a_end[-2] ^ b_end[-2]);
    if (n > 4)
        differ |= (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a_end[-3] ^ b_end[-3]) | (a_end[-4] ^ b_end[-4]);
    return differ;
}

static inline bool rtl_equal(const uint64_t *a, const uint64_t *b, size_t n)
{
    return n > RTL_FEW ? rtl_lanes->equal(a, b, n) : rtl_differ_up_to_8(a, b, n) == 0;
}

/* Of the first eight bytes, the n in front; at least one. */
static inline uint64_t rtl_keep_first(uint64_t eight, size_t n)
{
    return eight << (64 - 8 * n);
}

/* At least RTL_SLACK_BYTES behind the last one can be read. */
static inline bool rtl_all_bytes(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value)
{
    const uint64_t masks = rtl_repeat_byte(mask), values = rtl_repeat_byte(value);

    if (n > RTL_FEW_BYTES || !RTL_BY_EIGHTS || n == 0)
        return rtl_lanes->all_bytes(bytes, n, mask, value);
    if (n <= 8)
        return rtl_keep_first((rtl_load_eight(bytes) & masks) ^ values, n) == 0;
    return (((rtl_load_eight(bytes) & masks) ^ values) | ((rtl_load_eight(bytes + n - 8) & masks) ^ values)) == 0;
}

/* Exact in its lowest such bit, and so in whether there is one. */
static inline bool rtl_has_zero_byte(uint64_t eight)
{
    return ((eight - rtl_repeat_byte(0x01)) & ~eight & rtl_repeat_byte(0x80)) != 0;
}

static inline size_t rtl_count_nonzero(const _Atomic uint8_t *bytes, size_t n)
{
    size_t i = 0;

    if (n > RTL_FEW_BYTES)
        return rtl_lanes->count_nonzero(bytes, n);
    if (RTL_BY_EIGHTS && n >= 8 && !rtl_has_zero_byte(rtl_load_eight(bytes)) && !rtl_has_zero_byte(rtl_load_eight(bytes + n - 8)))
        return n;
    while (i < n && atomic_load_explicit(&bytes[i], memory_order_acquire) != 0)
        i++;
    return i;
}

#if defined(__SANITIZE_THREAD__)
static inline void rtl_fill_bytes(_Atomic uint8_t *bytes, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        atomic_store_explicit(&bytes[i], value, memory_order_release);
}
#else
static inline void rtl_fill_bytes(_Atomic uint8_t *bytes, size_t n, uint8_t value)
{
    atomic_thread_fence(memory_order_release);
    memset((void *)bytes, value, n);
}
#endif

static inline size_t rtl_find_word(const _Atomic uint64_t *words, size_t n, uint64_t value)
{
    size_t i = 0;

    if (n > RTL_FEW)
        return rtl_lanes->find_word(words, n, value);
    while (i < n && atomic_load_explicit(&words[i], memory_order_relaxed) != value)
        i++;
    return i;
}

#endif
