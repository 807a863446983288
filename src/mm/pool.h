/* SPDX-License-Identifier: MIT */
/* The pool allocator as the routines for drivers use it: what one call asks for. */
#ifndef PINION_MM_POOL_H
#define PINION_MM_POOL_H

#include "mm/state.h"

/* Who takes account of a block: the leak report of the pool speaks of drivers' blocks alone. */
enum pool_owner {
    POOL_OF_DRIVER,
    POOL_OF_MDL,                        /* counts as a live MDL */
    POOL_OF_SYSTEM,                     /* a floor above allocated it for itself, and says so when it is left */
};

struct pool_request {
    bool            paged, cache_aligned, executable;
    enum pool_owner owner;
    size_t          bytes;
    ULONG           tag;
    struct ke_site  site;
};

/* What a POOL_TYPE with its modifier bits asks for. */
struct pool_request mm_pool_request_of_type(POOL_TYPE type, size_t bytes, ULONG tag);

/* A block; NULL: there is none to be had. */
void *mm_pool_take(struct machine *machine, const struct pool_request *request);

/* Free the block that begins at va; a tag other than 0 must be its own. Anything else: bug check 0xC2. */
void mm_pool_give(struct machine *machine, struct ke_site site, uintptr_t va, ULONG tag);

#endif
