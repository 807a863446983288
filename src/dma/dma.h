/* SPDX-License-Identifier: MIT */
/*
 * DMA: adapters, map registers, transfers, scatter/gather lists, common buffers, and what a device sees of memory.
 *
 *   la          logical address: what a device puts on its bus; equal to the physical one unless the machine remaps
 *   reach       the lowest address that a device cannot put on its bus, as a page number
 *   register    a map register: a page in reach, through which the bytes of a page out of reach are copied
 *   channel     the right to start a transfer: one request has it at a time, the others wait in order
 *   request     a wish for the channel and for map registers; lives until both are given back
 *   piece       the bytes of one page of a transfer: what one map register can stand for
 *   element     bytes that are contiguous for the device
 *   record      the parts and pieces that a transfer was given, whatever its driver writes into the MDLs afterwards
 *   domain      the page table from logical to physical pages that an IOMMU would walk; only with dma=remapped
 *
 *     driver's MDLs      | a a a|b b b b|c c|        pieces
 *     out of reach:               copied to a register, and back
 *     SCATTER_GATHER_LIST   [a][  b'   ][c]           elements; neighbours that touch are one
 *
 * An adapter owns its registers; two adapters wait for each other only where they share a channel of the system's DMA
 * controller. A copy is made both ways: what a device leaves unwritten must come back as it was.
 *
 * Lock order: the machine's DMA lock -> channel -> domain. None is held while a driver's routine runs.
 */
#ifndef PINION_DMA_H
#define PINION_DMA_H

#include "mdl/mdl.h"

extern const struct ke_floor dma_floor;

/* Where the driver is, in the verifier's words; NULL without a verifier. Only in the routine that the driver called. */
#define DMA_WHERE(machine) ((machine)->hooks.remember == NULL ? NULL : (machine)->hooks.remember(KE_SITE))

struct dma_adapter;

/* ---- walk.c: the bytes of a chain of MDLs ---- */

/* Bytes [off, off + bytes) of what the chain describes. */
struct dma_buffer {
    PMDL     mdl;
    uint64_t off;
    uint64_t bytes;
};

struct dma_piece {
    PFN_NUMBER pfn;
    uint32_t   off;                     /* in the page */
    uint32_t   bytes;
};

struct dma_cursor {
    PMDL     mdl;
    uint64_t off;                       /* in this MDL's buffer */
    uint64_t left;
};

void dma_walk(struct dma_cursor *cursor, const struct dma_buffer *buffer);
bool dma_next_piece(struct dma_cursor *cursor, struct dma_piece *piece);

/* What a buffer has in one MDL. */
struct dma_stretch {
    PMDL              mdl;
    uintptr_t         va;               /* as the MDL has it */
    const PFN_NUMBER *pfns;
    size_t            npages;
    uint32_t          off;              /* in the first page */
    uint64_t          bytes;
};
bool dma_next_stretch(struct dma_cursor *cursor, struct dma_stretch *stretch);

/* Where in its page the buffer starts. */
uint32_t dma_first_offset(const struct dma_buffer *buffer);

/* Do the MDLs hold all of the buffer's bytes? */
bool dma_chain_holds(const struct dma_buffer *buffer);

/* Where the page is in this process; NULL: it is no memory. */
uint8_t *dma_page_va(const struct machine *machine, PFN_NUMBER pfn);

/* ---- domain.c: logical pages ---- */

enum dma_access { DMA_DEVICE_READS = 1, DMA_DEVICE_WRITES = 2 };

/* Key: (C) constant after creation  (L) under the lock  (A) atomic */
struct dma_domain {
    struct host_mutex  lock;
    uint32_t           uses;            /* (L) adapters in it, and one for its owner */
    uint32_t           first, npages;   /* (C) logical pages that it hands out: first .. first + npages */
    uint32_t           cursor;          /* (L) where the search goes on: addresses are used again as late as can be */
    _Atomic uint64_t  *table;           /* (A) pfn << 2 | enum dma_access, RESERVED, or 0 */
};

