/* SPDX-License-Identifier: MIT */
/*
 * The format language of DbgPrint: Windows' own, not that of C. Each row is printed by a child whose stderr
 * is read.
 */

#include "harness.h"

#include "ke/ke.h"

#include "../contract/debug_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What a child prints that runs this body. */
static const char *printed_by(void (*body)(void *))
{
    return run_until_stop(body, NULL).stderr_text;
}

/* The body prints a line for each of the expected ones; the first that differs fails the test. */
static void expect_lines(void (*body)(void *), const char *const *expected, size_t n)
{
    char *rest = strdup(printed_by(body));
    char *const whole = rest;

    for (size_t i = 0; i < n; i++) {
        const char *line = strsep(&rest, "\n");

        if (line == NULL || strcmp(line, expected[i]) != 0)
            harness_fail(HARNESS_HERE, "line %zu: expected '%s': it is '%s'", i + 1, expected[i], line);
        EXPECT(rest != NULL);
    }
    EXPECT_MEM_EQ(rest, "", 1);
    free(whole);
}

#define EXPECT_LINES(body, ...)                                                                              \
    do {                                                                                                     \
        static const char *const lines_[] = {__VA_ARGS__};                                                   \
                                                                                                             \
        expect_lines((body), lines_, sizeof(lines_) / sizeof(lines_[0]));                                    \
    } while (0)

/* ---- numbers ---- */

static void print_integers(void *context)
{
    (void)context;
    DbgPrint("%d|%i|%u\n", -1, -2, 0xFFFFFFFFu);
    DbgPrint("%x|%X|%o\n", 0xBEEF, 0xBEEF, 8);
    DbgPrint("%5d|%-5d|%05d|%+d|% d\n", 42, 42, 42, 42, 42);
    DbgPrint("%#x|%08X|%.3d|%8.3d\n", 255, 0xABC, 7, 7);
    DbgPrint("%*d|%-*d|%*d|%.*d\n", 4, 1, 4, 2, -4, 3, 3, 4);
}

/* Plain conversions take 32 bits, with the flags, widths and precisions of C. */
TEST(dbg_print, integers__flags_width_precision__are_those_of_c)
{
    EXPECT_LINES(print_integers, "-1|-2|4294967295", "beef|BEEF|10", "   42|42   |00042|+42| 42",
                 "0xff|00000ABC|007|     007", "   1|2   |3   |004");
}

static void print_lengths(void *context)
{
    const LONGLONG minus = -5000000000;
    const ULONGLONG large = 0x123456789ABCDEF0;

    (void)context;
    DbgPrint("%I64d|%I64u|%I64x|%I64X\n", minus, large, large, large);
    DbgPrint("%lld|%llu|%llx\n", minus, large, large);
    DbgPrint("%Id|%Iu|%Ix|%IX|%zu|%td\n", minus, large, large, large, (SIZE_T)large, minus);
    DbgPrint("%ld|%lu|%lx|%I32d|%I32x\n", (LONG)-7, (ULONG)7, (ULONG)0xABCDEF, -8, 0xFEDCu);
    DbgPrint("%hd|%hu|%hx|%hhd|%hhx\n", 0x1FFFF, 0x1FFFF, -1, 0x1FF, -1);
    DbgPrint("%016I64x|%-20I64d|\n", large, minus);
}

/* I64, I and ll take 64 bits, l and I32 take 32, h takes 16, hh takes 8: a long is 32 bits wide. */
TEST(dbg_print, lengths__of_windows__take_their_bits)
{
    EXPECT_LINES(
        print_lengths, "-5000000000|1311768467463790320|123456789abcdef0|123456789ABCDEF0",
        "-5000000000|1311768467463790320|123456789abcdef0",
        "-5000000000|1311768467463790320|123456789abcdef0|123456789ABCDEF0|1311768467463790320|-5000000000",
        "-7|7|abcdef|-8|fedc", "-1|65535|ffff|-1|ff", "123456789abcdef0|-5000000000         |");
}

