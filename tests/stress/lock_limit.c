/* SPDX-License-Identifier: MIT */
/* The most locks that a page can have, reached by large buffers alone. */

#include "../contract/lock_limit.h"

/* Large buffers alone reach the end too, and only their locks: some of them given back, it is reached anew. It is left
   locked: to undo it all would take minutes under ThreadSanitizer. */
TEST_UNTIDY(mm_lock_limit, lock__large_buffer_to_the_end__raises_and_recovers)
{
    enum { PAGES = LARGE / 12 };        /* each is counted 65535 times */
    static struct big_mdl large;

    boot("verifier=off:ram=64M");
    UCHAR *const user = user_pages(PAGES, PAGE_READWRITE);
    lock_times(&large, user, PAGES * PAGE_SIZE, UserMode, MOST_LOCKS);
    expect_quota(user, PAGES * PAGE_SIZE, UserMode);
    for (SIZE_T page = 0; page < PAGES; page += 127)
        expect_quota(user + page * PAGE_SIZE, PAGE_SIZE, UserMode);
    unlock_times(&large, 100);
    lock_times(&large, user, PAGES * PAGE_SIZE, UserMode, 100);
    expect_quota(user, PAGES * PAGE_SIZE, UserMode);
    EXPECT_EQ(counters_now().locked_pages, (uint64_t)MOST_LOCKS * PAGES);
    EXPECT_EQ(pinion_trim(), 0);
}
