/* SPDX-License-Identifier: MIT */
/*
 * A driver's <wchar.h>: the host's, with the string routines replaced by ours on 16-bit characters
 * (wdm/wide.h). The C++ standard library is built on the host's: there, ours come only where a driver's headers were
 * included before, and <cwchar> takes the names away again.
 */
#undef wcslen
#undef wcsnlen
#undef wcscpy
#undef wcsncpy
#undef wcscat
#undef wcsncat
#undef wcscmp
#undef wcsncmp
#undef wcschr
#undef wcsrchr
#undef wcsstr
#undef _wcsicmp
#undef _wcsnicmp

#include_next <wchar.h>
#if !defined(__cplusplus) || defined(PINION_WDK_NTDEF_H)
#include <wctype.h>

#include "wdm/wide.h"
#endif
