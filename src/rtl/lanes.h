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

struct rtl_lanes {
    const char *name;

    /* out[i] = first + i */
    void (*count_up)(uint64_t *out, uint64_t first, size_t n);

    /* How many entries from the start follow one another: p[i + 1] == p[i] + 1. At least 1 unless n is 0. */
    size_t (*count_run)(const uint64_t *p, size_t n);

    bool (*equal)(const uint64_t *a, const uint64_t *b, size_t n);

    /* (bytes[i] & mask) == value for all i? */
    bool (*all_bytes)(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value);

    /* Of entries of 16 bytes, how many from the start have any of these bits in their upper eight? */
    size_t (*count_marked)(const void *entries, size_t n, uint64_t bits);
};

/* Those that this processor can run, the best one first; the scalar ones are always the last. How many there are. */
size_t rtl_lanes_available(const struct rtl_lanes *available[3]);

/* The best of them. */
extern const struct rtl_lanes *rtl_lanes;

/* As the bodies of these names; few entries are looked at right here. */
static inline bool rtl_equal(const uint64_t *a, const uint64_t *b, size_t n)
{
    uint64_t differ = 0;

    if (n > 4)
        return rtl_lanes->equal(a, b, n);
    for (size_t i = 0; i < n; i++)
        differ |= a[i] ^ b[i];
    return differ == 0;
}

static inline bool rtl_all_bytes(const _Atomic uint8_t *bytes, size_t n, uint8_t mask, uint8_t value)
{
    unsigned differ = 0;

    if (n > 4)
        return rtl_lanes->all_bytes(bytes, n, mask, value);
    for (size_t i = 0; i < n; i++)
        differ |= (atomic_load_explicit(&bytes[i], memory_order_acquire) & mask) ^ value;
    return differ == 0;
}

#endif
