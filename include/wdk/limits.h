/* SPDX-License-Identifier: MIT */
/*
 * A driver's <limits.h>: the host's, with the limits of `long` replaced by those of Windows, where LONG and
 * ULONG have 32 bits. A Linux program that defines PINION_HOST_CODE keeps its own.
 */
#include_next <limits.h>

#ifndef PINION_HOST_CODE
#undef LONG_MIN
#undef LONG_MAX
#undef ULONG_MAX
#define LONG_MIN  (-2147483647 - 1)
#define LONG_MAX  2147483647
#define ULONG_MAX 0xffffffffU
#endif
