/* SPDX-License-Identifier: MIT */
/*
 * What the inline parts of include/wdk compute: wide strings, counted strings, lists, interlocked operations,
 * page arithmetic, MDL headers, the stack of an IRP. Needs no library. Compiles as C and as C++; exits with 1
 * if anything does not hold.
 */

#include <stdio.h>
#include <stdlib.h>

#include <ntifs.h>
#include <limits.h>
#include <wchar.h>

static unsigned checks;
static unsigned failures;

static void check(int holds, const char *expression, int line)
{
    checks++;
    if (holds)
        return;
    failures++;
    fprintf(stderr, "inline.c:%d: does not hold: %s\n", line, expression);
}

#define CHECK(expression) check(!!(expression), #expression, __LINE__)

static int wide_equal(const WCHAR *a, const WCHAR *b, size_t n)
{
    return memcmp(a, b, n * sizeof(WCHAR)) == 0;
}

static void test_wide_lengths_and_comparison(void)
{
    CHECK(wcslen(L"") == 0);
    CHECK(wcslen(L"hello") == 5);
    CHECK(wcsnlen(L"hello", 3) == 3);
    CHECK(wcsnlen(L"hello", 9) == 5);
    CHECK(wcscmp(L"abc", L"abc") == 0);
    CHECK(wcscmp(L"abc", L"abd") < 0);
    CHECK(wcscmp(L"abc", L"ab") > 0);
    CHECK(wcscmp(L"\xFFFF", L"a") > 0);
    CHECK(wcsncmp(L"abX", L"abY", 2) == 0);
    CHECK(wcsncmp(L"abX", L"abY", 3) < 0);
    CHECK(wcsncmp(L"a", L"a", 100) == 0);
    CHECK(_wcsicmp(L"DeViCe", L"dEvIcE") == 0);
    CHECK(_wcsicmp(L"[", L"{") != 0);
    CHECK(_wcsnicmp(L"ABx", L"abY", 2) == 0);
    CHECK(_wcsnicmp(L"ABx", L"abY", 3) < 0);
}

static void test_wide_copies(void)
{
    WCHAR to[8];

    memset(to, 0x55, sizeof(to));
    CHECK(wcscpy(to, L"ab") == to);
    CHECK(wide_equal(to, L"ab\0\x5555", 4));

    CHECK(wcscat(to, L"cd") == to);
    CHECK(wide_equal(to, L"abcd\0\x5555", 6));

    CHECK(wcsncat(to, L"efgh", 1) == to);
    CHECK(wide_equal(to, L"abcde\0\x5555", 7));

    memset(to, 0x55, sizeof(to));
    CHECK(wcsncpy(to, L"ab", 4) == to);
    CHECK(wide_equal(to, L"ab\0\0\x5555", 5));

    memset(to, 0x55, sizeof(to));
    wcsncpy(to, L"abcdef", 3);
    CHECK(wide_equal(to, L"abc\x5555", 4));
}

static void test_wide_searches(void)
{
    const WCHAR *s = L"a\\b\\c";

    CHECK(wcschr(s, L'\\') == s + 1);
    CHECK(wcsrchr(s, L'\\') == s + 3);
    CHECK(wcschr(s, L'x') == NULL);
    CHECK(wcsrchr(s, L'x') == NULL);
    CHECK(wcschr(s, 0) == s + 5);
    CHECK(wcsrchr(s, 0) == s + 5);
    CHECK(wcsstr(s, L"b\\") == s + 2);
    CHECK(wcsstr(s, L"") == s);
    CHECK(wcsstr(s, L"c\\") == NULL);
}

