/* SPDX-License-Identifier: MIT */
/*
 * Memory: frames, address spaces, pool, contiguous memory, system PTEs, the trimmer.
 *
 *   page        the index of a page in the RAM file; neighbours are contiguous in the file and in the RAM window
 *   PFN         what a driver sees of a page: pi(page), scattered by default. Only frames.c knows pi
 *   host PFN    stands for a page of this Linux process that is not simulated: HOST_PFN_BASE + (va >> 12)
 *   RAM window  all pages, mapped once, in page order; nonpaged pool and contiguous memory live in it
 *   space       a range of addresses with a page table: a process, paged pool, or the system-PTE area
 *   region      an allocation or a mapping inside a space
 *   pin         one lock on one page: while there is one, the page is neither trimmed nor given to anyone else
 *   claim       pins on a range of pages, counted by one word instead of page by page
 *
 * Lock order: pool, table of spaces -> space -> frames; claims last. Translate, pin and unpin take none of them on their fast paths.
 */
#ifndef PINION_MM_H
#define PINION_MM_H

#include "ke/ke.h"
#include "rtl/span.h"

/* ---- frames.c: the machine's RAM ---- */

#define MM_NO_PFN        (~(PFN_NUMBER)0)
#define MM_HOST_PFN_BASE ((PFN_NUMBER)1 << 36)

/* 3 GiB .. 4 GiB */
#define MM_IO_PFN   0xC0000ull
#define MM_IO_PAGES 0x40000ull

/* Above it are MM_BAD_POINTER, whose page Linux gives to nobody, and the addresses of Linux itself: system space without a page. */
#define MM_HIGHEST_USER_ADDRESS ((uintptr_t)MM_BAD_POINTER - 1)

/* Linux gives nobody the pages below: NULL and its neighbours. */
#define MM_LOWEST_HOST_ADDRESS ((uintptr_t)0x10000)

/* Can a page of the host process be there at all? */
static inline bool mm_is_host_address(uintptr_t va)
{
    return va - MM_LOWEST_HOST_ADDRESS <= MM_HIGHEST_USER_ADDRESS - MM_LOWEST_HOST_ADDRESS;
}

/* The number of such a page? What a driver has not filled in, or has overwritten, is mostly a number beyond. */
static inline bool mm_is_host_pfn(PFN_NUMBER pfn)
{
    const PFN_NUMBER lowest = MM_HOST_PFN_BASE + (MM_LOWEST_HOST_ADDRESS >> SPAN_PAGE_SHIFT);

    return pfn - lowest <= (MM_HIGHEST_USER_ADDRESS - MM_LOWEST_HOST_ADDRESS) >> SPAN_PAGE_SHIFT;
}

enum mm_frame_state {
    MM_FRAME_FREE,
    MM_FRAME_SPACE,             /* belongs to a page of a space: a process's memory, or paged pool */
    MM_FRAME_POOL,              /* nonpaged pool */
    MM_FRAME_CONTIGUOUS,
    MM_FRAME_PAGES,             /* of MmAllocatePagesForMdl and its kin: described by an MDL only */
    MM_FRAME_ZOMBIE,            /* freed by its owner while pinned: free as soon as the last pin goes */
};

/*
 * One page of RAM, but for its state: states are an array of their own, so that a question about many frames reads a byte each.
 * All zero means: free and never used.
 * Invariant: pins == 0 in state FREE and SPACE; pins > 0 in state ZOMBIE. The pins of SPACE frames stand in the space.
 */
struct mm_frame {
    _Atomic uint32_t pins;
    uint32_t         owner_page;        /* SPACE, and special pool: index of the page in its space. CONTIGUOUS: pages of the block, in its first */
    uint8_t          owner_space;       /* SPACE, and special pool: the space's id */
    uint8_t          dirty;             /* may hold bytes that are not zero */
    uint8_t          cache;             /* MEMORY_CACHING_TYPE + 1; 0: none yet */
    uint8_t          executable : 1;    /* may be executed in the RAM window, where a fetch of an instruction finds out that it is */
    uint8_t          executed : 1;      /* was: its place in the window permits it */
};

enum { MM_NODES = 2, MM_ANY_NODE = -1 };        /* node 0 is the memory below 4 GiB, node 1 what is above */

