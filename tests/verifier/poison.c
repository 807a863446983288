/* SPDX-License-Identifier: MIT */
/* Bytes beside the buffer in a system mapping: poisoned where AddressSanitizer watches, silent elsewhere. */

#include "harness.h"
#include <wdm.h>

#include "../contract/support.h"

#include <string.h>

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

enum { OFFSET = 104, BYTES = 1000 };

static volatile UCHAR seen;

/* As a driver does it, with the sanitizer's look at the access. */
static void touch(void *context)
{
    const LONG off = *(LONG *)context;
    UCHAR *const va = user_pages(1, PAGE_READWRITE);
    const PMDL mdl = locked_mdl(va + OFFSET, BYTES);
    UCHAR *const mapped = system_address(mdl);

    seen = mapped[off];
    unlock_and_free(mdl);
    pinion_user_free(va);
}

static bool is_reported(LONG off)
{
    const struct stop stop = run_until_stop(touch, &off);

    EXPECT(!stop.stopped);
    EXPECT_EQ(stop.exit_status != 0, strstr(stop.stderr_text, "AddressSanitizer: use-after-poison") != NULL);
    return stop.exit_status != 0;
}

/* In front of the buffer and behind it, in the same page. */
TEST_UNTIDY(poison, mapping__touched_beside_the_buffer__is_reported_by_the_sanitizer)
{
    static const LONG beside[] = {-1, -OFFSET, BYTES, PAGE_SIZE - OFFSET - 1};

    for (SIZE_T i = 0; i < ARRAYSIZE(beside); i++)
        EXPECT_EQ(is_reported(beside[i]), SANITIZED);
}

TEST_UNTIDY(poison, mapping__touched_inside_the_buffer__is_not)
{
    EXPECT(!is_reported(0));
    EXPECT(!is_reported(BYTES - 1));
}

/* The same page mapped whole afterwards, likely elsewhere, and the buffer itself are nobody's secret. */
TEST(poison, page__mapped_again_for_another_buffer__is_its_own)
{
    UCHAR *const va = user_pages(1, PAGE_READWRITE);

    for (int i = 0; i < 100; i++) {
        const PMDL part = locked_mdl(va + OFFSET, BYTES), whole = locked_mdl(va, PAGE_SIZE);

        system_address(part)[0] = 1;
        fill_pattern(system_address(whole), PAGE_SIZE, 4);
        unlock_and_free(part);
        EXPECT_PATTERN(va, PAGE_SIZE, 4);
        unlock_and_free(whole);
    }
    pinion_user_free(va);
}