struct dma_domain *dma_domain_new(uint32_t first, uint32_t npages);
void               dma_domain_use(struct dma_domain *domain);
void               dma_domain_unuse(struct dma_domain *domain);

/*
 * A run of logical pages, reserved; false: there is none now. Transfers have the upper half to themselves, so that common
 * buffers, which may stay for ever, do not make them wait for ever.
 */
bool dma_domain_take(struct dma_domain *domain, uint32_t npages, uint32_t low, uint32_t high, uint32_t *first);
bool dma_domain_take_for_transfer(struct dma_domain *domain, uint32_t npages, uint32_t *first);
void dma_domain_map(struct dma_domain *domain, uint32_t la_page, PFN_NUMBER pfn, unsigned access);
void dma_domain_unmap(struct dma_domain *domain, uint32_t first, uint32_t npages);      /* they stay reserved */
void dma_domain_give(struct dma_domain *domain, uint32_t first, uint32_t npages);

/* The page behind a logical page that permits the access. */
bool dma_domain_translate(const struct dma_domain *domain, uint64_t la_page, unsigned access, PFN_NUMBER *pfn);

/* ---- runs.c: the runs of pages in a buffer, which are the elements of a device that reaches all memory by itself ---- */

struct dma_runs {
    uint32_t npages, nruns;
};
struct dma_runs dma_count_runs(const struct dma_buffer *buffer);

/* Store the first runs of the buffer, as many as there is room for; how many. */
void     dma_store_only_run(const struct dma_buffer *buffer, SCATTER_GATHER_ELEMENT *element);  /* which has just been counted */
uint32_t dma_store_runs(const struct dma_buffer *buffer, SCATTER_GATHER_ELEMENT *elements, uint32_t room);

/* ---- mapping.c: how a device sees a buffer ---- */

/* What a transfer has of one MDL. */
struct dma_part {
    PMDL      mdl;
    uintptr_t va;
    uint64_t  bytes;
};

struct dma_mapping {
    struct dma_adapter *adapter;
    struct dma_buffer   buffer;         /* as it was asked for: the MDLs may describe something else since */
    const struct dma_part  *parts;      /* the record; NULL: none yet, or none needed */
    const struct dma_piece *pieces;     /* likewise */
    uint32_t            nparts;
    bool                write;          /* to the device */
    bool                direct;         /* all of it as it is: no part is copied or remapped, whatever its pages are */
    bool                packed;         /* one copy of everything, without gaps */
    bool                copied;         /* some of it is a copy */
    uint32_t            npieces;
    uint32_t            npages;         /* registers, or logical pages, that it takes: what was planned is never exceeded */
    uint32_t            nelements;      /* upper bound until it is mapped */
    uint32_t            first_register; /* piece i has register first_register + i; packed: the copy starts there */
    uint32_t            la_first, la_pages;     /* remapped: likewise for logical pages */
};

/* Fill in what follows from adapter, buffer and direction. False: a page that must be copied is no memory. */
bool dma_plan(struct dma_mapping *mapping);

/* The same for the first element alone, which the buffer is cut down to. For devices with scatter/gather. */
bool dma_plan_first(struct dma_mapping *mapping);

/* Logical pages that the plan takes. */
uint32_t dma_la_pages_needed(const struct dma_mapping *mapping);

void dma_map(struct dma_mapping *mapping);
void dma_unmap(struct dma_mapping *mapping);

/* Store the elements, as many as there is room for; how many. */
uint32_t dma_store_elements(const struct dma_mapping *mapping, SCATTER_GATHER_ELEMENT *elements, uint32_t room);

/* ---- record.c: what a transfer has, whatever becomes of its MDLs ---- */

/* How much room the record of a planned mapping takes, 0 for none; and make it there. */
size_t dma_record_bytes(const struct dma_mapping *mapping);
void   dma_record(struct dma_mapping *mapping, void *room);