/* Which frames an allocation accepts. */
struct mm_frame_want {
    size_t     npages;
    PFN_NUMBER low, high;               /* lowest and highest acceptable PFN */
    size_t     boundary_pages;          /* contiguous only: must not cross a multiple of it; 0: any */
    int        node;                    /* MM_ANY_NODE, or the only node that will do */
};

bool       mm_page_of_pfn(const struct machine *machine, PFN_NUMBER pfn, uint32_t *page);
PFN_NUMBER mm_pfn_of_page(const struct machine *machine, uint32_t page);
void       mm_pfns_of_pages(const struct machine *machine, uint32_t page, size_t npages, PFN_NUMBER *pfns);
size_t     mm_run_of_pfns(const struct machine *machine, const PFN_NUMBER *pfns, size_t n, uint32_t *page);   /* in a row from *page; 0: no RAM */
struct mm_frame *mm_frame(const struct machine *machine, uint32_t page);
enum mm_frame_state mm_frame_state(const struct machine *machine, uint32_t page);
PFN_NUMBER mm_highest_pfn(const struct machine *machine);
PFN_NUMBER mm_pfn_below(uint64_t highest_pa);           /* the last page that lies wholly at or below an inclusive address */

/* Take up to npages as one run; the length of the run, 0 when RAM is exhausted. The frames belong to nobody yet. */
size_t mm_frames_take(struct machine *machine, size_t npages, uint32_t *first);

/* Take exactly npages as one run, anywhere. */
bool mm_frames_take_whole(struct machine *machine, size_t npages, uint32_t *first);

/* Take npages whose PFNs are consecutive, from the linear zones. */
bool mm_frames_take_contiguous(struct machine *machine, const struct mm_frame_want *want, uint32_t *first);

/* Take up to npages one by one or in runs, from any zone; how many were taken. Their PFNs are stored. */
size_t mm_frames_take_pages(struct machine *machine, const struct mm_frame_want *want, PFN_NUMBER *pfns);

/* Physical addresses that are a device's and not RAM: they can be mapped and hold what is stored there, no allocation gives them. */
static inline bool mm_is_io_pfn(PFN_NUMBER pfn)
{
    return pfn - MM_IO_PFN < MM_IO_PAGES;
}

/* As mm_frames_give, for memory that a driver frees: a page that is still locked for I/O is bug check 0x4E/0x9A. */
void mm_frames_give_unpinned(struct machine *machine, uint32_t first, size_t npages);

/* Give frames back. Those with pins of their own become zombies. */
void mm_frames_give(struct machine *machine, uint32_t first, size_t npages);

void mm_frames_set_cache(struct machine *machine, uint32_t first, size_t npages, MEMORY_CACHING_TYPE cache);

/* Make pages read as zero through the window, without touching those that do already. */
void mm_frames_zero(struct machine *machine, uint32_t first, size_t npages);

/* Pages that a routine returns uninitialised: low resources simulation fills them at random, so that nobody relies on what is there. */
void mm_frames_leave_uninitialised(struct machine *machine, uint32_t first, size_t npages);

void mm_frames_allow_execution(struct machine *machine, uint32_t first, size_t npages);
void mm_frames_mark(struct machine *machine, uint32_t first, size_t npages, enum mm_frame_state state);
bool mm_frames_are(const struct machine *machine, uint32_t first, size_t npages, enum mm_frame_state state);     /* all of them? */
size_t mm_frames_free(struct machine *machine);

/* ---- window.c: the RAM window ---- */

static inline void *mm_window_va(const struct machine *machine, uint32_t page);
static inline bool  mm_window_page(const struct machine *machine, uintptr_t va, uint32_t *page);     /* false: the address is not in it */

/*
 * Memory that may be executed is written like any other and executed hardly ever: its page becomes executable in the window when an
 * instruction is fetched from it, and ceases to be when its frame is given back. False: the page may not be executed.
 */
bool  mm_window_execute(struct machine *machine, uint32_t page);
void  mm_window_stop_execution(struct machine *machine, uint32_t page);

/* The longest run at the start of pfns whose bytes are contiguous in this process, and where they are; 0: pfns[0] is no memory. */
size_t mm_first_run(const struct machine *machine, const PFN_NUMBER *pfns, size_t n, void **va);

/* ---- translate.c: what an address is ---- */

enum mm_kind { MM_KIND_HOST, MM_KIND_WINDOW, MM_KIND_SYSTEM_PTE, MM_KIND_SPECIAL_POOL, MM_KIND_PAGED_POOL, MM_KIND_PROCESS };

struct mm_space;

