/* SPDX-License-Identifier: MIT */
/* Filler: bytes of one value that stand where nobody may write, to be compared later. */
#ifndef PINION_RTL_FILLER_H
#define PINION_RTL_FILLER_H

#include <stdint.h>

/* The address of the first byte of [from, to) that is not filler; `to` when all are. */
static inline uintptr_t rtl_find_damage(uintptr_t from, uintptr_t to, uint8_t filler)
{
    while (from < to && *(const uint8_t *)from == filler)
        from++;
    return from;
}

#endif
