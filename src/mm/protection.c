/* SPDX-License-Identifier: MIT */
/* What PAGE_* protections mean for a page table. Modifiers (guard, cache types) are their callers' to read. */

#include "mm/mm.h"

bool mm_access_of_protection(ULONG protection, uint8_t *access)
{
    switch (protection) {
    case PAGE_NOACCESS:
        *access = 0;
        return true;
    case PAGE_READONLY:
        *access = MM_READ;
        return true;
    case PAGE_READWRITE:
        *access = MM_READ | MM_WRITE;
        return true;
    case PAGE_EXECUTE:
    case PAGE_EXECUTE_READ:
        *access = MM_READ | MM_EXEC;
        return true;
    case PAGE_EXECUTE_READWRITE:
        *access = MM_READ | MM_WRITE | MM_EXEC;
        return true;
    default:
        return false;
    }
}
