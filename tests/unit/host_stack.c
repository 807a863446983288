/* SPDX-License-Identifier: MIT */
/* Call stacks: a walk from a frame names its callers, innermost first, and ends in good order where frames
   end. */

#include "harness.h"

#include "host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 32 };

#define NOT_INLINED __attribute__((noinline, noclone))
#ifdef __clang__
#undef NOT_INLINED
#define NOT_INLINED __attribute__((noinline))
#endif

/* Whatever the compiler makes of it, the call before this is not the last thing that its function does. */
#define NOT_A_TAIL_CALL() __asm__ volatile("" ::: "memory")

struct walk {
    uintptr_t pcs[DEPTH];
    size_t n, max;
    int line; /* of the call in innermost() */
};

/* As a routine does that notes its caller: the address it returns to, and the caller's frame. */
NOT_INLINED static void note_caller(struct walk *walk)
{
    const uintptr_t frame = *(const uintptr_t *)__builtin_frame_address(0);

    walk->n = host_stack_walk((uintptr_t)__builtin_return_address(0), frame, walk->pcs, walk->max);
    NOT_A_TAIL_CALL();
}

NOT_INLINED static void innermost(struct walk *walk)
{
    walk->line = __LINE__ + 1;
    note_caller(walk);
    NOT_A_TAIL_CALL();
}

NOT_INLINED static void middle(struct walk *walk)
{
    innermost(walk);
    NOT_A_TAIL_CALL();
}

NOT_INLINED static void outermost(void *walk)
{
    middle(walk);
    NOT_A_TAIL_CALL();
}

static void expect_symbol(uintptr_t pc, const char *text)
{
    char symbol[256];

    host_symbol(pc, symbol, sizeof(symbol));
    if (strncmp(symbol, text, strlen(text)) != 0)
        harness_fail(HARNESS_HERE, "expected %s...: it is %s", text, symbol);
    EXPECT(text[0] != '\0');
}

/* The first address of a walk is the call site itself, with its file and line; then come its callers in
   order. */
TEST(host_stack, walk__three_calls_deep__names_each_caller)
{
    struct walk walk = {.max = DEPTH};
    char site[64];

    outermost(&walk);
    EXPECT(walk.n >= 4);
    snprintf(site, sizeof(site), "innermost (host_stack.c:%d)", walk.line);
    expect_symbol(walk.pcs[0], site);
    expect_symbol(walk.pcs[1], "middle (host_stack.c:");
    expect_symbol(walk.pcs[2], "outermost (host_stack.c:");
    expect_symbol(walk.pcs[3],
                  "harness_body_host_stack_walk__three_calls_deep__names_each_caller (host_stack.c:");
}

/* A walk stores no more than there is room for. */
TEST(host_stack, walk__little_room__stops_there)
{
    struct walk walk = {.max = 0};

    memset(walk.pcs, 0x77, sizeof(walk.pcs));
    outermost(&walk);
    EXPECT_EQ(walk.n, 0);
    for (walk.max = 1; walk.max <= 3; walk.max++) {
        outermost(&walk);
        EXPECT_EQ(walk.n, walk.max);
        EXPECT_EQ(walk.pcs[walk.max], 0x7777777777777777u);
    }
}

/* A frame that is none ends the walk after the address that was given: code without frame pointers leaves
   such. */
TEST(host_stack, walk__frame_outside_the_stack__keeps_the_first_address)
{
    static uintptr_t elsewhere[4];
    uintptr_t low, high, pcs[DEPTH];

    host_stack_bounds(&low, &high);
    const uintptr_t frames[] = {0,        1,         (uintptr_t)elsewhere, low - 8, high,
                                high - 8, high - 15, UINTPTR_MAX - 7};

    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        EXPECT_EQ(host_stack_walk(0x1234, frames[i], pcs, DEPTH), 1);
        EXPECT_EQ(pcs[0], 0x1234);
    }
}

