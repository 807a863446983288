/* SPDX-License-Identifier: MIT */
/* A number, scrambled: each bit of the result depends on each bit of x, and no two x give the same. */
#ifndef PINION_RTL_MIX_H
#define PINION_RTL_MIX_H

#include <stdint.h>

static inline uint64_t rtl_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

#endif
