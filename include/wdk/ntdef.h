/* SPDX-License-Identifier: MIT */
/*
 * The basic types of Windows on a Linux host, and the spellings of Microsoft's compiler.
 *
 * The data model is that of 64-bit Windows: ULONG and LONG have 32 bits and pointer-sized integers have 64.
 * As on Windows, all unsigned 64-bit types are one type, size_t and uint64_t included, so that `SIZE_T *` and
 * `size_t *` mix; on an LP64 host that type is `unsigned long`. WCHAR has 16 bits: it is wchar_t under
 * -fshort-wchar, as drivers are built, and the type of u"" literals otherwise.
 *
 * A Linux program that includes these headers for their types defines PINION_HOST_CODE: it then keeps min,
 * max, IN, OUT, the annotations of the first vintage, ULONG_MAX and the names of the wide-string routines for
 * itself.
 *
 * No DDI lives here. Of the host's headers only freestanding ones and <string.h> are included.
 */
#ifndef PINION_WDK_NTDEF_H
#define PINION_WDK_NTDEF_H

#include <stdarg.h>
#include <stddef.h>

#include "driverspecs.h"
#include "guiddef.h"
#include "sal.h"

/* ---- Which Windows the source is written for ----------------------------------------------------------- */

#define NTDDI_WIN2K       0x05000000
#define NTDDI_WINXP       0x05010000
#define NTDDI_WINXPSP1    0x05010100
#define NTDDI_WINXPSP2    0x05010200
#define NTDDI_WINXPSP3    0x05010300
#define NTDDI_WS03        0x05020000
#define NTDDI_WS03SP1     0x05020100
#define NTDDI_WS03SP2     0x05020200
#define NTDDI_WIN6        0x06000000
#define NTDDI_WIN6SP1     0x06000100
#define NTDDI_VISTA       NTDDI_WIN6
#define NTDDI_VISTASP1    NTDDI_WIN6SP1
#define NTDDI_LONGHORN    NTDDI_VISTA
#define NTDDI_WS08        NTDDI_WIN6SP1
#define NTDDI_WIN7        0x06010000
#define NTDDI_WIN8        0x06020000
#define NTDDI_WINBLUE     0x06030000
#define NTDDI_WINTHRESHOLD 0x0A000000
#define NTDDI_WIN10       0x0A000000
#define NTDDI_WIN10_TH2   0x0A000001
#define NTDDI_WIN10_RS1   0x0A000002
#define NTDDI_WIN10_RS2   0x0A000003
#define NTDDI_WIN10_RS3   0x0A000004
#define NTDDI_WIN10_RS4   0x0A000005
#define NTDDI_WIN10_RS5   0x0A000006
#define NTDDI_WIN10_19H1  0x0A000007
#define NTDDI_WIN10_VB    0x0A000008

#define _WIN32_WINNT_WIN2K   0x0500
#define _WIN32_WINNT_WINXP   0x0501
#define _WIN32_WINNT_WS03    0x0502
#define _WIN32_WINNT_WIN6    0x0600
#define _WIN32_WINNT_VISTA   0x0600
#define _WIN32_WINNT_WS08    0x0600
#define _WIN32_WINNT_LONGHORN 0x0600
#define _WIN32_WINNT_WIN7    0x0601
#define _WIN32_WINNT_WIN8    0x0602
#define _WIN32_WINNT_WINBLUE 0x0603
#define _WIN32_WINNT_WIN10   0x0A00

/* A source that names no version means Windows 10 with everything it got up to version 2004. */
#ifndef _WIN32_WINNT
#ifdef NTDDI_VERSION
#define _WIN32_WINNT (NTDDI_VERSION >> 16)
#else
#define _WIN32_WINNT _WIN32_WINNT_WIN10
#endif
#endif
#ifndef NTDDI_VERSION
#if _WIN32_WINNT == _WIN32_WINNT_WIN10
#define NTDDI_VERSION NTDDI_WIN10_VB
#else
#define NTDDI_VERSION (_WIN32_WINNT * 0x10000)
#endif
#endif
#ifndef WINVER
#define WINVER _WIN32_WINNT
#endif

/* Checked builds say -DDBG=1. */
#ifndef DBG
#define DBG 0
#endif

