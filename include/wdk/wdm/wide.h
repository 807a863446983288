/* SPDX-License-Identifier: MIT */
/*
 * Wide-string routines over 16-bit characters. The host's work on its own wchar_t of 32 bits and go wrong
 * silently on the literals of a driver (wcslen(L"hello") is 20), so under -fshort-wchar the standard names
 * lead here. Comparison without case folds ASCII only, as the C locale does.
 */
#ifndef PINION_WDK_WDM_WIDE_H
#define PINION_WDK_WDM_WIDE_H

#include "../ntdef.h"

/* Some compilers turn such a loop into a call of the host's wcslen. */
#if defined(__clang__)
#define PINION_WIDE static inline __attribute__((no_builtin("wcslen")))
#else
#define PINION_WIDE static inline
#endif

PINION_WIDE size_t pinion_wcsnlen(const WCHAR *s, size_t limit)
{
    size_t n = 0;

    while (n < limit && s[n] != 0)
        n++;
    return n;
}

PINION_WIDE size_t pinion_wcslen(const WCHAR *s)
{
    return pinion_wcsnlen(s, (size_t)-1);
}

PINION_WIDE WCHAR *pinion_wcsncpy(WCHAR *to, const WCHAR *from, size_t n)
{
    const size_t length = pinion_wcsnlen(from, n);

    for (size_t i = 0; i < n; i++)
        to[i] = i < length ? from[i] : (WCHAR)0;
    return to;
}

PINION_WIDE WCHAR *pinion_wcscpy(WCHAR *to, const WCHAR *from)
{
    return pinion_wcsncpy(to, from, pinion_wcslen(from) + 1);
}

PINION_WIDE WCHAR *pinion_wcsncat(WCHAR *to, const WCHAR *from, size_t n)
{
    const size_t length = pinion_wcsnlen(from, n);
    WCHAR *end = to + pinion_wcslen(to);

    pinion_wcsncpy(end, from, length);
    end[length] = 0;
    return to;
}

PINION_WIDE WCHAR *pinion_wcscat(WCHAR *to, const WCHAR *from)
{
    return pinion_wcsncat(to, from, (size_t)-1);
}

PINION_WIDE int pinion_wcsncmp(const WCHAR *a, const WCHAR *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i])
            return (int)a[i] - (int)b[i];
        if (a[i] == 0)
            return 0;
    }
    return 0;
}

PINION_WIDE int pinion_wcscmp(const WCHAR *a, const WCHAR *b)
{
    return pinion_wcsncmp(a, b, (size_t)-1);
}

PINION_WIDE WCHAR pinion_lower(WCHAR c)
{
    return (WCHAR)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

PINION_WIDE int pinion_wcsnicmp(const WCHAR *a, const WCHAR *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int difference = (int)pinion_lower(a[i]) - (int)pinion_lower(b[i]);

        if (difference != 0 || a[i] == 0)
            return difference;
    }
    return 0;
}

PINION_WIDE int pinion_wcsicmp(const WCHAR *a, const WCHAR *b)
{
    return pinion_wcsnicmp(a, b, (size_t)-1);
}

PINION_WIDE WCHAR *pinion_wcschr(const WCHAR *s, WCHAR c)
{
    for (; *s != c; s++) {
        if (*s == 0)
            return NULL;
    }
    return (WCHAR *)(ULONG_PTR)s;
}

PINION_WIDE WCHAR *pinion_wcsrchr(const WCHAR *s, WCHAR c)
{
    for (size_t i = pinion_wcslen(s) + 1; i > 0; i--) {
        if (s[i - 1] == c)
            return (WCHAR *)(ULONG_PTR)&s[i - 1];
    }
    return NULL;
}

PINION_WIDE WCHAR *pinion_wcsstr(const WCHAR *s, const WCHAR *part)
{
    const size_t length = pinion_wcslen(part);

    for (; pinion_wcsncmp(s, part, length) != 0; s++) {
        if (*s == 0)
            return NULL;
    }
    return (WCHAR *)(ULONG_PTR)s;
}

#endif /* PINION_WDK_WDM_WIDE_H */

/* Outside the guard: the wrapper of <wchar.h> takes the names away while the host's header is read, and
   comes back for them. */
#if __SIZEOF_WCHAR_T__ == 2 && !defined(PINION_HOST_CODE) && !defined(wcslen)
#define wcslen    pinion_wcslen
#define wcsnlen   pinion_wcsnlen
#define wcscpy    pinion_wcscpy
#define wcsncpy   pinion_wcsncpy
#define wcscat    pinion_wcscat
#define wcsncat   pinion_wcsncat
#define wcscmp    pinion_wcscmp
#define wcsncmp   pinion_wcsncmp
#define wcschr    pinion_wcschr
#define wcsrchr   pinion_wcsrchr
#define wcsstr    pinion_wcsstr
#define _wcsicmp  pinion_wcsicmp
#define _wcsnicmp pinion_wcsnicmp
#endif