/* The same in a block of its own. False: no memory. */
bool dma_record_new(struct dma_mapping *mapping);
void dma_record_free(const struct dma_mapping *mapping);

uint32_t dma_count_parts(const struct dma_buffer *buffer);

/* Its pieces: from the record, or from the MDLs as long as there is none. */
struct dma_pieces {
    const struct dma_mapping *mapping;
    struct dma_cursor cursor;
    uint32_t          next;
};
void dma_walk_mapping(struct dma_pieces *walk, const struct dma_mapping *mapping);
bool dma_next_of_mapping(struct dma_pieces *walk, struct dma_piece *piece);

/* ---- mapregs.c: an adapter's map registers ---- */

#define DMA_NO_REGISTER UINT32_MAX

enum { DMA_MOST_REGISTERS = 8192 };     /* of one adapter, where they are memory */

struct dma_registers {
    uint32_t   count;
    uint32_t   nfree;
    uint32_t   first_page;              /* of RAM; meaningless without memory */
    PFN_NUMBER first_pfn;
    uint8_t   *state;                   /* one a register; NULL: a count only, for devices that reach everything */
};

/* Contiguous frames for registers and common buffers, of the wanted node or else of any; nobody but their taker frees them. */
bool dma_frames_take(struct machine *machine, const struct mm_frame_want *want, uint32_t *first);

/* As many as wanted, or as there are to be had below the reach; false: none. */
bool     dma_registers_new(struct machine *machine, struct dma_registers *registers, uint32_t wanted, PFN_NUMBER reach);
void     dma_registers_end(struct machine *machine, struct dma_registers *registers);
uint32_t dma_registers_take(struct dma_registers *registers, uint32_t n);       /* a run; DMA_NO_REGISTER: none now */
void     dma_registers_give(struct dma_registers *registers, uint32_t first, uint32_t n);

/* ---- adapter.c ---- */

enum { DMA_SYSTEM_CHANNELS = 8, DMA_BUCKETS = 256 };

/* Key: (L) under the lock */
struct dma_channel {
    struct host_mutex   lock;           /* also guards the adapters that use the channel, and their requests */
    LIST_ENTRY          waiting;        /* (L) requests, oldest first */
    bool                busy;           /* (L) somebody has it */
    struct dma_request *holder;         /* (L) who keeps it after its routine has returned; NULL: nobody */
};

/* Where the system's DMA controller stands in a subordinate device's transfer. */
struct dma_controller {
    uint64_t la;
    uint32_t bytes, left;
    bool     write;
    bool     active;
    PDMA_COMPLETION_ROUTINE done;
    PVOID    done_context;
    PDEVICE_OBJECT device;
};

/* Key: (C) constant  (L) under the channel's lock */
struct dma_adapter {
    DMA_ADAPTER          object;        /* first: a PDMA_ADAPTER is a struct dma_adapter * */
    DMA_OPERATIONS       operations;    /* (C) */
    PDEVICE_OBJECT       device;        /* (C) the physical one, or NULL */
    DEVICE_DESCRIPTION   description;   /* (C) */
    unsigned             version;       /* (C) 1 to 3 */
    unsigned             width;         /* (C) address bits */
    bool                 scatter_gather;        /* (C) */
    bool                 has_registers; /* (C) registers are pages, not only a count */
    struct dma_domain   *domain;        /* (L) NULL: logical is physical */
    struct dma_domain   *own_domain;    /* (C) */
    struct dma_channel  *channel;       /* (C) own_channel, or one of the machine's */
    struct dma_channel   own_channel;
    struct dma_registers registers;     /* (L) */
    LIST_ENTRY           requests;      /* (L) granted, and not yet given back */
    struct dma_request  *by_handle[DMA_BUCKETS];        /* (L) the same, found by list or by MapRegisterBase */
    LIST_ENTRY           buffers;       /* (L) common buffers */
    struct dma_controller controller;   /* (L) */
    uint64_t             lists_made, lists_put;         /* (L) */
    uint32_t             nbuffers, nchannels, nlists;   /* (L) what is out: common buffers, channel requests, lists */
    uint32_t             nregisters_out;        /* (L) map registers of channel requests */
    struct dma_request  *hint;          /* (L) where the device touched last */
    uint32_t             hint_element;
    bool                 free_is_due;   /* (L) the list that kept the channel came back first: FreeAdapterObject may still be called for it */
    bool                 released;      /* (L) */
    const void          *where;         /* the verifier's: who made it */
    struct dma_adapter  *next;          /* in the machine's list */
};