#if !defined(_WIN64) && defined(__LP64__)
#define _WIN64 1
#endif
#if defined(__x86_64__) && !defined(_AMD64_)
#define _AMD64_ 1
#endif
#if defined(__x86_64__) && !defined(_M_AMD64)
#define _M_AMD64 100
#define _M_X64   100
#endif
#if defined(__aarch64__) && !defined(_ARM64_)
#define _ARM64_ 1
#endif

/* ---- Spellings of Microsoft's compiler ----------------------------------------------------------------- */

#define __int8  char
#define __int16 short
#define __int32 int
#define __int64 long

#define __cdecl
#define __stdcall
#define __fastcall
#define __thiscall
#define __vectorcall
#define _cdecl
#define _stdcall
#define _fastcall
#define CDECL
#define STDCALL
#define FASTCALL
#define NTAPI
#define NTAPI_INLINE
#define WINAPI
#define CALLBACK
#define CALLOUT

#define __ptr32
#define __ptr64
#define __sptr
#define __uptr
#define __unaligned
#define __w64
#define UNALIGNED
#define RESTRICTED_POINTER __restrict__
#define POINTER_32
#define POINTER_64
#define FIRMWARE_PTR

/* __declspec(word) and __declspec(word(argument)): the first token selects one of the lines below. */
#define __declspec(what) PINION_DECLSPEC_##what
#define PINION_DECLSPEC_align(n)      __attribute__((aligned(n)))
#define PINION_DECLSPEC_allocate(s)   __attribute__((section(s)))
#define PINION_DECLSPEC_allocator
#define PINION_DECLSPEC_code_seg(s)   __attribute__((section(s)))
#define PINION_DECLSPEC_deprecated    __attribute__((deprecated))
#define PINION_DECLSPEC_dllexport     __attribute__((visibility("default")))
#define PINION_DECLSPEC_dllimport
#define PINION_DECLSPEC_guard(x)
#define PINION_DECLSPEC_naked         __attribute__((naked))
#define PINION_DECLSPEC_noalias
#define PINION_DECLSPEC_noinline      __attribute__((noinline))
#define PINION_DECLSPEC_noreturn      __attribute__((noreturn))
#define PINION_DECLSPEC_nothrow       __attribute__((nothrow))
#define PINION_DECLSPEC_novtable
#define PINION_DECLSPEC_restrict      __attribute__((malloc))
#define PINION_DECLSPEC_safebuffers
#define PINION_DECLSPEC_selectany     __attribute__((weak))
#define PINION_DECLSPEC_thread        __thread
#define PINION_DECLSPEC_uuid(s)

#define DECLSPEC_ALIGN(n)        __attribute__((aligned(n)))
#define DECLSPEC_ALLOCATE(s)     __attribute__((section(s)))
#define DECLSPEC_CACHEALIGN      DECLSPEC_ALIGN(SYSTEM_CACHE_ALIGNMENT_SIZE)
#define DECLSPEC_DEPRECATED      __attribute__((deprecated))
#define DECLSPEC_DEPRECATED_DDK
#define DECLSPEC_EXPORT          __attribute__((visibility("default")))
#define DECLSPEC_IMPORT
#define DECLSPEC_NOINITALL
#define DECLSPEC_NOINLINE        __attribute__((noinline))
#define DECLSPEC_NORETURN        __attribute__((noreturn))
#define DECLSPEC_NOTHROW         __attribute__((nothrow))
#define DECLSPEC_NOVTABLE
#define DECLSPEC_RESTRICT
#define DECLSPEC_SELECTANY       __attribute__((weak))
#define DECLSPEC_UUID(s)

#define SYSTEM_CACHE_ALIGNMENT_SIZE 64
#define MEMORY_ALLOCATION_ALIGNMENT 16
#define MAX_NATURAL_ALIGNMENT       sizeof(ULONGLONG)
#define TYPE_ALIGNMENT(t)           __alignof__(t)
#define POINTER_ALIGNMENT           DECLSPEC_ALIGN(8)

/* These carry no storage class: drivers write `static FORCEINLINE`. */
#define FORCEINLINE   __inline__ __attribute__((always_inline))
#define __forceinline __inline__ __attribute__((always_inline))
#define CFORCEINLINE  FORCEINLINE
#define _inline       __inline__
#define FORCENOINLINE __attribute__((noinline))

