/* SPDX-License-Identifier: MIT */
/*
 * The run-time library: memory, counted strings, lists. Everything here is inline and needs only <string.h>;
 * what a routine touches must be resident at DISPATCH_LEVEL, and any IRQL is fine otherwise unless a line
 * says more.
 */
#ifndef PINION_WDK_WDM_RTL_H
#define PINION_WDK_WDM_RTL_H

#include <string.h>

#include "../ntdef.h"
#include "wide.h"

/* ---- Memory -------------------------------------------------------------------------------------------- */

/* Copy bytes between blocks that do not overlap. Doc: wdm/nf-wdm-rtlcopymemory */
#define RtlCopyMemory(Destination, Source, Length) memcpy((Destination), (Source), (Length))
#define RtlCopyBytes                               RtlCopyMemory
/* Copy bytes between blocks that may overlap. Doc: wdm/nf-wdm-rtlmovememory */
#define RtlMoveMemory(Destination, Source, Length) memmove((Destination), (Source), (Length))
/* Fill a block with one byte. Doc: wdm/nf-wdm-rtlfillmemory */
#define RtlFillMemory(Destination, Length, Fill)   memset((Destination), (Fill), (Length))
/* Fill a block with zeros. Doc: wdm/nf-wdm-rtlzeromemory */
#define RtlZeroMemory(Destination, Length)         memset((Destination), 0, (Length))
#define RtlZeroBytes                               RtlZeroMemory
/* Whether two blocks are equal. Doc: wdm/nf-wdm-rtlequalmemory */
#define RtlEqualMemory(Left, Right, Length)        (memcmp((Left), (Right), (Length)) == 0)

/* Fill a block with zeros, even if nobody reads it again. Doc: wdm/nf-wdm-rtlsecurezeromemory */
static inline PVOID RtlSecureZeroMemory(PVOID Destination, SIZE_T Length)
{
    memset(Destination, 0, Length);
    __asm__ volatile("" : : "r"(Destination) : "memory");
    return Destination;
}

/* How many bytes at the start of two blocks are equal. Doc: wdm/nf-wdm-rtlcomparememory */
static inline SIZE_T RtlCompareMemory(const VOID *Source1, const VOID *Source2, SIZE_T Length)
{
    const UCHAR *Left = (const UCHAR *)Source1;
    const UCHAR *Right = (const UCHAR *)Source2;
    SIZE_T Equal = 0;

    while (Equal < Length && Left[Equal] == Right[Equal])
        Equal++;
    return Equal;
}

/* ---- Counted strings ----------------------------------------------------------------------------------- */

#ifdef __cplusplus
/* A literal is const in C++, and the Buffer of a counted string is not. Drivers include this inside extern "C". */
extern "C++" {
template <typename Char> constexpr Char *PinionStringBuffer(const Char *s)
{
    return const_cast<Char *>(s);
}
}
#define PINION_STRING_BUFFER(s) PinionStringBuffer(s)
#else
#define PINION_STRING_BUFFER(s) (s)
#endif

/* An initialiser of a counted string over a literal. Doc: wdm/nf-wdm-rtl_constant_string */
#define RTL_CONSTANT_STRING(s) { sizeof(s) - sizeof((s)[0]), sizeof(s), PINION_STRING_BUFFER(s) }