static inline struct dma_adapter *dma_adapter_of(PDMA_ADAPTER adapter)
{
    return (struct dma_adapter *)(void *)adapter;
}

/* The lowest page that the device cannot address. */
static inline PFN_NUMBER dma_reach(const struct dma_adapter *adapter)
{
    return adapter->width >= 64 ? MM_NO_PFN : (PFN_NUMBER)1 << (adapter->width - SPAN_PAGE_SHIFT);
}

/* Can the device address the page as it is? */
static inline bool dma_reaches(const struct dma_adapter *adapter, PFN_NUMBER pfn)
{
    return adapter->domain != NULL || pfn < dma_reach(adapter);
}

/* ---- channel.c: requests ---- */

enum dma_kind { DMA_FOR_CHANNEL, DMA_FOR_LIST };

/* A stretch that MapTransfer mapped. Owns its record. */
struct dma_segment {
    struct dma_mapping mapping;
    uintptr_t          va;              /* of its first byte, as the first MDL had it then */
    uint64_t           la;
    uint64_t           bytes;
};

/* Key: (C) constant after it is submitted  (L) under the channel's lock */
struct dma_request {
    LIST_ENTRY           link;          /* (L) waiting, or among the adapter's requests */
    struct dma_request  *next_by_handle;        /* (L) */
    struct dma_adapter  *adapter;       /* (C) */
    enum dma_kind        kind;          /* (C) */
    PDEVICE_OBJECT       device;        /* (C) */
    PIRP                 irp;           /* (C) the device's current one when it asked */
    PVOID                context;       /* (C) */
    PDRIVER_CONTROL      control;       /* (C) NULL: the caller goes on by itself */
    PDRIVER_LIST_CONTROL list_control;  /* (C) likewise */
    struct dma_context  *transfer_context;      /* (C) version 3 */
    const void          *where;         /* (C) the verifier's */
    uint32_t             nregisters;    /* (C) asked for */
    uint32_t             first_register;        /* (L) DMA_NO_REGISTER: none are held */
    bool                 in_routine;    /* (L) */
    bool                 ended;         /* (L) given back inside its own routine */
    bool                 cancelled;     /* (L) no further transfer */

    /* a list */
    struct dma_mapping   mapping;
    PSCATTER_GATHER_LIST list;          /* (C) the driver's handle */
    SCATTER_GATHER_ELEMENT *elements;   /* our copy: drivers may write into theirs */
    uint32_t             nelements;
    PMDL                 original;      /* (C) */
    PMDL                 target;        /* (L) chain that BuildMdlFromScatterGatherList made */

    /* a channel */
    struct dma_segment  *segments;      /* (L) room for one a register */
    uint32_t             nsegments;
    uint32_t             registers_used;
    uint64_t             bytes_mapped;
};

struct dma_request *dma_request_new(struct dma_adapter *adapter, enum dma_kind kind, size_t extra_bytes);

/* A driver's request for the channel. NULL: no memory, or the adapter has not so many registers. */
struct dma_request *dma_request_channel(struct dma_adapter *adapter, PDEVICE_OBJECT device, ULONG nregisters,
                                        PDRIVER_CONTROL routine, PVOID context);