/* A breakpoint that stands in the code: a debugger stops here; without one it is the exception STATUS_BREAKPOINT. */
static FORCEINLINE void PinionBreak(void)
{
#if defined(__x86_64__)
    __asm__ volatile("int3");
#elif defined(__aarch64__)
    __asm__ volatile("brk #0xF000");
#else
#error "PinionBreak: the breakpoint instruction of this processor is needed"
#endif
}

#define __noop(...)        ((void)0)
#define __assume(e)        ((e) ? (void)0 : __builtin_unreachable())
#define __debugbreak()     PinionBreak()
#ifndef __pragma
#define __pragma(x)
#endif
#define _ReturnAddress()   __builtin_return_address(0)

#define DUMMYUNIONNAME
#define DUMMYUNIONNAME2
#define DUMMYUNIONNAME3
#define DUMMYSTRUCTNAME
#define DUMMYSTRUCTNAME2
#define _ANONYMOUS_UNION
#define _ANONYMOUS_STRUCT

/* A routine that leaves the library. The library itself is built with hidden visibility. */
#define NTKERNELAPI __attribute__((visibility("default")))
#define NTSYSAPI    __attribute__((visibility("default")))
#define NTHALAPI    __attribute__((visibility("default")))

#ifdef __cplusplus
#define EXTERN_C_START extern "C" {
#define EXTERN_C_END   }
#define C_ASSERT(e)    static_assert(e, #e)
#else
#define EXTERN_C_START
#define EXTERN_C_END
#define C_ASSERT(e)    _Static_assert(e, #e)
#endif

EXTERN_C_START

/* ---- Integers ------------------------------------------------------------------------------------------ */

#ifndef VOID
#define VOID void
#endif
#ifndef CONST
#define CONST const
#endif

typedef char               CHAR, CCHAR;
typedef signed char        SCHAR, INT8;
typedef unsigned char      UCHAR, BYTE, UINT8, BOOLEAN;
typedef short              SHORT, CSHORT, INT16;
typedef unsigned short     USHORT, WORD, UINT16;
typedef int                INT, LONG, BOOL, INT32, LONG32;
typedef unsigned int       UINT, ULONG, DWORD, UINT32, ULONG32, DWORD32, LOGICAL;
typedef __int64            LONGLONG, LONG64, INT64, LONG_PTR, INT_PTR, SSIZE_T;
typedef unsigned __int64   ULONGLONG, ULONG64, UINT64, DWORDLONG, DWORD64;
typedef unsigned __int64   ULONG_PTR, UINT_PTR, DWORD_PTR, SIZE_T;
typedef float              FLOAT;
typedef double             DOUBLE;

typedef int          HALF_PTR;
typedef unsigned int UHALF_PTR;
typedef ULONG_PTR    KAFFINITY, *PKAFFINITY;

C_ASSERT(sizeof(ULONG) == 4 && sizeof(LONG) == 4);
C_ASSERT(sizeof(ULONGLONG) == 8 && sizeof(ULONG_PTR) == sizeof(void *));

typedef void              *PVOID, *HANDLE, *PVOID64;
typedef const void        *PCVOID;
typedef HANDLE            *PHANDLE;
typedef PVOID             *PPVOID;
typedef CHAR              *PCHAR, *LPCH, *PCH, *PSZ, *PSTR, *LPSTR;
typedef const CHAR        *PCSZ, *LPCCH, *PCCH, *PCSTR, *LPCSTR;
typedef CCHAR             *PCCHAR;
typedef SCHAR             *PSCHAR;
typedef UCHAR             *PUCHAR, *PBYTE;
typedef const UCHAR       *PCUCHAR;
typedef BOOLEAN           *PBOOLEAN;
typedef BOOL              *PBOOL;
typedef SHORT             *PSHORT, *PCSHORT;
typedef USHORT            *PUSHORT, *PWORD;
typedef INT               *PINT;
typedef UINT              *PUINT;
typedef LONG              *PLONG, *PLONG32, *PINT32;
typedef ULONG             *PULONG, *PULONG32, *PUINT32, *PDWORD, *PLOGICAL;
typedef const ULONG       *PCULONG;
typedef LONGLONG          *PLONGLONG, *PLONG64, *PINT64;
typedef ULONGLONG         *PULONGLONG, *PULONG64, *PUINT64, *PDWORDLONG;
typedef LONG_PTR          *PLONG_PTR, *PINT_PTR, *PSSIZE_T;
typedef ULONG_PTR         *PULONG_PTR, *PUINT_PTR, *PSIZE_T;

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif

