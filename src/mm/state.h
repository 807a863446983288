/* SPDX-License-Identifier: MIT */
/* What the files of mm share with each other and with nobody else. */
#ifndef PINION_MM_STATE_H
#define PINION_MM_STATE_H

#include "mm/mm.h"

int  mm_frames_boot(struct machine *machine);
void mm_frames_shutdown(struct machine *machine);
void mm_frame_unpinned(struct machine *machine, uint32_t page);         /* its last pin went: free it if it is a zombie */
int  mm_window_boot(struct machine *machine);
void mm_window_shutdown(struct machine *machine);
int  mm_pool_boot(struct machine *machine);
void mm_pool_shutdown(struct machine *machine);
void mm_pool_on_fault(struct machine *machine, const struct host_fault *fault);       /* stops where special pool is about it */
void mm_pool_report_leaks(struct machine *machine);                     /* a warning for each tag; MDLs in pool are the verifier's to report */

enum host_fault_verdict mm_on_fault(const struct host_fault *fault);

static inline struct ke_access mm_access_of(const struct host_fault *fault)
{
    return (struct ke_access){.ip = fault->ip, .va = fault->va, .write = fault->access == HOST_WRITE};
}

void             mm_spaces_forget(struct machine *machine);             /* at shutdown: those that have ended */
struct mm_space *mm_space_by_id(const struct machine *machine, uint8_t id);
uint64_t         mm_space_pins(struct mm_space *space);                 /* held on all its pages */

/* ---- claim.c: pins on ranges; claim.h has how they are made ---- */

/* A claim that covers the whole range, and its word; NULL: none does. */
const _Atomic uint64_t *mm_claim_covering(struct machine *machine, const struct mm_space *space, uint32_t first, size_t n, uint64_t *word);

/* See that the page's own count is not zero: move a claim into the counts of its pages. False: the page is not pinned. */
bool mm_claim_break(struct machine *machine, struct mm_space *space, uint32_t page);

/* All pins on pages [first, first + n), whichever way they are counted. */
uint64_t mm_space_pins_on(const struct machine *machine, const struct mm_space *space, uint32_t first, uint32_t n);

/* To be called between taking pages' attributes away and looking for pins on them: none that goes by the old attributes is missed. */
void mm_claims_settle(const struct machine *machine);

void mm_claims_boot(struct machine *machine);
void mm_claims_leave_thread(struct machine *machine);
void mm_claims_shutdown(struct machine *machine);

#define MM_NO_REGION UINT32_MAX         /* of mm_space.free_region */

/* ---- kept.c: released mappings; the space's lock is held ---- */

struct mm_kept   *mm_kept_create(void);                 /* NULL: no memory; released with free() */
uint32_t          mm_kept_pages(const struct mm_space *space);
struct mm_region *mm_kept_find_locked(const struct mm_space *space, const struct mm_map_request *request);
void              mm_kept_take_locked(struct mm_space *space, struct mm_region *region, const struct mm_map_request *request);
bool              mm_kept_release_locked(struct mm_space *space, struct mm_region *region);     /* false: it is not to be kept */
bool              mm_kept_evict_all_locked(struct mm_space *space);                             /* false: there was none */
bool              mm_kept_check_locked(const struct mm_space *space, const char **why);

/* ---- space.c ---- */

void mm_space_fill_attributes(struct mm_space *space, uint32_t first, size_t npages, uint8_t attributes);
void mm_space_describe_mapping(struct mm_region *region, const struct mm_map_request *request);
void mm_space_forget_region_locked(struct mm_space *space, struct mm_region *region);      /* its addresses are free */
bool mm_space_is_unused_locked(const struct mm_space *space, uint32_t first, uint32_t npages);

/* Put pages out of reach for good. */
void mm_space_revoke(struct mm_space *space, uint32_t first, size_t npages);
void mm_space_unpoison(const struct mm_space *space, uint32_t first, size_t npages);
void mm_space_shut(struct mm_space *space, uint32_t first, size_t npages);      /* mm_space_revoke, of what is not poisoned */

/* Return the frames of all its memory, when a space ends. */
void mm_space_give_memory(struct machine *machine, struct mm_space *space);

/* The last pin of a freed page went: free its region if that was the last of all. */
void mm_space_reap(struct machine *machine, struct mm_space *space, uint32_t page);

/* One page of a space on behalf of a lock that found it not plainly there; the space's lock is held. */
NTSTATUS mm_space_prepare_page_locked(struct mm_space *space, uint32_t page, uint8_t access);

PEPROCESS mm_process_new(struct machine *machine, const char *name);
void      mm_process_free(struct machine *machine, PEPROCESS process);

#endif