static void test_init_of_counted_strings(void)
{
    static const UNICODE_STRING constant = RTL_CONSTANT_STRING(L"abc");
    static const ANSI_STRING ansi_constant = RTL_CONSTANT_STRING("abcd");
    UNICODE_STRING u;
    ANSI_STRING a;
    WCHAR room[4];

    CHECK(constant.Length == 6 && constant.MaximumLength == 8 && constant.Buffer[2] == L'c');
    CHECK(ansi_constant.Length == 4 && ansi_constant.MaximumLength == 5 && ansi_constant.Buffer[3] == 'd');

    RtlInitUnicodeString(&u, L"abc");
    CHECK(u.Length == 6 && u.MaximumLength == 8 && u.Buffer[0] == L'a');
    RtlInitUnicodeString(&u, L"");
    CHECK(u.Length == 0 && u.MaximumLength == 2 && u.Buffer != NULL);
    RtlInitUnicodeString(&u, NULL);
    CHECK(u.Length == 0 && u.MaximumLength == 0 && u.Buffer == NULL);

    RtlInitEmptyUnicodeString(&u, room, sizeof(room));
    CHECK(u.Length == 0 && u.MaximumLength == 8 && u.Buffer == room);

    RtlInitAnsiString(&a, "abc");
    CHECK(a.Length == 3 && a.MaximumLength == 4 && a.Buffer[0] == 'a');
    RtlInitAnsiString(&a, NULL);
    CHECK(a.Length == 0 && a.MaximumLength == 0 && a.Buffer == NULL);
}

/* A source that 16 bits cannot count is cut off, and room for a terminator stays. */
static void test_init_of_overlong_strings(void)
{
    const size_t n = 70000;
    WCHAR *wide = (WCHAR *)calloc(n + 1, sizeof(WCHAR));
    char *narrow = (char *)calloc(n + 1, 1);
    UNICODE_STRING u;
    ANSI_STRING a;

    if (wide == NULL || narrow == NULL)
        abort();
    for (size_t i = 0; i < n; i++)
        wide[i] = (WCHAR)(narrow[i] = 'x');
    RtlInitUnicodeString(&u, wide);
    CHECK(u.Length == 65532 && u.MaximumLength == 65534 && u.Buffer == wide);
    RtlInitAnsiString(&a, narrow);
    CHECK(a.Length == 65534 && a.MaximumLength == 65535 && a.Buffer == narrow);
    free(wide);
    free(narrow);
}

static void test_copy_of_counted_strings(void)
{
    WCHAR room[4];
    UNICODE_STRING from, to;

    RtlInitUnicodeString(&from, L"abcdef");
    RtlInitEmptyUnicodeString(&to, room, sizeof(room));
    RtlCopyUnicodeString(&to, &from);
    CHECK(to.Length == 8 && wide_equal(room, L"abcd", 4));

    RtlInitUnicodeString(&from, L"xy");
    RtlCopyUnicodeString(&to, &from);
    CHECK(to.Length == 4 && wide_equal(room, L"xy\0d", 4));

    RtlInitUnicodeString(&from, L"uvw");
    RtlCopyUnicodeString(&to, &from);
    CHECK(to.Length == 6 && wide_equal(room, L"uvw\0", 4));

    RtlCopyUnicodeString(&to, NULL);
    CHECK(to.Length == 0 && to.MaximumLength == 8);

    RtlInitEmptyUnicodeString(&to, NULL, 0);
    RtlCopyUnicodeString(&to, &from);
    CHECK(to.Length == 0);
}

static void test_equality_of_counted_strings(void)
{
    UNICODE_STRING a, b;

    RtlInitUnicodeString(&a, L"Stra\x00DF" L"e \x03A3\x042F\x0401");
    RtlInitUnicodeString(&b, L"STRA\x00DF" L"E \x03C3\x044F\x0451");
    CHECK(!RtlEqualUnicodeString(&a, &b, FALSE));
    CHECK(RtlEqualUnicodeString(&a, &b, TRUE) == TRUE);
    CHECK(RtlEqualUnicodeString(&a, &a, FALSE) == TRUE);

    RtlInitUnicodeString(&b, L"Stra");
    CHECK(!RtlEqualUnicodeString(&a, &b, TRUE));

    /* The multiplication and division signs lie among the letters and have no case. */
    RtlInitUnicodeString(&a, L"\x00D7");
    RtlInitUnicodeString(&b, L"\x00F7");
    CHECK(!RtlEqualUnicodeString(&a, &b, TRUE));

    RtlInitUnicodeString(&a, NULL);
    RtlInitUnicodeString(&b, L"");
    CHECK(RtlEqualUnicodeString(&a, &b, FALSE) == TRUE);
}