/* The kind of one address, and the space that it lies in (NULL for host addresses and the window). */
enum mm_kind mm_classify(const struct machine *machine, uintptr_t va, struct mm_space **space);

/* The PFN behind an address that is valid now; MM_NO_PFN when there is none. Host addresses are not touched. */
PFN_NUMBER mm_translate(const struct machine *machine, uintptr_t va);

/* Store the PFNs of the pages from va on, up to the first one that is not valid; how many were. */
size_t mm_translate_range(const struct machine *machine, uintptr_t va, size_t npages, PFN_NUMBER *pfns);

/* ---- space.c, spaces.c: address spaces and their page tables; how they come and go ---- */

enum mm_attribute {             /* one byte a page */
    MM_READ     = HOST_READ,
    MM_WRITE    = HOST_WRITE,
    MM_EXEC     = HOST_EXEC,
    MM_ACCESS   = MM_READ | MM_WRITE | MM_EXEC,
    MM_USED     = 0x08,         /* belongs to a region */
    MM_RESIDENT = 0x10,         /* valid in the host's page table */
    MM_ALIAS    = 0x20,         /* maps a frame that belongs to someone else: pinned by PFN, never trimmed */
    MM_GUARD    = 0x40,         /* the first access raises STATUS_GUARD_PAGE_VIOLATION and clears this bit */
    MM_ZOMBIE   = 0x80,         /* freed while pinned: kept back until the last pin of its region goes */
};

/* The access that one of PAGE_NOACCESS .. PAGE_EXECUTE_READWRITE grants; false: it is another value. */
bool mm_access_of_protection(ULONG protection, uint8_t *access);

enum mm_region_kind {
    MM_REGION_MEMORY,
    MM_REGION_USER_MAPPING,
    MM_REGION_SYSTEM_MAPPING,
    MM_REGION_KEPT,                     /* a system mapping that was released: kept.c. Nobody's, and no address in it is valid */
    MM_REGION_RESERVED,                 /* addresses of MmAllocateMappingAddress, whether something is mapped there or not */
};

/*
 * Why all pages of a mapping are held, as long as it is so: one claim covers those that need one, and since that was found no
 * frame was given back, so that each still belongs to the page that the claim covers.
 */
struct mm_witness {
    const _Atomic uint64_t *claim;      /* NULL: none needs one */
    uint64_t                word;       /* that stands there */
    uint64_t                given;      /* mm_state.frames_given then; 0: there is no witness */
};

/*
 * An allocation or a mapping: npages from page `first` of its space. For a mapping of an MDL, what was mapped, so that
 * unmapping can be checked against it; MmAdvanceMdl moves live_first forward and the passed pages stay mapped until then.
 */
struct mm_region {
    uint32_t            first, npages;
    uint32_t            live_first;
    enum mm_region_kind kind;
    const void         *mdl;
    uintptr_t           start_va;       /* the MDL's StartVa */
    PFN_NUMBER          first_pfn;
    uint32_t            mapped;         /* reserved: pages mapped from `first` on */
    ULONG               tag;            /* reserved: its owner's pool tag */
    const void         *where;          /* reserved: the call stack, or NULL */
    uint32_t            next_free;      /* index of the next unused entry of the table */

    struct {                            /* system mappings that can be kept: kept.c */
        bool              wanted;       /* keep it when it is released */
        uint8_t           attributes;   /* all its pages' access bits */
        uint32_t          nruns;        /* mappings of the host */
        uint32_t          hash;         /* of the page numbers */
        uint32_t          same, older, newer;
        struct mm_witness witness;
    } kept;
};

enum {
    MM_MOST_PAGES      = 1 << 27,       /* of a space: 512 GiB */
    MM_ATTRIBUTE_SLACK = 8,             /* bytes behind the last page's attributes that can be read */
};

/*
 * A range of addresses with a page table in parallel arrays, one entry a page.
 *
 * Key: (A) atomic, read without the lock  (C) constant after creation  (L) written under the lock
 * Invariant: attrs[i] == 0 if and only if page i belongs to no region. USED pages that are not ALIAS own the frame
 * pfns[i], and that frame's owner is (id, i).
 */
