/* SPDX-License-Identifier: MIT */
/*
 * The verifier: a record of who did what to which MDL, and rules that are asked before a driver's call changes anything.
 *
 *   record     one entry per MDL that is alive or holds something; what the rules believe comes from here, never from
 *              MDL flags, which drivers write themselves
 *   rule       one mistake: its bug check or warning, what is wrong, what to do (rules.def)
 *   stack      the call stack of an event, kept once however often it occurs (stacks.c)
 *
 * It stands beside the floors: ke owns the table of hooks, the floors call through it, hooks.c fills it at boot. Nothing
 * below includes a header of this folder.
 *
 * One lock guards the record. It is taken inside hooks only, after every other lock: a hook calls no floor that locks.
 */
#ifndef PINION_VERIFIER_H
#define PINION_VERIFIER_H

#include "mdl/mdl.h"
#include "verifier/rules.h"

extern const struct ke_floor verifier_floor;

/* ---- stacks.c: call stacks, each kept once ---- */

enum { VF_STACK_DEPTH = 12 };

struct vf_stack {
    struct vf_stack *next;              /* in its bucket, to whose front stacks are added, and from which none is ever taken */
    uint32_t         hash, n;
    uintptr_t        pcs[VF_STACK_DEPTH];
};

/* The stack at a call site; it lives as long as the machine. */
const struct vf_stack *vf_stack_at(struct machine *machine, struct ke_site site);

struct vf_state;
int  vf_stacks_boot(struct vf_state *state);
void vf_stack_print(const struct vf_stack *stack, size_t first);        /* from this frame on */
void vf_stacks_free(struct vf_state *state);

/* ---- record.c ---- */

enum vf_mdl_state {
    VF_ALLOCATED = 0x01,                /* by IoAllocateMdl or the I/O manager: somebody must free it */
    VF_LOCKED    = 0x02,
    VF_BUILT     = 0x04,                /* describes nonpaged memory */
    VF_PARTIAL   = 0x08,
    VF_MAPPED    = 0x10,                /* has a system mapping of its own */
    VF_PAGES     = 0x20,                /* brought its own pages: MmFreePagesFromMdl */
    VF_POOL_MDL  = 0x40,                /* stands in pool: ExFreePool */
    VF_LENT      = 0x80,                /* allocated by a part of the system, which frees it: a driver must not */
};

enum vf_event {
    VF_EVENT_ALLOCATED, VF_EVENT_LOCKED, VF_EVENT_BUILT, VF_EVENT_PARTIAL, VF_EVENT_MAPPED, VF_EVENT_NOT_MAPPED, VF_EVENT_FREED,
    VF_EVENTS
};

/* A lock or a mapping: which MDL has it, and its number, which no other one ever gets. All zero: none. */
struct vf_hold {
    PMDL     mdl;
    uint64_t number;
};

/* One MDL. An MDL in a driver's own memory has an entry only while it holds something that must be given back. */
struct vf_mdl {
    struct vf_mdl         *next;        /* in its bucket */
    PMDL                   mdl;
    uint32_t               state;       /* enum vf_mdl_state */
    uint32_t               user_mappings;
    const void            *driver;      /* whose code allocated it; NULL for the host program's */
    struct vf_hold         hold;        /* its own lock, or the pages that it brought */
    struct vf_hold         mapping;     /* its own system mapping */
    struct vf_hold         source;      /* partial: whose lock keeps its pages; no MDL when that is not on record */
    struct vf_mdl         *borrowers;   /* partial MDLs with a mapping of their own of pages that `hold` keeps, */
    struct vf_mdl         *next_borrower;       /* each of them */
    struct vf_hold         lender;      /* partial without a mapping of its own: whose mapping it shares */
    const void            *process;     /* whose memory it has locked last; NULL: the system's, or the host program's */
    uintptr_t              advanced_to; /* MmAdvanceMdl has let go of the pages below */
    uintptr_t              mapped_at, buffer_at;        /* its own mapping, and the address that MmGetMdlVirtualAddress gave then */
    uint32_t               npages_locked, mapped_bytes;
    uint32_t               locked_at_ms;        /* of the host's clock, where there is a limit to how long */
    bool                   read_locked; /* its pages, or a partial MDL's source's, were locked for IoReadAccess */
    bool                   of_system;   /* freed: by the I/O manager or another part of the system, not by IoFreeMdl */
    const struct vf_stack *head_freed;  /* where the MDL in front of it in its chain was freed alone */
    const struct vf_stack *where[VF_EVENTS];
};

/* Locks of pages, and system mappings. */
struct vf_held {
    int64_t pages, mappings;
};

/* What an MDL describes that is mapped into a process, once for each such mapping. */
struct vf_shared {
    PMDL      mdl;
    uintptr_t va;
    size_t    bytes;
};