static void test_memory(void)
{
    UCHAR a[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    UCHAR b[8];

    RtlCopyMemory(b, a, sizeof(b));
    CHECK(RtlEqualMemory(a, b, 8) && RtlCompareMemory(a, b, 8) == 8);
    b[5] = 0;
    CHECK(!RtlEqualMemory(a, b, 8) && RtlCompareMemory(a, b, 8) == 5 && RtlCompareMemory(a, b, 0) == 0);
    RtlMoveMemory(a + 1, a, 7);
    CHECK(a[0] == 1 && a[1] == 1 && a[7] == 7);
    RtlFillMemory(a, 4, 9);
    CHECK(a[3] == 9 && a[4] == 4);
    RtlZeroMemory(a, 4);
    CHECK(a[3] == 0 && a[4] == 4);
    CHECK(RtlSecureZeroMemory(a, 8) == a && a[7] == 0);
}

static void test_lists(void)
{
    LIST_ENTRY head, e[3];
    SINGLE_LIST_ENTRY top = { NULL }, s[2];

    InitializeListHead(&head);
    CHECK(IsListEmpty(&head) == TRUE && RemoveHeadList(&head) == &head && RemoveTailList(&head) == &head);
    InsertTailList(&head, &e[1]);
    InsertTailList(&head, &e[2]);
    InsertHeadList(&head, &e[0]);
    CHECK(head.Flink == &e[0] && e[0].Flink == &e[1] && e[1].Flink == &e[2] && e[2].Flink == &head);
    CHECK(head.Blink == &e[2] && e[2].Blink == &e[1] && e[1].Blink == &e[0] && e[0].Blink == &head);
    CHECK(!RemoveEntryList(&e[1]) && e[0].Flink == &e[2] && e[2].Blink == &e[0]);
    CHECK(RemoveTailList(&head) == &e[2] && !IsListEmpty(&head));
    CHECK(RemoveEntryList(&e[0]) == TRUE && IsListEmpty(&head));

    CHECK(PopEntryList(&top) == NULL);
    PushEntryList(&top, &s[0]);
    PushEntryList(&top, &s[1]);
    CHECK(PopEntryList(&top) == &s[1] && PopEntryList(&top) == &s[0] && PopEntryList(&top) == NULL);
}

static void test_interlocked(void)
{
    LONG l = 5;
    SHORT s = 5;
    char c = 5;
    LONG64 q = 0x100000000;
    PVOID p = &l;

    CHECK(InterlockedIncrement(&l) == 6 && InterlockedDecrement(&l) == 5 && InterlockedAdd(&l, 10) == 15);
    CHECK(InterlockedExchange(&l, 3) == 15 && InterlockedExchangeAdd(&l, 4) == 3 && l == 7);
    CHECK(InterlockedCompareExchange(&l, 1, 7) == 7 && l == 1);
    CHECK(InterlockedCompareExchange(&l, 2, 7) == 1 && l == 1);
    CHECK(InterlockedOr(&l, 6) == 1 && InterlockedAnd(&l, 3) == 7 && InterlockedXor(&l, 5) == 3 && l == 6);
    l = LONG_MAX;
    CHECK(InterlockedIncrement(&l) == LONG_MIN);

    CHECK(_InterlockedIncrement64(&q) == 0x100000001 && _InterlockedDecrement64(&q) == 0x100000000);
    CHECK(_InterlockedCompareExchange64(&q, 1, 0x100000000) == 0x100000000 && q == 1);
    CHECK(InterlockedExchangeAdd64(&q, 0x200000000) == 1 && InterlockedExchange64(&q, 0) == 0x200000001);

    CHECK(InterlockedIncrement16(&s) == 6 && InterlockedExchange16(&s, -1) == 6);
    CHECK(InterlockedAnd16(&s, 0xFF) == -1 && s == 0xFF);
    CHECK(InterlockedOr8(&c, 2) == 5 && InterlockedXor8(&c, 1) == 7 && InterlockedExchange8(&c, 0) == 6);

    CHECK(InterlockedCompareExchangePointer(&p, NULL, &s) == &l && p == &l);
    CHECK(InterlockedCompareExchangePointer(&p, &s, &l) == &l && p == &s);
    CHECK(InterlockedExchangePointer(&p, NULL) == &s && p == NULL);
}

/* Counts pages one byte at a time, where the macro adds and shifts. */
static SIZE_T pages_touched(ULONG_PTR va, SIZE_T bytes)
{
    SIZE_T pages = 0;

    for (SIZE_T i = 0; i < bytes; i++) {
        if (i == 0 || (va + i) % 4096 == 0)
            pages++;
    }
    return pages;
}

static void test_page_arithmetic(void)
{
    static const SIZE_T near_edges[] = { 0, 1, 2, 4094, 4095, 4096, 4097, 8191, 8192, 8193 };
    const SIZE_T n = RTL_NUMBER_OF(near_edges);

    for (SIZE_T i = 0; i < n * n; i++) {
        const ULONG_PTR va = 0x7fff00000000 + near_edges[i / n];
        const SIZE_T bytes = near_edges[i % n];

        CHECK((ULONG_PTR)PAGE_ALIGN(va) == va / 4096 * 4096 && BYTE_OFFSET(va) == va % 4096);
        CHECK(BYTES_TO_PAGES(bytes) == pages_touched(0, bytes));
        CHECK(ROUND_TO_PAGES(bytes) == pages_touched(0, bytes) * 4096);
        if (bytes > 0)
            CHECK(ADDRESS_AND_SIZE_TO_SPAN_PAGES(va, bytes) == pages_touched(va, bytes));
    }
    CHECK(ADDRESS_AND_SIZE_TO_SPAN_PAGES((PVOID)0xFFF, 0xFFFFFFFFU) == 0x100001);
    CHECK(BYTES_TO_PAGES(0xFFFFFFFFU) == 0x100000);
}

static void test_mdl_header(void)
{
    struct {
        MDL header;
        PFN_NUMBER pfns[3];
    } m;

    memset(&m, 0xAA, sizeof(m));
    MmInitializeMdl(&m.header, (PVOID)0x10FFF, 0x1002);
    CHECK(m.header.Next == NULL && m.header.Size == 48 + 3 * 8 && m.header.MdlFlags == 0);
    CHECK(MmGetMdlBaseVa(&m.header) == (PVOID)0x10000 && MmGetMdlByteOffset(&m.header) == 0xFFF);
    CHECK(MmGetMdlVirtualAddress(&m.header) == (PVOID)0x10FFF && MmGetMdlByteCount(&m.header) == 0x1002);
    CHECK(MmGetMdlPfnArray(&m.header) == m.pfns && m.pfns[0] == 0xAAAAAAAAAAAAAAAA);
    CHECK((ULONG_PTR)m.header.Process == 0xAAAAAAAAAAAAAAAA);
    CHECK((ULONG_PTR)m.header.MappedSystemVa == 0xAAAAAAAAAAAAAAAA);

    MmInitializeMdl(&m.header, NULL, 0);
    CHECK(m.header.Size == 48 && m.header.StartVa == NULL && m.header.ByteCount == 0);
}

static NTSTATUS completed(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_SUCCESS;
}

static void test_irp_stack(void)
{
    struct {
        IRP irp;
        IO_STACK_LOCATION stack[2];
    } i;
    PIRP irp = &i.irp;

    memset(&i, 0, sizeof(i));
    CHECK(IoSizeOfIrp(2) == 208 + 2 * 72 && (PVOID)&i.stack[0] == (PVOID)(irp + 1));
    irp->CurrentLocation = 3;
    irp->Tail.Overlay.CurrentStackLocation = &i.stack[2];
    CHECK(IoGetNextIrpStackLocation(irp) == &i.stack[1]);
    IoSetNextIrpStackLocation(irp);
    CHECK(irp->CurrentLocation == 2 && IoGetCurrentIrpStackLocation(irp) == &i.stack[1]);

    i.stack[1].MajorFunction = IRP_MJ_WRITE;
    i.stack[1].Parameters.Write.Length = 77;
    i.stack[1].CompletionRoutine = completed;
    i.stack[1].Context = irp;
    i.stack[0].Control = 0xFF;
    IoMarkIrpPending(irp);
    CHECK(i.stack[1].Control == SL_PENDING_RETURNED);
    IoCopyCurrentIrpStackLocationToNext(irp);
    CHECK(i.stack[0].MajorFunction == IRP_MJ_WRITE && i.stack[0].Parameters.Write.Length == 77);
    CHECK(i.stack[0].Control == 0 && i.stack[0].CompletionRoutine == NULL && i.stack[0].Context == NULL);

    IoSetCompletionRoutine(irp, completed, &i, TRUE, FALSE, TRUE);
    CHECK(i.stack[0].CompletionRoutine == completed && i.stack[0].Context == &i);
    CHECK(i.stack[0].Control == (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_CANCEL));
    IoSetCompletionRoutine(irp, completed, &i, FALSE, TRUE, FALSE);
    CHECK(i.stack[0].Control == SL_INVOKE_ON_ERROR);

    IoSkipCurrentIrpStackLocation(irp);
    CHECK(irp->CurrentLocation == 3 && IoGetCurrentIrpStackLocation(irp) == &i.stack[2]);
}

static void test_small_macros(void)
{
    const GUID a = { 1, 2, 3, { 4, 5, 6, 7, 8, 9, 10, 11 } };
    GUID b = a;

    CHECK(InlineIsEqualGUID(&a, &b));
    b.Data4[7]++;
    CHECK(!InlineIsEqualGUID(&a, &b));
    CHECK(CTL_CODE(0xFFFF, 0xFFF, METHOD_NEITHER, FILE_READ_ACCESS | FILE_WRITE_ACCESS) == 0xFFFFFFFFU);
    CHECK(NT_SUCCESS(STATUS_SUCCESS) && NT_SUCCESS(STATUS_PENDING) && NT_SUCCESS(STATUS_OBJECT_NAME_EXISTS));
    CHECK(!NT_SUCCESS(STATUS_BUFFER_OVERFLOW) && !NT_SUCCESS(STATUS_UNSUCCESSFUL));
    CHECK(NT_INFORMATION(STATUS_OBJECT_NAME_EXISTS) && !NT_INFORMATION(STATUS_SUCCESS));
    CHECK(NT_WARNING(STATUS_BUFFER_OVERFLOW) && NT_ERROR(STATUS_UNSUCCESSFUL));
    CHECK(&CONTAINING_RECORD(&b.Data3, GUID, Data3)->Data1 == &b.Data1 && FIELD_OFFSET(GUID, Data4[3]) == 11);
    CHECK(ALIGN_UP_BY(4097, 4096) == 8192 && ALIGN_DOWN_BY(4097, 4096) == 4096 && ALIGN_UP(5, ULONG) == 8);
    CHECK(RTL_SIZEOF_THROUGH_FIELD(GUID, Data3) == 8 && RTL_FIELD_SIZE(GUID, Data4) == 8);
}

int main(void)
{
    test_wide_lengths_and_comparison();
    test_wide_copies();
    test_wide_searches();
    test_init_of_counted_strings();
    test_init_of_overlong_strings();
    test_copy_of_counted_strings();
    test_equality_of_counted_strings();
    test_memory();
    test_lists();
    test_interlocked();
    test_page_arithmetic();
    test_mdl_header();
    test_irp_stack();
    test_small_macros();
    printf("%u checks, %u do not hold\n", checks, failures);
    return failures == 0 && checks > 0 ? 0 : 1;
}
