/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share: an input as a row of decisions, and what ends a target that finds something.
 *
 * A target is LLVMFuzzerTestOneInput in a file of its own. With clang's libFuzzer it is a fuzzer; with plain.c it is a program that
 * replays files and runs pseudo-random inputs, which is what ctest does. A target never complains about an input: whatever bytes
 * there are, it makes something of them that is allowed.
 */

#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- findings ---- */

/* An expectation of a target that does not hold ends the process by SIGABRT, as bug checks do. */
#define FUZZ_EXPECT(condition, ...) \
    ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__))

__attribute__((format(printf, 4, 5))) _Noreturn static inline void fuzz_fail(const char *file, int line, const char *condition,
                                                                             const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s:%d: expected %s", file, line, condition);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* With FUZZ_TRACE in the environment a target tells what it does, to be read beside the report. */
#define FUZZ_TRACE(...) (fuzz_traces() ? (void)fprintf(stderr, __VA_ARGS__) : (void)0)

static inline bool fuzz_traces(void)
{
    static int traces = -1;

    if (traces < 0)
        traces = getenv("FUZZ_TRACE") != NULL;
    return traces != 0;
}

/* ---- input ---- */

/* What is left of an input. Behind its end are zeros. */
struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline unsigned fuzz_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* One of the numbers 0 to n - 1; n is at most 256. */
static inline unsigned fuzz_below(struct fuzz_input *input, unsigned n)
{
    return fuzz_byte(input) % n;
}

static inline bool fuzz_flag(struct fuzz_input *input)
{
    return fuzz_byte(input) & 1;
}

/* A place from 0 to `limit`: half of them at the edge of a page, one before it or one behind it, for that is where mistakes are made. */
static inline size_t fuzz_place(struct fuzz_input *input, size_t limit)
{
    enum { PAGE = 4096 };
    const unsigned choice = fuzz_byte(input);
    const size_t page = (size_t)(choice >> 3) * PAGE;

    switch (choice & 7) {
    case 0: return page % (limit + 1);
    case 1: return (page + 1) % (limit + 1);
    case 2: return (page + PAGE - 1) % (limit + 1);
    case 3: return limit - page % (limit + 1);
    default: return (fuzz_byte(input) << 8 | fuzz_byte(input)) % (limit + 1);
    }
}