enum { VF_HISTORY = 1024 };             /* freed MDLs that are remembered, newest last */

struct vf_state {
    struct host_mutex lock;             /* guards all of this */
    struct vf_mdl   **buckets;
    size_t            nbuckets, nentries;
    struct vf_mdl    *spare;            /* entries that nothing is on record in */
    size_t            nspare;
    struct vf_mdl     freed[VF_HISTORY];
    size_t            nfreed;
    struct vf_shared *shared;           /* few, if any */
    size_t            nshared, shared_room;
    uint64_t          last_hold;        /* number of the newest lock or mapping */
    struct vf_held    told;             /* what is out of every MDL's reach, and how it came so has been told */
    _Atomic bool      mdl_refused;      /* IoAllocateMdl has returned NULL, which is what MmAdvanceMdl is for */
    _Atomic(struct vf_stack *) *stack_buckets;          /* without the lock */
    struct vf_invariant **invariants;   /* invariant.c's; NULL without its flags */
    uintptr_t        *warned_sites;     /* call sites that have had their one warning */
    size_t            nwarned, warned_room;
};

uint32_t vf_now_ms(void);

/* enum vf_mdl_state of an MDL; 0 when nothing is known of it. */
uint32_t vf_state_of(struct machine *machine, PMDL mdl);

/* A copy of what is known about an MDL; all zero but for the address when nothing is. */
struct vf_mdl vf_lookup(struct machine *machine, PMDL mdl);

/* The newest MDL freed at this address. */
bool vf_lookup_freed(struct machine *machine, PMDL mdl, struct vf_mdl *out);

/*
 * For reports and printers, which must not wait for whoever holds the record, perhaps for ever. An MDL that is alive or was freed: *out
 * is what is known; otherwise *out is empty but for the address.
 */
enum vf_answer { VF_UNKNOWN, VF_ALIVE, VF_FREED, VF_BUSY };
enum vf_answer vf_ask(struct machine *machine, PMDL mdl, struct vf_mdl *out);

/* Copies of up to `room` entries that have any of these state bits, and how many there are in all. False: the record is busy. */
bool vf_list(struct machine *machine, uint32_t state, struct vf_mdl *entries, size_t room, size_t *total);

/* The same of entries that have pages locked, or brought them, and that are wanted: how many there are. 0 where the record is busy. */
typedef bool vf_wanted(const struct vf_mdl *entry, uint64_t what);
size_t vf_find_locked(struct machine *machine, vf_wanted *wanted, uint64_t what, struct vf_mdl *entries, size_t room);

/* Add and remove state bits; `event` tells which stack to keep. */
void vf_record(struct machine *machine, struct ke_site site, PMDL mdl, uint32_t set, uint32_t clear, enum vf_event event);
void vf_record_user_mapping(struct machine *machine, struct ke_site site, PMDL mdl, bool mapped);
void vf_record_not_mapped(struct machine *machine, struct ke_site site, PMDL mdl);
void vf_record_freed(struct machine *machine, struct ke_site site, PMDL mdl, bool by_system);

/* After vf_record of a new partial MDL: whose lock and whose mapping it lives on. */
void vf_record_lineage(struct machine *machine, PMDL source, PMDL target);

/* The MDL of memory that is mapped into a process and touches the range. False: there is none. */
bool vf_find_shared(struct machine *machine, uintptr_t va, size_t bytes, PMDL *mdl);

/* One of the partial MDLs that map, by themselves, pages that this MDL holds; the next call gives another. False: that was all. */
bool vf_take_borrower(struct machine *machine, PMDL mdl, struct vf_mdl *borrower);

/* Where its mapping lies now, and what it maps. */
void vf_record_mapped_at(struct machine *machine, PMDL mdl, uintptr_t va);
void vf_record_advanced(struct machine *machine, PMDL mdl, size_t passed);

/* Is it still the same lock or mapping? True for none. */
bool vf_hold_lasts(struct machine *machine, struct vf_hold hold);

/* The MDL whose own system mapping an address lies in; false when it lies in none. Looks at every MDL: for reports. */
bool vf_find_by_mapping(struct machine *machine, uintptr_t va, struct vf_mdl *out);

/* The same for a fault: the whole pages of the mapping, and the guard page behind it; else the newest freed MDL that was mapped there. */
bool vf_find_by_fault(struct machine *machine, uintptr_t va, struct vf_mdl *out);

/* Pass on, along each chain whose head was freed alone, that it was. */
void vf_mark_rest_of_chains(struct machine *machine);

/* False the second time for the same call site. */
bool vf_first_warning_at(struct machine *machine, uintptr_t ip);

/* How many MDLs of this driver are alive, and one of them. */
uint64_t vf_count_of_driver(struct machine *machine, const void *driver, PMDL *example);

/* What the MDLs on record hold in all. */
struct vf_held vf_sum_held(struct machine *machine);