struct mm_space {
    uint8_t           id;               /* (C) index in the machine's table of spaces */
    enum mm_kind      kind;             /* (C) */
    PEPROCESS         process;          /* (C) whose range this is; NULL for system space */
    uintptr_t         base;             /* (C) */
    uint32_t          npages;           /* (C) */
    PFN_NUMBER       *pfns;             /* (L) */
    _Atomic uint8_t  *attrs;            /* (A, L) enum mm_attribute */
    _Atomic uint32_t *pins;             /* (A) counts beside the claims; NULL where all pages are aliases: system PTEs, special pool */
    atomic_bool       crowded;          /* (A) a count came near its limit once: no more claims, so that every lock looks at it */
    uint32_t         *runs;             /* (L) of memory of its own: pages from here on that are neighbours in the RAM file, as far as is known */
    uint32_t         *region_of;        /* (L) index + 1 of the region, 0 for none */
    struct mm_region *regions;          /* (L) */
    uint32_t          nregions, regions_room, free_region;      /* (L) */
    uint32_t          cursor;           /* (L) where the next search for free addresses starts: oldest first */
    uint32_t          nused;            /* (L) pages in regions */
    struct mm_kept   *kept;             /* (L) released mappings; NULL: none is kept here */
    struct host_mutex lock;
    struct mm_space  *next_ended;
};

/* Does it map other owners' frames and nothing else? */
static inline bool mm_space_is_of_aliases(const struct mm_space *space)
{
    return space->kind == MM_KIND_SYSTEM_PTE || space->kind == MM_KIND_SPECIAL_POOL;
}

/* The pages of a mapping that MmAdvanceMdl has not passed. */
static inline size_t mm_region_live_pages(const struct mm_region *region)
{
    return region->npages - (region->live_first - region->first);
}

/* The page of an address in this space. */
static inline uint32_t mm_space_page(const struct mm_space *space, uintptr_t va)
{
    return (uint32_t)((va - space->base) >> SPAN_PAGE_SHIFT);
}

struct mm_space *mm_space_create(struct machine *machine, enum mm_kind kind, PEPROCESS process, size_t npages);
void             mm_space_destroy(struct machine *machine, struct mm_space *space);

/* Pages that are in no region, or in one that is only kept. */
size_t           mm_space_room(struct mm_space *space);

/* Zeroed memory of its own, with these access bits; 0 when there is none to be had. */
uintptr_t mm_space_allocate(struct machine *machine, struct mm_space *space, size_t npages, uint8_t attributes);

/* Free the region that starts at va. False: none does. */
bool mm_space_free(struct machine *machine, struct mm_space *space, uintptr_t va);

/* New access bits for whole pages of one region; a mapping of somebody else's frames keeps its own. False: the range is not inside
 * a region, or the host refused. */
bool mm_space_protect(struct machine *machine, struct mm_space *space, uintptr_t va, size_t npages, uint8_t attributes);

/* Make the valid pages of a range resident. */
void mm_space_page_in(struct machine *machine, struct mm_space *space, uint32_t first, size_t npages);

/* Take away the host's mapping of every resident page that no pin holds; how many. */
size_t mm_space_trim(struct machine *machine, struct mm_space *space);

/* Map other owners' frames. `wanted` asks for an address (process only); 0 leaves the choice. */
struct mm_map_request {
    const PFN_NUMBER *pfns;
    size_t            npages;
    uint8_t           attributes;       /* MM_READ | ... */
    uintptr_t         wanted;
    const void       *mdl;
    uintptr_t         start_va;
    bool              reserved;         /* at addresses of mm_space_reserve: it must not fail for want of anything of ours */
    struct mm_witness witness;          /* that they are held, for mm_space_map_again */
};
NTSTATUS mm_space_map(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uintptr_t *va);
void     mm_space_unmap(struct machine *machine, struct mm_space *space, uintptr_t va);

/*
 * Unmap what is mapped at va, if it is what the caller says: it begins there, with that page, and has that many pages that MmAdvanceMdl has
 * not passed (or MM_ANY_COUNT). How many it had; 0: it is something else, namely *found, or nothing if that has no pages.
 */
#define MM_ANY_COUNT (~(size_t)0)
size_t   mm_space_unmap_this(struct mm_space *space, uintptr_t va, PFN_NUMBER first_pfn, size_t npages, struct mm_region *found);

/* As mm_space_map, if the pages can be mapped as they were before, and are known to be held. False: nothing has changed. */
bool     mm_space_map_again(struct machine *machine, struct mm_space *space, const struct mm_map_request *request, uintptr_t *va);

/* New access bits for pages of a mapping. False: the host refused. */
bool             mm_space_protect_mapping(struct mm_space *space, uintptr_t va, size_t npages, uint8_t attributes);

