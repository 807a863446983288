/* SPDX-License-Identifier: MIT */
/* The floors of the house, lowest first: the order of boot, and backwards that of shutdown. */

#include "dma/dma.h"
#include "io/io.h"
#include "mdl/mdl.h"
#include "mm/mm.h"
#include "verifier/verifier.h"

extern const struct ke_floor ke_own_floor;

const struct ke_floor *const ke_floors[] = {&ke_own_floor, &mm_floor, &mdl_floor, &dma_floor, &io_floor, &verifier_floor, NULL};
