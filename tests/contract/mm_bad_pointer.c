/* SPDX-License-Identifier: MIT */
/* MM_BAD_POINTER: a page of addresses that nobody survives touching. */

#include "support.h"

static PVOID never_assigned = MM_BAD_POINTER;

static void read_byte(void *context)
{
    (void)*(volatile UCHAR *)context;
}

static void write_byte(void *context)
{
    *(volatile UCHAR *)context = 1;
}

struct touch {
    SIZE_T off;
    bool write;
    uint64_t *address;
};

/* Inside an exception frame, which must not see it. */
static void touch_bad_page(void *context)
{
    const struct touch *touch = context;
    PUCHAR va;

    boot(NULL);
    va = (PUCHAR)never_assigned + touch->off;
    *touch->address = (uintptr_t)va;
    pinion_try(touch->write ? write_byte : read_byte, va);
}

/* MM_BAD_POINTER-01: an access anywhere in the page stops the machine, exception handler or not. */
TEST(mm_bad_pointer, access__anywhere_in_the_page__stops)
{
    static const SIZE_T offs[] = {0, 1, PAGE_SIZE / 2, PAGE_SIZE - 1};
    uint64_t *address = shared_words();

    for (unsigned i = 0; i < 2 * sizeof(offs) / sizeof(offs[0]); i++) {
        struct touch touch = {offs[i / 2], i % 2 == 1, address};
        const struct stop stop = run_until_stop(touch_bad_page, &touch);

        EXPECT_EQ(stop.code, PAGE_FAULT_IN_NONPAGED_AREA);
        EXPECT_EQ(stop.p[0], *address);
    }
}

/* MM_BAD_POINTER-01: it is the base of a page, no address is valid there, and it stays so whatever is mapped. */
TEST(mm_bad_pointer, address__while_mappings_come_and_go__is_invalid)
{
    UCHAR *pool = pool_pages(1);
    PMDL mdl = locked_mdl(user_pages(1, PAGE_READWRITE), PAGE_SIZE);

    EXPECT_EQ((uintptr_t)MM_BAD_POINTER % PAGE_SIZE, 0);
    for (unsigned i = 0; i < 100; i++) {
        EXPECT(map_system(mdl) != NULL);
        EXPECT(PAGE_ALIGN(mdl->MappedSystemVa) != MM_BAD_POINTER);
        EXPECT_EQ(MmIsAddressValid((PUCHAR)MM_BAD_POINTER + i), FALSE);
        MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    }
    unlock_and_free(mdl);
    ExFreePoolWithTag(pool, TEST_TAG);
}