/* These are out of every MDL's reach from here on, and how it came so has just been told. */
void vf_record_told(struct machine *machine, int64_t pages, int64_t mappings);

void vf_each(struct machine *machine, void (*visit)(const struct vf_mdl *entry, void *context), void *context);

int  vf_record_boot(struct vf_state *state);
void vf_record_shutdown(struct vf_state *state);

/* ---- report.c: rules and how their violation is told ---- */

/* What a rule's violation is about. */
struct vf_case {
    struct ke_site site;                /* ip 0: the calling thread's own stack, which may go back to a fault */
    PMDL           mdl;                 /* whose story is told; NULL for none */
    enum vf_event  event;               /* of that story, what it is about most of all: told first */
    const struct vf_stack *made;        /* where what it is about was made; NULL: unknown */
    const struct ke_pool_block *block;  /* a block of pool that it is about; NULL for none */
    size_t         more_blocks;         /* that follow it in an array */
    const void    *dispatch;            /* the dispatch routine that did it; NULL: whoever called */
    uintptr_t      va;                  /* an address that is not where it should be; 0 for none: the report says whose it is */
    uint32_t       held_ms;             /* how long its pages were locked, where that is too long */
};

/* Stop with the rule's code. Of a code with a subcode, that is parameter 1 and p1.. follow it; otherwise p1 is parameter 1. */
_Noreturn void vf_stop(enum vf_rule rule, struct vf_case of, uint64_t p1, uint64_t p2, uint64_t p3, uint64_t p4);
void vf_warn(enum vf_rule rule, struct vf_case of);

/* Of MDLs that could be told with the very call stacks of this one: that there are so many more. */
void vf_warn_of_more(enum vf_rule rule, const struct vf_mdl *example, enum vf_event event, unsigned count);

/* What happened to an MDL, each event with its stack; and to the MDL that its pages come from. `first`: the event to begin with. */
void vf_mdl_print(const struct vf_mdl *entry);
void vf_mdl_print_from(const struct vf_mdl *entry, enum vf_event first);

/* The same of the MDL at an address, alive or freed, under a line that names it. */
void vf_mdl_print_of(PMDL mdl, enum vf_event first);

/* What to do about a warning of this name; "" where that is unknown. */
const char *vf_advice(const char *slug);

/* The place of a routine, a block of pool, */
void vf_code_print(const char *title, const void *code);
void vf_block_print(const struct ke_pool_block *block);

/* and a stack under its title, indented as in reports; nothing for NULL. */
void vf_story_print(const char *title, const struct vf_stack *stack);

/* As the hook bug_check_report: the rest of the report of a stop. */
void vf_report(ULONG code, const uint64_t parameters[4]);

/* ---- subjects.c: what a stop without a rule is about, as its parameters have it ---- */

void vf_subject_print(ULONG code, const uint64_t parameters[4]);

/* ---- lineage.c: rules that follow an MDL back to where its pages come from ---- */

/* Stops when the MDL is one of ours and was freed. */
void vf_require_alive(struct ke_site site, PMDL mdl);

/*
 * A mapping that failed, on this thread, and what is done then: who handles it unlocks, frees, maps or completes something next; who
 * does not touches an address near NULL.
 */
void vf_note_not_mapped(struct ke_site site, PMDL mdl);
void vf_forget_not_mapped(void);
void vf_check_access(uintptr_t va);

/* Warn of a partial MDL whose pages are no longer locked through its source, or whose mapping has gone with the source's. */
void vf_check_source(struct ke_site site, PMDL mdl);
void vf_check_lent_mapping(struct ke_site site, PMDL mdl);

/* Before an MDL's hold on its pages is off the record: whatever partial MDLs still map of them is out of reach from here on. */
void vf_revoke_borrowed(PMDL mdl);

/* ---- room.c ---- */

/* Stops where the page numbers of its buffer would be written behind the MDL. */
void vf_require_room(struct ke_site site, PMDL mdl);

/* ---- invariant.c: buffers that must not change while a request is under way; nothing without their flags ---- */

void vf_invariant_call(struct ke_site site, PDEVICE_OBJECT device, PIRP irp);
void vf_invariant_complete(struct ke_site site, PIRP irp);
void vf_invariant_forget(const IRP *irp);
int  vf_invariants_boot(struct vf_state *state);
void vf_invariants_shutdown(struct vf_state *state);

/* ---- leaks.c ---- */

void vf_report_leaks(struct machine *machine);

/* ---- hooks.c, memory.c, irp.c ---- */

void vf_hooks_install(struct ke_hooks *hooks);          /* all of these */
void vf_memory_hooks_install(struct ke_hooks *hooks);
void vf_irp_hooks_install(struct ke_hooks *hooks);

/* ---- dma.c ---- */

void vf_dma_hooks_install(struct ke_hooks *hooks);

#endif