/* Addresses without pages, to be mapped and unmapped any number of times; 0 when there are none left. */
uintptr_t        mm_space_reserve(struct mm_space *space, size_t npages, ULONG tag, const void *where);
bool             mm_space_map_reserved(struct machine *machine, struct mm_space *space, uintptr_t va, const struct mm_map_request *request);
void             mm_space_unmap_reserved(struct mm_space *space, uintptr_t va);
void             mm_space_unreserve(struct mm_space *space, uintptr_t va);

/* A copy of the region that an address lies in. */
bool mm_space_region(struct mm_space *space, uintptr_t va, struct mm_region *out);

/* MmAdvanceMdl passed npages of the mapping that va lies in; which kind of region that is. */
enum mm_region_kind mm_space_advance_mapping(struct mm_space *space, uintptr_t va, size_t npages);

/* ---- pin.c: locks on pages ---- */

/* Who asks for a lock, and for what. */
struct mm_lock_request {
    uintptr_t va;                       /* page aligned or not; the pages it touches are locked */
    size_t    bytes;
    bool      user_mode;
    bool      write;
    PEPROCESS process;                  /* whose user addresses are meant; NULL: the current one's */
};

/*
 * Probe, make resident and pin all pages of the range and store their PFNs; *process is then the process they belong
 * to, NULL for system and host memory. A status other than success: nothing is pinned, and pfns are as they were.
 */
NTSTATUS mm_lock_pages(struct machine *machine, const struct mm_lock_request *request, PFN_NUMBER *pfns, PEPROCESS *process);

/* Drop one pin of each page. A page that has none: bug check 0x4E/7. */
void mm_unlock_pages(struct machine *machine, const PFN_NUMBER *pfns, size_t npages);

/*
 * The fast way to unlock the first `passed` of npages pages (which may be all): they were locked at va as one range, and the
 * first `passed` numbers are still theirs. False: it is not so, and nothing has changed; mm_unlock_pages will do.
 */
bool mm_unlock_range(struct machine *machine, uintptr_t va, const PFN_NUMBER *pfns, size_t npages, size_t passed);

/*
 * Where the pages lie side by side in the RAM window, if that can be said without looking at each: one lock of va and the pages behind
 * it holds them, and these are their numbers. NULL says nothing.
 */
void *mm_locked_run(struct machine *machine, uintptr_t va, const PFN_NUMBER *pfns, size_t npages);

/* How many from the start may be mapped: memory that exists, and that cannot be taken away. */
size_t mm_count_held(struct machine *machine, const PFN_NUMBER *pfns, size_t npages, struct mm_witness *witness);

/* How many pages of a range from the start are no missing ones of the host: asks Linux for each that is the host's. */
size_t mm_count_present(const struct machine *machine, uintptr_t va, size_t npages);

/* Does any page have this number: RAM, a device's, or the host's? */
bool mm_pfn_exists(const struct machine *machine, PFN_NUMBER pfn);

/* How many numbers from the start some page has. */
size_t mm_pfns_exist(const struct machine *machine, const PFN_NUMBER *pfns, size_t n);

/* May this PFN be mapped: memory that exists, and that cannot be taken away (pinned, or nonpaged by nature)? */
bool mm_pfn_is_held(const struct machine *machine, PFN_NUMBER pfn);

/* Locks on one page right now. Host pages are not counted one by one: 0. */
uint32_t mm_pins_of_pfn(const struct machine *machine, PFN_NUMBER pfn);

/* ---- process.c ---- */

struct _EPROCESS {
    struct mm_space *space;
    char             name[32];
    bool             initial;
};

static inline PEPROCESS mm_current_process(const struct machine *machine);
struct mm_space *mm_current_space(struct machine *machine);

/* ---- pool.c ---- */

/* The block of pool that an address lies in; false when it lies in none that is allocated. */
bool mm_pool_find(struct machine *machine, uintptr_t va, struct ke_pool_block *block);

/* The block of special pool that was freed last at this page. */
bool mm_pool_find_freed(struct machine *machine, uintptr_t va, struct ke_pool_block *block);

/*
 * What an MDL gets for a page that is not there because it is the guard behind a block of special pool: a frame that holds
 * nothing. A length beyond the block is a habit, and would have met somebody's memory in other pool. False: the page is none such.
 */
bool mm_pool_page_behind(struct machine *machine, uintptr_t va, PFN_NUMBER *pfn);