void dma_request_free(struct dma_request *request);

/* Wait in order for channel and registers; the request's routine runs as soon as it has both. */
void dma_submit(struct dma_request *request);

/* The same without waiting; false: not now, and the request is still the caller's. */
bool dma_submit_now(struct dma_request *request);

/* The granted request behind a list or a MapRegisterBase, NULL for none. The channel's lock is held. */
struct dma_request *dma_find_locked(struct dma_adapter *adapter, const void *handle);

/* Take a granted request out of the adapter's books and give its registers back. The lock is held; free the request afterwards. */
void dma_retire_locked(struct dma_request *request);

/* The oldest request, if it can be started: it has the channel then, and must be run. The lock is held. NULL: none can. */
struct dma_request *dma_grant_next_locked(struct dma_channel *channel);

/* Run a granted request, and those that can be started thereafter; nothing for NULL. Never while a lock is held. */
void dma_run(struct dma_request *request);

/* Start whoever can be started. Never while a lock is held. */
void dma_pump(struct dma_channel *channel);

/* Free the channel that this adapter has kept, and its map registers. Bug check 0xE6/0x04: it has not. */
void dma_release_channel(struct dma_adapter *adapter, bool keep_registers);

/* The request for which the adapter keeps the channel, or NULL. The lock is held. */
struct dma_request *dma_holder_locked(const struct dma_adapter *adapter);

/* A list that may have kept the channel came back: nobody has the channel then. The lock is held. */
void dma_release_for_list_locked(const struct dma_request *request);

void dma_lock(struct dma_adapter *adapter);
void dma_unlock(struct dma_adapter *adapter);

/* ---- sglist.c ---- */

/* The arguments of all routines that make a list. */
struct dma_list_call {
    PDEVICE_OBJECT       device;
    struct dma_buffer    buffer;
    PDRIVER_LIST_CONTROL routine;
    PVOID                context;
    bool                 write;
    bool                 own_buffer;    /* the caller brings memory for the list */
    PVOID                list;
    size_t               list_bytes;
    struct dma_context  *transfer_context;
    bool                 now;           /* do not wait */
    PSCATTER_GATHER_LIST *out;
    const void          *where;
};

NTSTATUS dma_make_list(struct dma_adapter *adapter, const struct dma_list_call *call);
void     dma_fill_list(struct dma_request *request);    /* as its turn has come */
size_t   dma_list_bytes(uint32_t nelements);

/* The offset of an address in an MDL's buffer; one before the buffer becomes larger than any buffer. */
static inline uint64_t dma_offset_of(const MDL *mdl, const void *va)
{
    return (uint64_t)((uintptr_t)va - mdl_va(mdl));
}

/* ---- transfer.c ---- */

/* Map the start of a buffer through a channel's registers: one element, or everything where the device has no scatter/gather,
   unless it may be partial. The bytes mapped, 0 when no register is left; bug check 0x45 when everything does not fit. */
uint64_t dma_map_some(struct dma_request *request, struct dma_buffer buffer, bool write, bool partial, uint64_t *la);

/* The bytes that a flush names: by address in an MDL, or by offset in the chain that begins there. */
struct dma_range {
    PMDL     mdl;
    uint64_t start, bytes;
    bool     by_offset;
};

/* Where the segment starts, in the range's terms; and whether any of it is in the range. */
uint64_t dma_segment_start(const struct dma_segment *segment, const struct dma_range *range);
bool     dma_segment_meets(const struct dma_segment *segment, const struct dma_range *range);

/* The granted channel request that a MapRegisterBase stands for, or NULL. */
struct dma_request *dma_find_channel(struct dma_adapter *adapter, const void *base);

/* Set the system's DMA controller going; nothing for a bus master. */
void dma_program_controller(struct dma_adapter *adapter, struct dma_controller program);
void dma_stop_controller(struct dma_adapter *adapter);