#define DECLARE_CONST_UNICODE_STRING(name, literal)                                 \
    const WCHAR name##_buffer[] = literal;                                          \
    const UNICODE_STRING name = { sizeof(literal) - sizeof(WCHAR), sizeof(literal), \
                                  (PWCH)(ULONG_PTR)name##_buffer }

#define DECLARE_UNICODE_STRING_SIZE(name, size) \
    WCHAR name##_buffer[size];                  \
    UNICODE_STRING name = { 0, (size) * sizeof(WCHAR), name##_buffer }

/* Make a counted string of a terminated one, sharing its buffer. What does not fit in 16 bits is cut off.
   Doc: wdm/nf-wdm-rtlinitunicodestring */
static inline VOID RtlInitUnicodeString(PUNICODE_STRING DestinationString, PCWSTR SourceString)
{
    const SIZE_T Longest = UNICODE_STRING_MAX_BYTES / sizeof(WCHAR) - 1;
    const SIZE_T Bytes = SourceString != NULL ? pinion_wcsnlen(SourceString, Longest) * sizeof(WCHAR) : 0;

    DestinationString->Length = (USHORT)Bytes;
    DestinationString->MaximumLength = (USHORT)(SourceString != NULL ? Bytes + sizeof(WCHAR) : 0);
    DestinationString->Buffer = (PWCH)(ULONG_PTR)SourceString;
}

/* Make an empty counted string over a buffer. Doc: wdm/nf-wdm-rtlinitemptyunicodestring */
static inline VOID RtlInitEmptyUnicodeString(PUNICODE_STRING UnicodeString, PWCHAR Buffer, USHORT BufferSize)
{
    UnicodeString->Length = 0;
    UnicodeString->MaximumLength = BufferSize;
    UnicodeString->Buffer = Buffer;
}

/* Make a counted string of a terminated one, sharing its buffer. What does not fit in 16 bits is cut off.
   Doc: wdm/nf-wdm-rtlinitansistring */
static inline VOID RtlInitAnsiString(PANSI_STRING DestinationString, PCSZ SourceString)
{
    const SIZE_T Longest = MAXUSHORT - 1;
    const SIZE_T Length = SourceString != NULL ? strlen(SourceString) : 0;
    const SIZE_T Bytes = Length < Longest ? Length : Longest;

    DestinationString->Length = (USHORT)Bytes;
    DestinationString->MaximumLength = (USHORT)(SourceString != NULL ? Bytes + 1 : 0);
    DestinationString->Buffer = (PCHAR)(ULONG_PTR)SourceString;
}

/* Copy as much of a string as fits, with a terminator if there is room. NULL clears.
   PASSIVE_LEVEL for pageable strings. Doc: wdm/nf-wdm-rtlcopyunicodestring */
static inline VOID RtlCopyUnicodeString(PUNICODE_STRING DestinationString, PCUNICODE_STRING SourceString)
{
    USHORT Bytes = SourceString != NULL ? SourceString->Length : (USHORT)0;

    if (Bytes > DestinationString->MaximumLength)
        Bytes = DestinationString->MaximumLength;
    if (Bytes > 0)
        memmove(DestinationString->Buffer, SourceString->Buffer, Bytes);
    DestinationString->Length = Bytes;
    if (Bytes + sizeof(WCHAR) <= DestinationString->MaximumLength)
        DestinationString->Buffer[Bytes / sizeof(WCHAR)] = UNICODE_NULL;
}

/* DEVIATION: wdm/nf-wdm-rtlequalunicodestring: case is folded for ASCII, Latin-1, Greek and Cyrillic
   letters only. */
static inline WCHAR PinionUpcase(WCHAR c)
{
    const BOOLEAN Latin1 = c >= 0xE0 && c <= 0xFE && c != 0xF7;
    const BOOLEAN Greek = c >= 0x3B1 && c <= 0x3C9 && c != 0x3C2;
    const BOOLEAN Cyrillic = c >= 0x430 && c <= 0x44F;

    if ((c >= 'a' && c <= 'z') || Latin1 || Greek || Cyrillic)
        return (WCHAR)(c - 0x20);
    if (c >= 0x450 && c <= 0x45F)
        return (WCHAR)(c - 0x50);
    return c;
}

/* Whether two strings are equal. PASSIVE_LEVEL. Doc: wdm/nf-wdm-rtlequalunicodestring */
static inline BOOLEAN RtlEqualUnicodeString(PCUNICODE_STRING String1, PCUNICODE_STRING String2,
                                            BOOLEAN CaseInSensitive)
{
    if (String1->Length != String2->Length)
        return FALSE;
    if (!CaseInSensitive)
        return String1->Length == 0 || memcmp(String1->Buffer, String2->Buffer, String1->Length) == 0;
    for (USHORT i = 0; i < String1->Length / sizeof(WCHAR); i++) {
        if (PinionUpcase(String1->Buffer[i]) != PinionUpcase(String2->Buffer[i]))
            return FALSE;
    }
    return TRUE;
}

/* ---- Lists --------------------------------------------------------------------------------------------- */

/* Make a list head of a doubly linked list. Doc: wdm/nf-wdm-initializelisthead */
static inline VOID InitializeListHead(PLIST_ENTRY ListHead)
{
    ListHead->Flink = ListHead;
    ListHead->Blink = ListHead;
}

/* Whether a list has no entries. Doc: wdm/nf-wdm-islistempty */
static inline BOOLEAN IsListEmpty(const LIST_ENTRY *ListHead)
{
    return ListHead->Flink == ListHead;
}

/* Take an entry out of the list it is in; TRUE if that list is empty now. Doc: wdm/nf-wdm-removeentrylist */
static inline BOOLEAN RemoveEntryList(PLIST_ENTRY Entry)
{
    PLIST_ENTRY Next = Entry->Flink;
    PLIST_ENTRY Previous = Entry->Blink;

    Previous->Flink = Next;
    Next->Blink = Previous;
    return Next == Previous;
}

/* Insert an entry behind the head. Doc: wdm/nf-wdm-insertheadlist */
static inline VOID InsertHeadList(PLIST_ENTRY ListHead, PLIST_ENTRY Entry)
{
    PLIST_ENTRY First = ListHead->Flink;

    Entry->Flink = First;
    Entry->Blink = ListHead;
    First->Blink = Entry;
    ListHead->Flink = Entry;
}

/* Insert an entry before the head, that is at the end. Doc: wdm/nf-wdm-inserttaillist */
static inline VOID InsertTailList(PLIST_ENTRY ListHead, PLIST_ENTRY Entry)
{
    InsertHeadList(ListHead->Blink, Entry);
}

/* Take the first entry out; the head itself if the list is empty. Doc: wdm/nf-wdm-removeheadlist */
static inline PLIST_ENTRY RemoveHeadList(PLIST_ENTRY ListHead)
{
    PLIST_ENTRY Entry = ListHead->Flink;

    RemoveEntryList(Entry);
    return Entry;
}

/* Take the last entry out; the head itself if the list is empty. Doc: wdm/nf-wdm-removetaillist */
static inline PLIST_ENTRY RemoveTailList(PLIST_ENTRY ListHead)
{
    PLIST_ENTRY Entry = ListHead->Blink;

    RemoveEntryList(Entry);
    return Entry;
}

/* Insert an entry at the front of a singly linked list. Doc: wdm/nf-wdm-pushentrylist */
static inline VOID PushEntryList(PSINGLE_LIST_ENTRY ListHead, PSINGLE_LIST_ENTRY Entry)
{
    Entry->Next = ListHead->Next;
    ListHead->Next = Entry;
}

/* Take the first entry out of a singly linked list; NULL if there is none. Doc: wdm/nf-wdm-popentrylist */
static inline PSINGLE_LIST_ENTRY PopEntryList(PSINGLE_LIST_ENTRY ListHead)
{
    PSINGLE_LIST_ENTRY Entry = ListHead->Next;

    if (Entry != NULL)
        ListHead->Next = Entry->Next;
    return Entry;
}

#endif /* PINION_WDK_WDM_RTL_H */
