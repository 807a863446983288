/* SPDX-License-Identifier: MIT */
/*
 * A driver's <wchar.h>: the host's, with the string routines replaced by ours on 16-bit characters
 * (wdm/wide.h).
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
#include <wctype.h>

#include "wdm/wide.h"