/* End what was mapped of the range; how many elements that were. */
uint32_t dma_flush(struct dma_request *request, const struct dma_range *range);

/* ---- commonbuffer.c ---- */

/* What its driver said of the processor's cache. */
enum dma_caching { DMA_UNCACHED, DMA_CACHED, DMA_CACHING_DEFAULT };

struct dma_common_buffer {
    LIST_ENTRY  link;
    uint8_t    *block;                  /* contiguous memory; the guards, if any, lie in it */
    size_t      block_pages;
    uint8_t    *va;
    uint64_t    la;
    uint32_t    bytes;
    uint32_t    la_pages;               /* remapped */
    struct dma_domain *domain;
    bool        guarded;
    bool        from_mdl;               /* the memory is the driver's */
    enum dma_caching caching;
    const void *where;
};

#define DMA_NO_LIMIT UINT64_MAX

struct dma_buffer_want {
    uint32_t bytes;
    uint64_t low, limit;                /* logical addresses: the lowest one, and the first one above */
    bool     large;                     /* aligned to 2 MiB */
    enum dma_caching caching;
    int      node;                      /* where its memory should be, if there is any */
    const void *where;
};

struct dma_common_buffer *dma_buffer_new(struct dma_adapter *adapter, const struct dma_buffer_want *want);
struct dma_common_buffer *dma_buffer_find_locked(struct dma_adapter *adapter, const void *va);
void dma_buffer_book(struct dma_adapter *adapter, struct dma_common_buffer *buffer);
void dma_buffer_free(struct dma_adapter *adapter, struct dma_common_buffer *buffer);    /* in the adapter's books or not yet */
void dma_buffer_end(struct dma_adapter *adapter, struct dma_common_buffer *buffer);     /* out of the books, and free */

/* What of a guarded buffer's surroundings is no longer as it was: enum below; *where the first wrong byte. */
enum dma_guard { DMA_GUARD_WHOLE, DMA_GUARD_TAG_BEFORE, DMA_GUARD_TAG_AFTER, DMA_GUARD_BEFORE = 4, DMA_GUARD_AFTER = 5 };
enum dma_guard dma_buffer_guard(const struct dma_common_buffer *buffer, uintptr_t *where);

/* ---- device.c: memory as the device sees it ---- */

/*
 * The bytes at la that the device may access now, and where they lie in this process: as many as are contiguous there, at
 * most `bytes`. 0: the access is a fault, which has been reported.
 */
size_t dma_device_run(struct dma_adapter *adapter, uint64_t la, size_t bytes, unsigned access, uint8_t **va);

/* The interrupt of the system's DMA controller, as the program that it had asked for. */
void dma_tell_completion(struct dma_adapter *adapter, const struct dma_controller *program, DMA_COMPLETION_STATUS status);

/* With the verifier on, what has just ended is remembered for the report of a later access to it. */
void dma_remember_list(struct dma_adapter *adapter, const struct dma_request *request);
void dma_remember_range(struct dma_adapter *adapter, uint64_t la, uint64_t bytes, const void *where);
void dma_forget_past(struct machine *machine);

/* ---- version 3 ---- */

/* What InitializeDmaTransferContext writes into the driver's memory. */
enum dma_context_state { DMA_CONTEXT_NEW = 0x58544344, DMA_CONTEXT_WAITING, DMA_CONTEXT_GRANTED, DMA_CONTEXT_CANCELLED };
struct dma_context {
    uint32_t state;                     /* (L) enum dma_context_state */
};

_Static_assert(sizeof(struct dma_context) <= DMA_TRANSFER_CONTEXT_SIZE_V1, "it lives in the driver's memory");

void dma_fill_version3(DMA_OPERATIONS *operations);     /* version3.c: channels and lists */
void dma_fill_transfer3(DMA_OPERATIONS *operations);    /* transfer3.c: MapTransferEx and its kin */
void dma_fill_buffers3(DMA_OPERATIONS *operations, bool windows10);     /* buffers3.c: common buffers and domains */