/* Blocks that this driver's code allocated and nobody has freed: how many, and the first few of them. */
uint64_t mm_pool_blocks_of_driver(struct machine *machine, const void *driver, struct ke_pool_block *some, size_t room);

/* Nonpaged pool for an MDL that its owner frees with ExFreePool; it counts as a live MDL until then. NULL: none left. */
void *mm_pool_allocate_mdl(struct machine *machine, size_t bytes);

/*
 * Pool for a floor's own use: no rule of the verifier looks at it, no failure of a pool routine on demand meets it, and the
 * pool reports none that is left. NULL: none left. The second kind is a driver's to free, and reported when it does not.
 */
void *mm_pool_allocate(struct machine *machine, POOL_TYPE type, size_t bytes, ULONG tag);
void *mm_pool_allocate_for_driver(struct machine *machine, POOL_TYPE type, size_t bytes, ULONG tag);
void  mm_pool_free(struct machine *machine, void *va);

/* ---- list.c: copies for printers, which do not wait: false says that somebody keeps the lock ---- */

/* Up to `room` regions, how many there are in all, and how many pages they have. */
bool mm_list_regions(struct mm_space *space, struct mm_region *regions, size_t room, size_t *total, size_t *npages);

/* Locks on the pages of one space. */
struct mm_locked_space {
    char     name[32];                  /* the process's, or "paged pool" */
    uint64_t pins;
    bool     busy;                      /* its lock was kept, and pins is not known */
};

/* The spaces that pins are counted in, as many as there is room for. */
bool mm_list_locked(struct machine *machine, struct mm_locked_space *spaces, size_t room, size_t *n);

/* The name of a process that is alive. False: it is none, or the table of spaces is busy. */
bool mm_process_name(struct machine *machine, const void *process, char *name, size_t bytes);

/* ---- state, for the files of this folder and for checkers ---- */

enum { MM_MAX_SPACES = 256, MM_MAX_ZONES = 20 };

struct mm_zone;
struct mm_pool;
struct mm_claim_row;
struct mm_kept;

struct mm_state {
    struct host_ram   ram;
    size_t            npages;
    uint8_t          *window;           /* the RAM window's first byte */
    struct mm_frame  *frames;           /* one a page */
    _Atomic uint8_t  *frame_states;     /* one a page: enum mm_frame_state */
    _Atomic uint64_t  frames_given;     /* counts the times when frames are given back, from 1 on */
    struct mm_zones  *zones;
    struct mm_pool   *pool;
    struct mm_space  *system_ptes;
    struct mm_space  *paged_pool;
    struct mm_space  *special_pool;     /* nonpaged blocks with a page of their own each; NULL without the verifier's flag */
    PEPROCESS         initial_process;
    _Atomic(struct mm_space *) spaces[MM_MAX_SPACES];
    _Atomic uint32_t  spaces_end;       /* no space ever had this index or a higher one */
    struct mm_space  *ended;            /* empty ones, to be used again: another thread may be looking at one */
    struct host_mutex spaces_lock;      /* held while a space comes, goes or is trimmed */
    _Atomic(struct mm_claim_row *) claim_rows;          /* a list that only grows */
    bool              claims_common;    /* (C) no row is private: Linux, or ThreadSanitizer, has no barrier for other threads */
    struct host_mutex claims_lock;      /* held while a claim is broken, or a row made common */
};

static inline void *mm_window_va(const struct machine *machine, uint32_t page)
{
    return machine->mm->window + (size_t)page * HOST_PAGE_SIZE;
}

static inline bool mm_window_page(const struct machine *machine, uintptr_t va, uint32_t *page)
{
    const uintptr_t off = va - (uintptr_t)machine->mm->window;

    *page = (uint32_t)(off >> SPAN_PAGE_SHIFT);
    return off < machine->mm->npages * HOST_PAGE_SIZE;
}

/* The one that the calling thread is attached to, or the one that the machine booted with. */
static inline PEPROCESS mm_current_process(const struct machine *machine)
{
    const struct ke_thread *self = ke_self();

    if (LIKELY(self->process == NULL) || self->process_generation != machine->generation)
        return machine->mm->initial_process;
    return self->process;
}

extern const struct ke_floor mm_floor;

/* Walk everything: frames against their owners, buddies, regions. `why` names what is wrong. */
bool mm_check(struct machine *machine, const char **why);

#endif