/* Frames that lead back, or to themselves, do not keep the walk from ending. */
TEST(host_stack, walk__circle_of_frames__ends)
{
    uintptr_t pcs[DEPTH];
    volatile uintptr_t frames[4];

    frames[0] = (uintptr_t)&frames[2];
    frames[1] = 0x1111;
    frames[2] = (uintptr_t)&frames[0];
    frames[3] = 0x3333;
    EXPECT_EQ(host_stack_walk(0x99, (uintptr_t)&frames[0], pcs, DEPTH), 3);
    EXPECT_EQ(pcs[1], 0x1111);
    EXPECT_EQ(pcs[2], 0x3333);
    frames[0] = (uintptr_t)&frames[0];
    EXPECT_EQ(host_stack_walk(0x99, (uintptr_t)&frames[0], pcs, DEPTH), 2);
}

/* The stack of another thread is walked as well as the first one's. */
TEST(host_stack, walk__on_another_thread__names_each_caller)
{
    struct walk walk = {.max = DEPTH};
    struct host_thread thread;

    EXPECT_EQ(host_thread_start(&thread, outermost, &walk), 0);
    host_thread_join(&thread);
    EXPECT(walk.n >= 3);
    expect_symbol(walk.pcs[0], "innermost (host_stack.c:");
    expect_symbol(walk.pcs[2], "outermost (host_stack.c:");
}

/* An address that belongs to nothing is printed as a number; one of a library at least names the library. */
TEST(host_stack, symbol__nothing_known__is_the_number_or_the_module)
{
    char symbol[256];

    expect_symbol(0x10, "0x10");
    host_symbol((uintptr_t)&qsort + 1, symbol, sizeof(symbol));
    EXPECT(strstr(symbol, "qsort") != NULL || strstr(symbol, "libc") != NULL ||
           strstr(symbol, "+0x") != NULL);
}

/* A name that does not fit is cut off, not written past the end. */
TEST(host_stack, symbol__little_room__is_cut_off)
{
    struct walk walk = {.max = 1};
    char symbol[16];

    memset(symbol, 'Z', sizeof(symbol));
    outermost(&walk);
    host_symbol(walk.pcs[0], symbol, 8);
    EXPECT_MEM_EQ(symbol, "innermo", 8);
    EXPECT_EQ(symbol[8], 'Z');
}

/* ---- frames that variables stand in ---- */

/* Keeps a local of its own, and hands out the frame that it stands in. */
NOT_INLINED static struct host_frame frame_of_own_local(bool *is_left_inside)
{
    volatile int local = 1;
    const struct host_frame frame = host_frame_of((const void *)&local);

    *is_left_inside = host_frame_is_left(&frame, (uintptr_t)__builtin_frame_address(0));
    NOT_A_TAIL_CALL();
    return frame;
}

NOT_INLINED static void another_routine(void)
{
    NOT_A_TAIL_CALL();
}

/* As long as a routine has not returned its frame is not left; then the next call from the same place shows that it is. */
TEST(host_stack, frame_of__routine_returns__is_left)
{
    bool is_left_inside = true;
    const struct host_frame frame = frame_of_own_local(&is_left_inside);

    EXPECT(frame.link != 0);
    EXPECT(!is_left_inside);
    EXPECT(host_frame_is_left(&frame, (uintptr_t)__builtin_frame_address(0)));
    another_routine();
    EXPECT(host_frame_is_left(&frame, 0));
}

/* Found across frames of the C library, which has no frame pointers. */
static struct host_frame met;

static int look_up_argument(const void *a, const void *b)
{
    (void)b;
    met = host_frame_of(a);
    return 0;
}

TEST(host_stack, frame_of__local_of_a_distant_caller__is_its_own)
{
    int numbers[2] = {1, 2};
    const struct host_frame own = host_frame_of(numbers);

    qsort(numbers, 2, sizeof(numbers[0]), look_up_argument);
    EXPECT(own.link != 0);
    EXPECT_EQ(met.link, own.link);
    EXPECT_EQ(own.returns_to, (uintptr_t)__builtin_return_address(0));
    EXPECT(!host_frame_is_left(&met, (uintptr_t)__builtin_frame_address(0)));
}

/* What is not on the stack stands in no frame, and no frame is ever left. */
TEST(host_stack, frame_of__no_local__is_none)
{
    static int elsewhere;
    const struct host_frame frame = host_frame_of(&elsewhere), none = host_frame_of(NULL);

    EXPECT_EQ(frame.link, 0);
    EXPECT_EQ(none.link, 0);
    EXPECT(!host_frame_is_left(&frame, UINTPTR_MAX));
}
