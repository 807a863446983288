/* SPDX-License-Identifier: MIT */
/* What the files of mdl share with each other and with nobody else. */
#ifndef PINION_MDL_STATE_H
#define PINION_MDL_STATE_H

#include "mdl/mdl.h"
#include "rtl/buddy.h"

struct mdl_blocks;

struct mdl_state {
    struct mdl_blocks *blocks;
    uintptr_t          blocks_base;     /* of the address range that they live in */
};

int  mdl_blocks_boot(struct machine *machine);
void mdl_blocks_shutdown(struct machine *machine);
void mdl_blocks_leave_thread(struct machine *machine);

/* Bug check 0x1A/0x1233 for the first page of the MDL that could be taken away while it is mapped. */
void mdl_require_held(struct machine *machine, PMDL mdl);

/* A system mapping of the MDL was made at va, or ended. */
void mdl_note_mapped(PMDL mdl, uintptr_t va);
void mdl_note_unmapped(PMDL mdl, size_t npages);

#endif