#define MINCHAR     0x80
#define MAXCHAR     0x7f
#define MINSHORT    0x8000
#define MAXSHORT    0x7fff
#define MINLONG     0x80000000U
#define MAXLONG     0x7fffffff
#define MAXUCHAR    0xff
#define MAXUSHORT   0xffff
#define MAXULONG    0xffffffffU
#define MAXLONGLONG 0x7fffffffffffffffL
#define MAXULONGLONG 0xffffffffffffffffUL
#define MAXULONG64  ((ULONG64)~(ULONG64)0)
#define MAXULONG_PTR ((ULONG_PTR)~(ULONG_PTR)0)
#define MAXSIZE_T   ((SIZE_T)~(SIZE_T)0)
#define MAXUINT32   0xffffffffU

#define ANYSIZE_ARRAY 1

/* ---- Characters and strings ---------------------------------------------------------------------------- */

#if __SIZEOF_WCHAR_T__ == 2
typedef wchar_t WCHAR;
#elif defined(__cplusplus)
typedef char16_t WCHAR;
#else
typedef unsigned short WCHAR;
#endif
C_ASSERT(sizeof(WCHAR) == 2);

typedef WCHAR       *PWCHAR, *LPWCH, *PWCH, *NWPSTR, *LPWSTR, *PWSTR;
typedef const WCHAR *LPCWCH, *PCWCH, *LPCWSTR, *PCWSTR;
typedef PWSTR       *PZPWSTR;

typedef struct _STRING {
    USHORT Length;        /* in bytes, without any terminator */
    USHORT MaximumLength; /* of Buffer, in bytes */
    PCHAR  Buffer;
} STRING, ANSI_STRING, OEM_STRING, *PSTRING, *PANSI_STRING, *POEM_STRING;
typedef const STRING *PCSTRING, *PCANSI_STRING, *PCOEM_STRING;

