/* SPDX-License-Identifier: MIT */
/* Filler: bytes of one value that stand where nobody may write, to be compared later. */
#ifndef PINION_RTL_FILLER_H
#define PINION_RTL_FILLER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* If the first byte is filler and each is like the one before it, all are. */
static inline bool rtl_is_filler(uintptr_t from, uintptr_t to, uint8_t filler)
{
    return from == to || (*(const uint8_t *)from == filler && memcmp((const void *)from, (const void *)(from + 1), to - from - 1) == 0);
}

/* The address of the first byte of [from, to) that is not filler; `to` when all are, as nearly always. */
static inline uintptr_t rtl_find_damage(uintptr_t from, uintptr_t to, uint8_t filler)
{
    if (rtl_is_filler(from, to, filler))
        return to;
    while (from < to && *(const uint8_t *)from == filler)
        from++;
    return from;
}

#endif