static void print_mixed(void *context)
{
    (void)context;
    DbgPrint("%lu %I64u %d %llu %hu %Iu %s\n", 1, 2ull, 3, 4ull, 5, (SIZE_T)6, "7");
}

/* Each conversion takes exactly its own argument, so that those behind it come out right. */
TEST(dbg_print, lengths__mixed__keep_the_arguments_apart)
{
    EXPECT_LINES(print_mixed, "1 2 3 4 5 6 7");
}

static void print_pointers(void *context)
{
    (void)context;
    DbgPrint("%p|%p|%20p|%-20p|\n", (PVOID)0xABCDEF, NULL, (PVOID)1, (PVOID)2);
}

/* A pointer is sixteen digits in capitals. */
TEST(dbg_print, pointer__any__is_sixteen_digits)
{
    EXPECT_LINES(print_pointers,
                 "0000000000ABCDEF|0000000000000000|    0000000000000001|0000000000000002    |");
}

/* ---- text ---- */

static void print_strings(void *context)
{
    (void)context;
    DbgPrint("%s|%hs|%S|%ws|%ls|%hS\n", "ansi", "narrow", L"capital", L"wide", L"long", "half");
    DbgPrint("%8s|%-8s|%.2s|%5.1s|%.*s|\n", "right", "left", "cut", "x1", 3, "argument");
    DbgPrint("%8S|%-8ws|%.2S|%5.1ls|%.*S|\n", L"right", L"left", L"cut", L"x1", 3, L"argument");
    DbgPrint("%s|%S|%ws|%10s|%-10S|\n", NULL, NULL, NULL, NULL, NULL);
    DbgPrint("%S|%s|\n", L"na\x00EFve \x4E2D", "");
    DbgPrint("%c|%C|%wc|%3c|%-3C|%C|\n", 'a', L'b', L'c', 'd', L'e', 0x4E2D);
}

/* s is narrow, S and ws and ls are 16 bits wide; all of them know width and precision, and NULL. */
TEST(dbg_print, strings__narrow_and_wide__know_width_and_precision)
{
    EXPECT_LINES(print_strings, "ansi|narrow|capital|wide|long|half", "   right|left    |cu|    x|arg|",
                 "   right|left    |cu|    x|arg|", "(null)|(null)|(null)|    (null)|(null)    |",
                 "na?ve ?||", "a|b|c|  d|e  |?|");
}

/* The last `bytes` of a page that nothing readable follows. */
static void *before_the_abyss(const void *text, size_t bytes)
{
    char *const pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(pages + 4096, 4096, PROT_NONE);
    return memcpy(pages + 4096 - bytes, text, bytes);
}

static void print_unterminated(void *context)
{
    (void)context;
    DbgPrint("%.4s|%.*s|\n", (char *)before_the_abyss("four", 4), 0, (char *)before_the_abyss("", 0));
    DbgPrint("%.4S|%.*ws|\n", (WCHAR *)before_the_abyss(L"four", 8), 0, (WCHAR *)before_the_abyss("", 0));
}

/* A precision keeps a string without a terminator from being read past its end. */
TEST(dbg_print, strings__precision_and_no_terminator__reads_no_further)
{
    EXPECT_LINES(print_unterminated, "four||", "four||");
}

static void print_counted(void *context)
{
    WCHAR wide[] = L"countedXX";
    char narrow[] = "ansiXX";
    const UNICODE_STRING unicode = {14, sizeof(wide), wide}, empty = {0, 0, wide}, nowhere = {8, 8, NULL};
    const ANSI_STRING ansi = {4, sizeof(narrow), narrow};

    (void)context;
    DbgPrint("%wZ|%lZ|%Z|%hZ\n", &unicode, &unicode, &ansi, &ansi);
    DbgPrint("%wZ|%wZ|%wZ|%Z|%d\n", &empty, &nowhere, NULL, NULL, 5);
    DbgPrint("%10wZ|%-10wZ|%6Z|%-6Z|\n", &unicode, &unicode, &ansi, &ansi);
}