/* ---- floor.c ---- */

enum { DMA_KEPT_ADAPTERS = 64, DMA_HISTORY = 64 };

/* The lists that came back last: their elements, for the report of an access that comes too late. */
struct dma_past {
    const struct dma_adapter *adapter;
    const void *list;                   /* NULL: MapTransfer or a common buffer */
    const void *where;
    uint32_t    nelements;
    SCATTER_GATHER_ELEMENT *elements;
};

/* Key: (L) under the lock */
struct dma_state {
    struct host_mutex   lock;
    struct dma_adapter *adapters;       /* (L) in use */
    struct dma_adapter *kept[DMA_KEPT_ADAPTERS];        /* (L) released, but recognisable; a ring */
    uint32_t            nkept;
    struct dma_past     past[DMA_HISTORY];      /* (L) a ring */
    uint32_t            npast;
    struct dma_channel  system[DMA_SYSTEM_CHANNELS];
};

enum dma_adapter_state { DMA_ADAPTER_UNKNOWN, DMA_ADAPTER_IN_USE, DMA_ADAPTER_RELEASED };
enum dma_adapter_state dma_adapter_state(struct machine *machine, const DMA_ADAPTER *adapter);

void dma_channel_init(struct dma_channel *channel);
void dma_channel_destroy(struct dma_channel *channel);
void dma_adapter_free(struct machine *machine, struct dma_adapter *adapter);

/* ---- the routines behind the table ---- */

VOID     dma_put_adapter(PDMA_ADAPTER adapter);
PVOID    dma_allocate_common_buffer(PDMA_ADAPTER adapter, ULONG length, PPHYSICAL_ADDRESS la, BOOLEAN cached);
VOID     dma_free_common_buffer(PDMA_ADAPTER adapter, ULONG length, PHYSICAL_ADDRESS la, PVOID va, BOOLEAN cached);
NTSTATUS dma_allocate_channel(PDMA_ADAPTER adapter, PDEVICE_OBJECT device, ULONG nregisters, PDRIVER_CONTROL routine, PVOID context);
BOOLEAN  dma_flush_buffers(PDMA_ADAPTER adapter, PMDL mdl, PVOID base, PVOID va, ULONG length, BOOLEAN write);
VOID     dma_free_channel(PDMA_ADAPTER adapter);
VOID     dma_free_registers(PDMA_ADAPTER adapter, PVOID base, ULONG nregisters);
PHYSICAL_ADDRESS dma_map_transfer(PDMA_ADAPTER adapter, PMDL mdl, PVOID base, PVOID va, PULONG length, BOOLEAN write);
ULONG    dma_get_alignment(PDMA_ADAPTER adapter);
ULONG    dma_read_counter(PDMA_ADAPTER adapter);
NTSTATUS dma_get_list(PDMA_ADAPTER adapter, PDEVICE_OBJECT device, PMDL mdl, PVOID va, ULONG length, PDRIVER_LIST_CONTROL routine,
                      PVOID context, BOOLEAN write);
VOID     dma_put_list(PDMA_ADAPTER adapter, PSCATTER_GATHER_LIST list, BOOLEAN write);
NTSTATUS dma_calculate_list(PDMA_ADAPTER adapter, PMDL mdl, PVOID va, ULONG length, PULONG list_bytes, PULONG nregisters);
NTSTATUS dma_build_list(PDMA_ADAPTER adapter, PDEVICE_OBJECT device, PMDL mdl, PVOID va, ULONG length, PDRIVER_LIST_CONTROL routine,
                        PVOID context, BOOLEAN write, PVOID buffer, ULONG buffer_bytes);
NTSTATUS dma_build_mdl(PDMA_ADAPTER adapter, PSCATTER_GATHER_LIST list, PMDL original, PMDL *target);

#endif
