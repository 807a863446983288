/* SPDX-License-Identifier: MIT */
/*
 * The machine that inputs run on. Its options are PINION_OPTIONS.
 *
 * To boot and shut down takes several times as long as most inputs do, so a machine serves many of them. It must be idle after each, and
 * at its end nothing may be left that only shutting down looks for. Any finding, at any time, is a failure: the calls are legal.
 */

#pragma once

#include "fuzz.h"

#include <errno.h>
#ifndef PINION_WDK_WDM_H
#include <wdm.h>
#endif
#include <pinion/pinion.h>

enum { INPUTS_PER_MACHINE = 256 };

static unsigned machine_inputs; /* that the machine has served */

static inline void machine_found(const struct pinion_finding *finding, void *context)
{
    (void)context;
    fuzz_fail(__FILE__, __LINE__, "no finding", " but %s: %s", finding->id, finding->what);
}

static inline void machine_end(void)
{
    if (machine_inputs != 0)
        FUZZ_EXPECT(pinion_shutdown() == 0);
    machine_inputs = 0;
}

static inline void machine_begin_input(void)
{
    static bool ends_at_exit;

    if (machine_inputs++ != 0)
        return;
    FUZZ_EXPECT(pinion_boot(NULL) == 0);
    pinion_watch_findings(machine_found, NULL);
    if (!ends_at_exit)
        FUZZ_EXPECT(atexit(machine_end) == 0);
    ends_at_exit = true;
}

static inline void machine_end_input(void)
{
    struct pinion_counters left;

    pinion_counters(&left);
    FUZZ_EXPECT(left.live_mdls == 0 && left.locked_pages == 0 && left.system_mappings == 0 && left.system_pages_mapped == 0
                && left.outstanding_lists == 0 && left.live_irps == 0,
                "left: %lu MDLs, %lu locks, %lu mappings of %lu pages, %lu lists, %lu IRPs", left.live_mdls, left.locked_pages,
                left.system_mappings, left.system_pages_mapped, left.outstanding_lists, left.live_irps);
    if (machine_inputs == INPUTS_PER_MACHINE)
        machine_end();
}

/* ---- bytes ---- */

/* Bytes of which each depends on its place and its page, so that neither a shifted byte nor a swapped page goes unseen. */
static inline void fill_bytes(UCHAR *to, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (UCHAR)(seed * 131 + i * 7 + (i >> 8) * 17 + (i >> 12) * 29 + 1);
}

static inline size_t first_difference(const UCHAR *a, const UCHAR *b, size_t bytes)
{
    size_t i = 0;

    while (i < bytes && a[i] == b[i])
        i++;
    return i;
}
