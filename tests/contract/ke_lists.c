/* SPDX-License-Identifier: MIT */
/* Lists, Interlocked routines and Rtl helpers of the headers, compiled the way a driver's are. */

#include "support.h"

/* ---- doubly linked lists against an array ---- */

enum { ENTRIES = 8, STEPS = 4000 };

struct entry {
    LIST_ENTRY link;
    int value;
};

struct model {
    LIST_ENTRY head;
    struct entry entries[ENTRIES];
    int order[ENTRIES]; /* indices of entries in the list, first to last */
    int n;
    bool listed[ENTRIES];
};

static void expect_same_order(const struct model *m)
{
    const LIST_ENTRY *link = m->head.Flink;
    const LIST_ENTRY *back = m->head.Blink;

    EXPECT_EQ(IsListEmpty(&m->head), m->n == 0);
    for (int i = 0; i < m->n; i++, link = link->Flink, back = back->Blink) {
        EXPECT_PTR_EQ(link, &m->entries[m->order[i]].link);
        EXPECT_PTR_EQ(back, &m->entries[m->order[m->n - 1 - i]].link);
        EXPECT_EQ(CONTAINING_RECORD(link, struct entry, link)->value, m->order[i]);
    }
    EXPECT_PTR_EQ(link, &m->head);
    EXPECT_PTR_EQ(back, &m->head);
}

static void model_insert(struct model *m, int at, int entry)
{
    for (int i = m->n++; i > at; i--)
        m->order[i] = m->order[i - 1];
    m->order[at] = entry;
    m->listed[entry] = true;
}

static int model_remove(struct model *m, int at)
{
    const int entry = m->order[at];

    m->n--;
    for (int i = at; i < m->n; i++)
        m->order[i] = m->order[i + 1];
    m->listed[entry] = false;
    return entry;
}

static void insert_one(struct model *m, int entry, bool at_head)
{
    if (m->listed[entry])
        return;
    if (at_head)
        InsertHeadList(&m->head, &m->entries[entry].link);
    else
        InsertTailList(&m->head, &m->entries[entry].link);
    model_insert(m, at_head ? 0 : m->n, entry);
}

static void remove_one(struct model *m, int kind, int choice)
{
    const int at = kind == 0 ? 0 : kind == 1 ? m->n - 1 : choice % (m->n == 0 ? 1 : m->n);
    PLIST_ENTRY expected = m->n == 0 ? &m->head : &m->entries[m->order[at]].link;

    if (kind == 0)
        EXPECT_PTR_EQ(RemoveHeadList(&m->head), expected);
    else if (kind == 1)
        EXPECT_PTR_EQ(RemoveTailList(&m->head), expected);
    else if (m->n != 0)
        EXPECT_EQ(RemoveEntryList(expected), m->n == 1);
    if (m->n != 0)
        model_remove(m, at);
}

/* Any sequence of insertions and removals leaves the list that an array would hold, forwards and backwards. */
TEST(ke_lists, double_list__random_steps__agrees_with_an_array)
{
    struct model m = {.n = 0};
    unsigned random = 1;

    InitializeListHead(&m.head);
    for (int i = 0; i < ENTRIES; i++)
        m.entries[i].value = i;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1103515245 + 12345;
        if (random >> 31)
            insert_one(&m, (int)(random >> 20) % ENTRIES, (random >> 16) & 1);
        else
            remove_one(&m, (int)(random >> 18) % 3, (int)(random >> 8) % 64);
        expect_same_order(&m);
    }
}

/* A singly linked list is a stack; it gives NULL when it is empty. */
TEST(ke_lists, single_list__push_and_pop__is_a_stack)
{
    SINGLE_LIST_ENTRY head = {NULL}, entries[5];

    EXPECT_PTR_EQ(PopEntryList(&head), NULL);
    for (int i = 0; i < 5; i++)
        PushEntryList(&head, &entries[i]);
    for (int i = 4; i >= 0; i--)
        EXPECT_PTR_EQ(PopEntryList(&head), &entries[i]);
    EXPECT_PTR_EQ(PopEntryList(&head), NULL);
}

/* ---- Interlocked ---- */

/* What each routine leaves and gives: the arithmetic ones the value after, the others the value before. */
TEST(ke_interlocked, thirty_two_bits__each_routine__value_and_result)
{
    LONG volatile v = 5;

    EXPECT_EQ(InterlockedIncrement(&v), 6);
    EXPECT_EQ(InterlockedDecrement(&v), 5);
    EXPECT_EQ(InterlockedAdd(&v, -7), -2);
    EXPECT_EQ(InterlockedExchangeAdd(&v, 12), -2);
    EXPECT_EQ(InterlockedExchange(&v, 0xF0), 10);
    EXPECT_EQ(InterlockedOr(&v, 0x0F), 0xF0);
    EXPECT_EQ(InterlockedAnd(&v, 0x3C), 0xFF);
    EXPECT_EQ(InterlockedXor(&v, 0x3D), 0x3C);
    EXPECT_EQ(InterlockedCompareExchange(&v, 9, 2), 1);
    EXPECT_EQ(v, 1);
    EXPECT_EQ(InterlockedCompareExchange(&v, 9, 1), 1);
    EXPECT_EQ(v, 9);
}

