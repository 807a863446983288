/* SPDX-License-Identifier: MIT */
/* What the files of mdl share with each other and with nobody else. */
#ifndef PINION_MDL_STATE_H
#define PINION_MDL_STATE_H

#include "mdl/mdl.h"
#include "rtl/buddy.h"

struct mdl_blocks;
struct mdl_special;

struct mdl_state {
    struct mdl_blocks  *blocks;
    uintptr_t           blocks_base;    /* of the address range that they live in */
    struct mdl_special *special;        /* NULL without the verifier's flag */
};

int  mdl_blocks_boot(struct machine *machine);
void mdl_blocks_shutdown(struct machine *machine);
void mdl_blocks_leave_thread(struct machine *machine);

/* ---- special.c ---- */

int  mdl_special_boot(struct machine *machine);
void mdl_special_shutdown(struct machine *machine);

/* An uninitialised MDL in special pool; NULL: an ordinary block will do. */
PMDL mdl_special_take(struct machine *machine, struct ke_site site, size_t npages);
bool mdl_special_give(struct machine *machine, PMDL mdl);       /* false: it stands elsewhere */

enum mdl_place { MDL_ELSEWHERE, MDL_LIVE, MDL_FREED };

/* Whether an MDL stands in special pool, and how many PFNs it has room for then. */
enum mdl_place mdl_special_place(const struct machine *machine, const MDL *mdl, size_t *capacity);

/* ---- */

/* Bug check 0x1A/0x1233 for the first page of the MDL that could be taken away while it is mapped. */
void mdl_require_held(struct machine *machine, PMDL mdl);

/* Its pages were locked for reading, as far as the verifier knows, so that its system mapping is read-only. */
bool mdl_is_for_reading(const struct machine *machine, PMDL mdl);

/* A system mapping of the MDL was made at va, or ended. */
void mdl_note_mapped(PMDL mdl, uintptr_t va);
void mdl_note_unmapped(PMDL mdl, size_t npages);

#endif