typedef struct _UNICODE_STRING {
    USHORT Length;        /* in bytes, without any terminator */
    USHORT MaximumLength; /* of Buffer, in bytes */
    PWCH   Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;
C_ASSERT(sizeof(UNICODE_STRING) == 16);

#define UNICODE_NULL          ((WCHAR)0)
#define ANSI_NULL             ((CHAR)0)
#define UNICODE_STRING_MAX_BYTES ((USHORT)65534)
#define UNICODE_STRING_MAX_CHARS 32767

/* ---- Status, large integers, lists --------------------------------------------------------------------- */

typedef LONG NTSTATUS, *PNTSTATUS;

#define NT_SUCCESS(Status)     (((NTSTATUS)(Status)) >= 0)
#define NT_INFORMATION(Status) ((((ULONG)(Status)) >> 30) == 1)
#define NT_WARNING(Status)     ((((ULONG)(Status)) >> 30) == 2)
#define NT_ERROR(Status)       ((((ULONG)(Status)) >> 30) == 3)

typedef union _LARGE_INTEGER {
    struct {
        ULONG LowPart;
        LONG  HighPart;
    };
    struct {
        ULONG LowPart;
        LONG  HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

typedef union _ULARGE_INTEGER {
    struct {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef LARGE_INTEGER PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;
C_ASSERT(sizeof(LARGE_INTEGER) == 8);

typedef struct _LUID {
    ULONG LowPart;
    LONG  HighPart;
} LUID, *PLUID;

typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY, *RESTRICTED_POINTER PRLIST_ENTRY;
C_ASSERT(sizeof(LIST_ENTRY) == 16);

typedef struct _SINGLE_LIST_ENTRY {
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

/* ---- Small macros -------------------------------------------------------------------------------------- */

#define FIELD_OFFSET(type, field) ((LONG)offsetof(type, field))
#define UFIELD_OFFSET(type, field) ((ULONG)offsetof(type, field))
#define RTL_FIELD_SIZE(type, field) (sizeof(((type *)0)->field))
#define RTL_SIZEOF_THROUGH_FIELD(type, field) (offsetof(type, field) + RTL_FIELD_SIZE(type, field))
#define CONTAINING_RECORD(address, type, field) ((type *)((PCHAR)(address) - offsetof(type, field)))

#define RTL_NUMBER_OF(array) (sizeof(array) / sizeof((array)[0]))
#define ARRAYSIZE(array)     RTL_NUMBER_OF(array)
#define _ARRAYSIZE(array)    RTL_NUMBER_OF(array)

#define ALIGN_DOWN_BY(length, alignment)          ((ULONG_PTR)(length) & ~((ULONG_PTR)(alignment) - 1))
#define ALIGN_UP_BY(length, alignment)  ALIGN_DOWN_BY((ULONG_PTR)(length) + (alignment) - 1, alignment)
#define ALIGN_DOWN_POINTER_BY(address, alignment) ((PVOID)ALIGN_DOWN_BY(address, alignment))
#define ALIGN_UP_POINTER_BY(address, alignment)   ((PVOID)ALIGN_UP_BY(address, alignment))
#define ALIGN_DOWN(length, type)                  ALIGN_DOWN_BY(length, sizeof(type))
#define ALIGN_UP(length, type)                    ALIGN_UP_BY(length, sizeof(type))
#define ALIGN_DOWN_POINTER(address, type)         ALIGN_DOWN_POINTER_BY(address, sizeof(type))
#define ALIGN_UP_POINTER(address, type)           ALIGN_UP_POINTER_BY(address, sizeof(type))

#define FlagOn(flags, mask)   ((flags) & (mask))
#define BooleanFlagOn(f, m)   ((BOOLEAN)(((f) & (m)) != 0))
#define SetFlag(flags, mask)   ((flags) |= (mask))
#define ClearFlag(flags, mask) ((flags) &= ~(mask))

#define NOTHING
#define UNREFERENCED_PARAMETER(P)          ((void)(P))
#define DBG_UNREFERENCED_PARAMETER(P)      ((void)(P))
#define DBG_UNREFERENCED_LOCAL_VARIABLE(V) ((void)(V))

#define PtrToUlong(p)     ((ULONG)(ULONG_PTR)(p))
#define PtrToLong(p)      ((LONG)(LONG_PTR)(p))
#define PtrToUint(p)      ((UINT)(UINT_PTR)(p))
#define UlongToPtr(v)     ((PVOID)(ULONG_PTR)(ULONG)(v))
#define ULongToPtr(v)     UlongToPtr(v)
#define LongToPtr(v)      ((PVOID)(LONG_PTR)(LONG)(v))
#define HandleToULong(h)  PtrToUlong(h)
#define HandleToUlong(h)  PtrToUlong(h)
#define ULongToHandle(v)  ((HANDLE)UlongToPtr(v))
#define UlongToHandle(v)  ((HANDLE)UlongToPtr(v))

/* In C++ these are functions: macros of such names would break every header of the standard library behind this one. */
#if defined(__cplusplus) && !defined(PINION_HOST_CODE) && !defined(NOMINMAX) && !defined(min) && !defined(max)
extern "C++" {
template <typename A, typename B> constexpr auto min(A a, B b) -> decltype(true ? A{} : B{})
{
    return a < b ? a : b;
}
template <typename A, typename B> constexpr auto max(A a, B b) -> decltype(true ? A{} : B{})
{
    return a > b ? a : b;
}
}
#endif

#define ARGUMENT_PRESENT(p) ((PVOID)(p) != NULL)

/* Short names that a driver expects and a Linux program may want for itself. */
#ifndef PINION_HOST_CODE
#define IN
#define OUT
#define OPTIONAL
#define FAR
#ifndef __cplusplus
#if !defined(NOMINMAX) && !defined(min)
#define min(a, b) (((a) < (b)) ? (a) : (b))
#endif
#if !defined(NOMINMAX) && !defined(max)
#define max(a, b) (((a) > (b)) ? (a) : (b))
#endif
#endif
#endif

EXTERN_C_END

#endif /* PINION_WDK_NTDEF_H */