TEST(ke_interlocked, sixty_four_bits__each_routine__value_and_result)
{
    LONG64 volatile v = 0xFFFFFFFF;

    EXPECT_EQ(InterlockedIncrement64(&v), 0x100000000);
    EXPECT_EQ(InterlockedDecrement64(&v), 0xFFFFFFFF);
    EXPECT_EQ(InterlockedAdd64(&v, 0x100000001), 0x200000000);
    EXPECT_EQ(InterlockedExchangeAdd64(&v, 1), 0x200000000);
    EXPECT_EQ(InterlockedExchange64(&v, 0xF000000000), 0x200000001);
    EXPECT_EQ(InterlockedOr64(&v, 0x0F00000000), 0xF000000000);
    EXPECT_EQ(InterlockedAnd64(&v, 0x3C00000000), 0xFF00000000);
    EXPECT_EQ(InterlockedXor64(&v, 1), 0x3C00000000);
    EXPECT_EQ(InterlockedCompareExchange64(&v, 0, 7), 0x3C00000001);
    EXPECT_EQ(InterlockedCompareExchange64(&v, -1, 0x3C00000001), 0x3C00000001);
    EXPECT_EQ(v, -1);
}

/* The narrow ones touch their own bytes and no neighbour. */
TEST(ke_interlocked, eight_and_sixteen_bits__each_routine__neighbours_stay)
{
    struct {
        char before, c, between;
        SHORT s, after;
    } v = {0x11, 0x7F, 0x22, 0x7FFF, 0x3333};

    EXPECT_EQ(InterlockedExchangeAdd8(&v.c, 1), 0x7F);
    EXPECT_EQ(v.c, -128);
    EXPECT_EQ(InterlockedOr8(&v.c, 1), -128);
    EXPECT_EQ(InterlockedCompareExchange8(&v.c, 5, -127), -127);
    EXPECT_EQ(InterlockedExchange8(&v.c, 6), 5);
    EXPECT_EQ(InterlockedIncrement16(&v.s), -32768);
    EXPECT_EQ(InterlockedDecrement16(&v.s), 0x7FFF);
    EXPECT_EQ(InterlockedAnd16(&v.s, 0xF0), 0x7FFF);
    EXPECT_EQ(InterlockedXor16(&v.s, 0xFF), 0xF0);
    EXPECT_EQ(InterlockedCompareExchange16(&v.s, 1, 0xF), 0xF);
    EXPECT_EQ(InterlockedExchange16(&v.s, 2), 1);
    EXPECT_EQ(v.before, 0x11);
    EXPECT_EQ(v.between, 0x22);
    EXPECT_EQ(v.after, 0x3333);
}

/* Pointers are exchanged whole. */
TEST(ke_interlocked, pointers__exchange_and_compare__give_the_one_before)
{
    int a, b;
    PVOID volatile p = &a;

    EXPECT_PTR_EQ(InterlockedExchangePointer(&p, &b), &a);
    EXPECT_PTR_EQ(InterlockedCompareExchangePointer(&p, &a, NULL), &b);
    EXPECT_PTR_EQ(InterlockedCompareExchangePointer(&p, NULL, &b), &b);
    EXPECT_PTR_EQ(p, NULL);
}

/* ---- Rtl ---- */

/* RtlCompareMemory counts equal bytes from the start; RtlEqualMemory says whether all are. */
TEST(ke_rtl, compare__first_difference_anywhere__is_where_it_counts_to)
{
    UCHAR a[64], b[64];

    fill_pattern(a, sizeof(a), 1);
    for (SIZE_T at = 0; at < sizeof(a); at++) {
        RtlCopyMemory(b, a, sizeof(a));
        b[at] ^= 0x80;
        EXPECT_EQ(RtlCompareMemory(a, b, sizeof(a)), at);
        EXPECT_EQ(RtlCompareMemory(a, b, at), at);
        EXPECT(!RtlEqualMemory(a, b, sizeof(a)));
        EXPECT(RtlEqualMemory(a, b, at));
    }
}

/* Moving works where source and target overlap, in both directions; filling fills what it is told and no
   more. */
TEST(ke_rtl, move_fill_zero__in_the_middle__touch_only_their_bytes)
{
    UCHAR a[64], expected[64];

    for (int shift = -5; shift <= 5; shift++) {
        fill_pattern(a, sizeof(a), 2);
        RtlCopyMemory(expected, a, sizeof(a));
        for (int i = 0; i < 20; i++)
            expected[20 + shift + i] = a[20 + i];
        RtlMoveMemory(a + 20 + shift, a + 20, 20);
        EXPECT_MEM_EQ(a, expected, sizeof(a));
    }
    RtlFillMemory(a + 10, 5, 0xAA);
    RtlZeroMemory(a + 15, 5);
    RtlSecureZeroMemory(a + 20, 5);
    for (int i = 10; i < 25; i++)
        EXPECT_EQ(a[i], i < 15 ? 0xAA : 0);
    EXPECT_EQ(a[9], expected[9]);
    EXPECT_EQ(a[25], expected[25]);
}

/* A counted string of a literal counts bytes, without its terminator. */
TEST(ke_rtl, unicode_string__of_a_literal__counts_bytes)
{
    UNICODE_STRING s, upper, copy;
    WCHAR room[4];

    RtlInitUnicodeString(&s, L"driver");
    RtlInitUnicodeString(&upper, L"DRIVER");
    EXPECT_EQ(s.Length, 12);
    EXPECT_EQ(s.MaximumLength, 14);
    EXPECT_EQ(RtlEqualUnicodeString(&s, &upper, FALSE), FALSE);
    EXPECT_EQ(RtlEqualUnicodeString(&s, &upper, TRUE), TRUE);
    RtlInitEmptyUnicodeString(&copy, room, sizeof(room));
    RtlCopyUnicodeString(&copy, &s);
    EXPECT_EQ(copy.Length, 8);
    EXPECT_MEM_EQ(room, L"driv", 8);
    RtlInitUnicodeString(&s, NULL);
    EXPECT_EQ(s.Length, 0);
    EXPECT_EQ(s.MaximumLength, 0);
}
