/* SPDX-License-Identifier: MIT */
/* Words that the rules are written in, wherever they stand: the machine, a case, an address as a parameter. */
#ifndef PINION_VERIFIER_ABOUT_H
#define PINION_VERIFIER_ABOUT_H

#include "verifier/verifier.h"

/* Parameter 4 of bug check 0xC1. */
enum { DAMAGED_IN_FRONT = 0x23, DAMAGED_BEHIND = 0x24, DAMAGED_IN_ONE_BIT = 0x32 };

static inline struct machine *the(void)
{
    return &ke_the_machine;
}

static inline uint64_t flags_of(const MDL *mdl)
{
    return (USHORT)mdl->MdlFlags;
}

static inline uint64_t address(const volatile void *p)
{
    return (uintptr_t)p;
}

static inline struct vf_case about(struct ke_site site, PMDL mdl)
{
    return (struct vf_case){.site = site, .mdl = mdl};
}

static inline bool is_above(KIRQL limit)
{
    return ke_self()->irql > limit;
}

static inline bool has_state(PMDL mdl, uint32_t state)
{
    return (vf_state_of(the(), mdl) & state) != 0;
}

static inline bool can_ask_for_no_execute(void)
{
    return the()->options.windows >= KE_WINDOWS_8;
}

#endif
