/* SPDX-License-Identifier: MIT */
/*
 * What the tests of address spaces share: a process of their own whose range is small enough to be filled,
 * so that searches wrap and run out; words in its pages that show each misplaced page; locks and mappings
 * without an MDL.
 */

#pragma once

#include "harness.h"

#include "mm/state.h"
#include "mm/zones.h"

#include <stdio.h>
#include <string.h>

enum { SMALL = 64 };

static const uint8_t RW = MM_READ | MM_WRITE;

struct fixture {
    struct machine *machine;
    struct mm_space *space;
    struct _EPROCESS process;
    size_t free_frames; /* at the beginning */
};

/* The calling thread's process is then the fixture's. */
static inline void open_fixture(struct fixture *f, size_t npages)
{
    EXPECT_EQ(pinion_boot("ram=16M:verifier=off"), 0);
    f->machine = ke_machine();
    f->free_frames = mm_frames_free(f->machine);
    f->space = mm_space_create(f->machine, MM_KIND_PROCESS, NULL, npages);
    EXPECT(f->space != NULL);
    f->process = (struct _EPROCESS){.space = f->space, .name = "fixture"};
    f->space->process = &f->process;
    pinion_process_attach(&f->process);
}

static inline void expect_sound(const struct fixture *f)
{
    const char *why = "nothing";

    if (!mm_check(f->machine, &why))
        harness_fail(HARNESS_HERE, "mm_check: %s", why);
}

static inline void close_fixture(struct fixture *f)
{
    expect_sound(f);
    pinion_process_attach(NULL);
    mm_space_destroy(f->machine, f->space);
    EXPECT_EQ(mm_frames_free(f->machine), f->free_frames);
}

static inline uintptr_t allocate(struct fixture *f, size_t npages)
{
    return mm_space_allocate(f->machine, f->space, npages, RW);
}

static inline uint32_t page_of(const struct fixture *f, uintptr_t va)
{
    return (uint32_t)((va - f->space->base) / HOST_PAGE_SIZE);
}

static inline uint8_t attributes_at(const struct fixture *f, uintptr_t va)
{
    return atomic_load(&f->space->attrs[page_of(f, va)]);
}

/* A word here and there in each page. */
enum { WORDS_APART = 73 };

static inline uint64_t word_of(size_t i, unsigned seed)
{
    return i * 0x9E3779B97F4A7C15u + seed;
}

static inline void fill(uintptr_t va, size_t npages, unsigned seed)
{
    for (size_t i = 0; i < npages * HOST_PAGE_SIZE / sizeof(uint64_t); i += WORDS_APART)
        ((volatile uint64_t *)va)[i] = word_of(i, seed);
}

static inline void expect_filled(uintptr_t va, size_t npages, unsigned seed)
{
    for (size_t i = 0; i < npages * HOST_PAGE_SIZE / sizeof(uint64_t); i += WORDS_APART)
        if (((volatile uint64_t *)va)[i] != word_of(i, seed))
            harness_fail(HARNESS_HERE, "word %zu of %p is not its own", i, (void *)va);
    EXPECT(npages != 0);
}

static inline NTSTATUS lock(struct fixture *f, uintptr_t va, size_t npages, bool write, PFN_NUMBER *pfns)
{
    const struct mm_lock_request request = {
        .va = va, .bytes = npages * HOST_PAGE_SIZE, .user_mode = true, .write = write};
    PEPROCESS process = NULL;
    const NTSTATUS status = mm_lock_pages(f->machine, &request, pfns, &process);

    if (NT_SUCCESS(status))
        EXPECT_PTR_EQ(process, &f->process);
    return status;
}

static inline void read_a_byte(void *va)
{
    (void)*(volatile uint8_t *)va;
}

static inline void write_a_byte(void *va)
{
    *(volatile uint8_t *)va = 1;
}

static inline NTSTATUS map(struct fixture *f, struct mm_space *space, const PFN_NUMBER *pfns, size_t n,
                           uintptr_t wanted, uintptr_t *va)
{
    const struct mm_map_request request = {.pfns = pfns, .npages = n, .attributes = RW, .wanted = wanted};

    return mm_space_map(f->machine, space, &request, va);
}