/* wZ is a counted wide string and Z a counted narrow one: their length counts, not a terminator. */
TEST(dbg_print, counted_strings__lengths__decide)
{
    EXPECT_LINES(print_counted, "counted|counted|ansi|ansi", "|(null)|(null)|(null)|5",
                 "   counted|counted   |  ansi|ansi  |");
}

/* ---- the rest ---- */

static void print_oddities(void *context)
{
    (void)context;
    DbgPrint("100%%|%5%|no conversion\n");
    DbgPrint("%");
    DbgPrint("\n");
    DbgPrint("%y|%d\n", 7);
    DbgPrint("%-08.3lld|%+-+-+-+ #0d|\n", 5ll, 6);
}

/* A percent sign, an unfinished conversion, an unknown one and repeated flags neither fail nor take
   arguments. */
TEST(dbg_print, oddities__do_no_harm)
{
    EXPECT_LINES(print_oddities, "100%|%|no conversion", "", "%y|7", "005     |+6|");
}

static void print_very_wide(void *context)
{
    (void)context;
    DbgPrint("%100000d|%*d|%.100000d|%.*d|%-99999999999999999999s|\n", 1, 0x7FFFFFFF, 2, 3, 0x7FFFFFFF, 4,
             "x");
}

/* A width that is far too large is cut down, and nothing is written where it does not belong. */
TEST(dbg_print, widths__absurd__are_cut_down)
{
    const char *text = printed_by(print_very_wide);

    EXPECT(strlen(text) > 5 * 500 && strlen(text) < 5 * 600);
    EXPECT(strstr(text, "1|") != NULL && strstr(text, "4|x  ") != NULL);
}

static void print_long_line(void *context)
{
    char line[5000];

    (void)context;
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    DbgPrint("%s|%s\n", line, line);
}

/* A long line comes out whole. */
TEST(dbg_print, line__of_ten_thousand_characters__is_complete)
{
    EXPECT_EQ(strlen(printed_by(print_long_line)), 2 * 4999 + 2);
}

static void print_by_each(void *context)
{
    (void)context;
    EXPECT_STATUS(DbgPrint("plain %d\n", 1), STATUS_SUCCESS);
    EXPECT_STATUS(DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "ex %d\n", 2), STATUS_SUCCESS);
    EXPECT_STATUS(print_by_list("list %d %wZ\n", 3, NULL), STATUS_SUCCESS);
}

/* All three routines print alike and return success. */
TEST(dbg_print, routines__all_three__print_and_succeed)
{
    EXPECT_LINES(print_by_each, "plain 1", "ex 2", "list 3 (null)");
}

enum { THREADS = 4, LINES = 200 };

static void print_many(void *context)
{
    for (int i = 0; i < LINES; i++)
        DbgPrint("<%c%wZ%c>\n", (int)(uintptr_t)context, &(UNICODE_STRING){20, 20, (PWCH)L"----------"},
                 (int)(uintptr_t)context);
}

static void print_on_threads(void *context)
{
    struct host_thread threads[THREADS];

    (void)context;
    for (uintptr_t i = 0; i < THREADS; i++)
        host_thread_start(&threads[i], print_many, (void *)('a' + i));
    for (uintptr_t i = 0; i < THREADS; i++)
        host_thread_join(&threads[i]);
}

/* Lines of several threads come one after the other, never one inside another. */
TEST(dbg_print, lines__of_several_threads__do_not_mix)
{
    char *rest = strdup(printed_by(print_on_threads));
    char *const whole = rest;
    unsigned counts[THREADS] = {0};

    for (unsigned i = 0; i < THREADS * LINES; i++) {
        const char *line = strsep(&rest, "\n");

        EXPECT(line != NULL && strlen(line) == 14);
        EXPECT_MEM_EQ(line + 2, "----------", 10);
        EXPECT_EQ(line[1], line[12]);
        counts[line[1] - 'a']++;
    }
    for (unsigned i = 0; i < THREADS; i++)
        EXPECT_EQ(counts[i], LINES);
    free(whole);
}
