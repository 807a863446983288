/* SPDX-License-Identifier: MIT */
/*
 * The end of a test: the machine must be idle. The only part of the harness that calls the library.
 */

#include "harness.h"

#include <pinion/pinion.h>

#include "backend.h"

void expect_idle(void)
{
    struct pinion_counters left;

    pinion_counters(&left);
    EXPECT_EQ(left.live_mdls, 0);
    EXPECT_EQ(left.locked_pages, 0);
    EXPECT_EQ(left.system_mappings, 0);
    EXPECT_EQ(left.system_pages_mapped, 0);
    EXPECT_EQ(left.outstanding_lists, 0);
    EXPECT_EQ(pinion_shutdown(), 0);
}

void harness_shut_down(void)
{
    pinion_shutdown();
}
