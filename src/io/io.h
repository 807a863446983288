/* SPDX-License-Identifier: MIT */
/*
 * The I/O manager: drivers, devices and their stacks, IRPs, completion, work items, the requests of host
 * programs, and the disk that a file backs.
 *
 *   stack      devices attached to one another; a request enters at the top and is sent down by the drivers
 *   location   a driver's part of an IRP: 1 is the lowest driver's, StackCount the highest's, one more nobody's
 *   slot       the memory of an IRP that IoAllocateIrp or the I/O manager made, in an address range of its own
 *   maker      the routine that made the IRP; it decides who gets it back: a driver, or the I/O manager
 *   final completion   what follows the highest completion routine: data, MDLs and status go to the requester
 *
 *     [ struct io_slot ][ IRP ][ location 1 ][ location 2 ] ...     a slot; drivers see the IRP and what follows
 *
 * An IRP in a driver's own memory (IoInitializeIrp) has no slot. Which it is, the IRP's address alone tells, and
 * what the I/O manager knows of its own IRPs stands in the slot: no byte that a driver may write decides anything, but
 * for UserIosb and UserEvent of an IRP that a driver had built for itself.
 */
#ifndef PINION_IO_H
#define PINION_IO_H

#include "mdl/mdl.h"

#include <stdalign.h>

extern const struct ke_floor io_floor;

/* ---- irp.c: where IRPs live ---- */

struct io_slot;

/* Called by the thread that completed the IRP, at up to DISPATCH_LEVEL; data, MDLs and buffer are dealt with. */
typedef void io_finish_fn(struct machine *machine, struct io_slot *slot, const IO_STATUS_BLOCK *outcome);

enum io_maker {
    IO_BY_DRIVER,                       /* IoAllocateIrp */
    IO_BY_ASYNC_BUILD,                  /* IoBuildAsynchronousFsdRequest: a driver's as well */
    IO_BY_ASSOCIATION,                  /* IoMakeAssociatedIrp: the I/O manager's, unless a driver keeps it and frees it */
    IO_BY_MANAGER,                      /* requests of host programs, of a thread, of the I/O manager itself */
};

/*
 * What stands in front of an IRP. While the IRP is with drivers, only final completion reads it; who has it is noted
 * as it goes down and up.
 *
 * Key: (R) under the machine's requests lock
 */
struct io_slot {
    alignas(64) struct io_slot *next;   /* while free */
    io_finish_fn     *finish;           /* NULL: nothing happens past the highest completion routine */
    struct io_file   *file;             /* the open file that the request counts against, or NULL */
    void             *requester;        /* what `finish` needs; of an associated IRP, its master */
    void             *system_buffer;    /* buffered I/O, or NULL */
    void             *user_buffer;      /* where buffered input goes, NULL for nowhere */
    ULONG             user_bytes;       /* and how much of it there may be at most */
    bool              large;            /* which of the two kinds of slot this is */
    _Atomic bool      live;
    uint8_t           maker;            /* enum io_maker */
    const void       *allocated;        /* where, as the hook `remember` knows it; NULL: unknown */
    _Atomic(PDRIVER_DISPATCH) had_by;   /* the dispatch routine of the driver that has it, or had it last; NULL: its maker */
    bool              cancelled;        /* (R) by the exit of its thread, */
    bool              cancelling;       /* (R) which is at it right now: whoever ends the request leaves the slot alone, */
    bool              over;             /* (R) says so here, and the thread frees it */
    bool              abandoned;        /* (R) nobody waits any more: neither status block nor event may be touched */
    struct ke_thread *thread;           /* (R) whose request it is; NULL: nobody's, or not any more */
    LIST_ENTRY        link;             /* (R) in the machine's list of threads' requests */
    union {
        struct {                        /* requests that io_send_and_wait sends: */
            KEVENT            event;            /* it is over, */
            IO_STATUS_BLOCK   outcome;          /* and this came of it */
        };
        struct {                        /* requests of a thread, with the verifier on: (R) */
            struct host_frame status_frame;     /* what UserIosb and UserEvent stand in, on its stack */
            struct host_frame event_frame;
        };
    };
};

/* CurrentLocation, a signed byte, goes up to two more than the number of locations. */
enum { IO_SMALL_STACK = 8, IO_LARGE_STACK = 125 };

static inline PIRP io_slot_irp(struct io_slot *slot)
{
    return (PIRP)(slot + 1);
}

/* The slot that an IRP stands in; NULL for an IRP in a driver's own memory. Reads nothing of the IRP. */
struct io_slot *io_slot_of(const struct machine *machine, const IRP *irp);

/* Into the warning under way: where it was allocated, and who has had it last. */
void io_irp_tell(const struct machine *machine, const struct io_slot *slot);
const char *io_maker_name(const struct io_slot *slot);

/* Nobody but the I/O manager may free it. */
static inline bool io_is_managers(const struct io_slot *slot)
{
    return slot->maker == IO_BY_MANAGER;
}

/* A new IRP of the I/O manager, to be finished so; never made to fail on demand. NULL: no room. */
PIRP io_irp_new(struct machine *machine, CCHAR stack_size, io_finish_fn *finish);
PIRP io_irp_new_by(struct machine *machine, enum io_maker maker, CCHAR stack_size, io_finish_fn *finish);
void io_irp_free(struct machine *machine, PIRP irp);

int  io_irps_boot(struct machine *machine);
void io_irps_check(struct machine *machine);

/* Warn of each request of the file that has not ended; how many. */
unsigned io_irps_report_lost(struct machine *machine, const struct io_file *file);

void io_irps_shutdown(struct machine *machine);
void io_irps_thread_exit(struct machine *machine);

/* ---- complete.c: final completion ---- */

void io_complete_finally(struct machine *machine, PIRP irp);

/* ---- buffers.c: what a requester's buffers become in an IRP, whose RequestorMode is set ---- */

enum { IO_BUFFER_TAG = 0x42536F49 };     /* 'IoSB': system buffers */

struct io_buffer {
    void *va;
    ULONG bytes;
};

struct io_transfer {
    bool             write;
    struct io_buffer buffer;
    LONGLONG         offset;
};

struct io_control {
    ULONG            code;
    bool             internal;
    struct io_buffer in, out;
};

/* Major function and parameters into the next location; nothing becomes of the buffer. */
void     io_describe_transfer(PIRP irp, const struct io_transfer *transfer);

/* The same, and the buffers by the device's flags or the code. What a failure leaves goes with io_irp_release_buffers. */
NTSTATUS io_attach_transfer(struct machine *machine, PIRP irp, ULONG device_flags, const struct io_transfer *transfer);
NTSTATUS io_attach_control(struct machine *machine, PIRP irp, const struct io_control *control);

/* A locked MDL for the buffer. */
NTSTATUS io_attach_mdl(struct machine *machine, PIRP irp, struct io_buffer buffer, LOCK_OPERATION operation);

/* Unlock the MDLs of a chain that hold a lock; and free them all. */
void io_unlock_mdls(struct machine *machine, PMDL chain);
void io_release_mdls(struct machine *machine, PMDL chain);

/* Give back what the request holds: the MDLs of the chain, the locks of those that hold one, the system buffer. */
void io_irp_release_buffers(struct machine *machine, PIRP irp);

/* ---- threads.c: requests that belong to the thread which built them ---- */

void io_request_queue(struct machine *machine, PIRP irp);           /* to the calling thread */

/* How a request that is over is to be treated. */
struct io_ending {
    bool tell;                          /* somebody waits for status block and event */
    bool free;                          /* the slot; false: the thread that cancels it does so */
};
struct io_ending io_request_unqueue(struct machine *machine, PIRP irp);

void io_requests_thread_exit(struct machine *machine);
void io_requests_frames_left(struct machine *machine, uintptr_t sp);

/* ---- call.c ---- */

/* The dispatch routine of whatever a driver does not handle: STATUS_INVALID_DEVICE_REQUEST. */
PDRIVER_DISPATCH io_dispatch_of(const DEVICE_OBJECT *device, UCHAR major);
DRIVER_DISPATCH io_refuse_request;

/* Complete an IRP in the dispatch routine that has it. */
NTSTATUS io_complete_now(PIRP irp, NTSTATUS status, ULONG_PTR information);

/* For reports: the driver's routine, also where IoSetCompletionRoutineEx has put one of ours in its place. */
PIO_COMPLETION_ROUTINE io_completion_of(PIO_COMPLETION_ROUTINE routine, const void *context);

/* Registrations of IoSetCompletionRoutineEx whose routine has not run. */
void io_completions_check(struct machine *machine);

/* ---- device.c ---- */

/* As IoCreateDevice without a name, never made to fail on demand. */
NTSTATUS io_device_new(struct machine *machine, PDRIVER_OBJECT driver, ULONG extension_bytes, DEVICE_TYPE type,
                       PDEVICE_OBJECT *device);

/* Keep a device's memory from going away with IoDeleteDevice: for open files, queued work items and the like. */
void io_device_hold(struct machine *machine, PDEVICE_OBJECT device);
void io_device_release(struct machine *machine, PDEVICE_OBJECT device);

PDEVICE_OBJECT io_device_top(PDEVICE_OBJECT device);

/* Delete what a driver that goes away has left, with a finding for each device. */
void io_devices_sweep(PDRIVER_OBJECT driver, const char *who);

void io_devices_check(struct machine *machine);
void io_devices_shutdown(struct machine *machine);

/* ---- driver.c ---- */

/* A driver object of the I/O manager's own. NULL: no memory. */
PDRIVER_OBJECT io_driver_new(struct machine *machine, const char *name);
void           io_drivers_shutdown(struct machine *machine);

/* ---- wait.c ---- */

/* Send an IRP of io_irp_new(..., io_finish_wait) to a device, wait for its end, free it. */
NTSTATUS io_send_and_wait(struct machine *machine, PDEVICE_OBJECT device, PIRP irp, ULONG_PTR *information);
io_finish_fn io_finish_wait;

/* ---- file.c: open files ---- */

struct io_file {
    FILE_OBJECT       object;           /* first: a PFILE_OBJECT is a struct io_file * */
    PDEVICE_OBJECT    device;           /* the one that was opened */
    _Atomic uint32_t  uses;             /* one for the handle, one for each request in flight */
    struct host_gate  unused;           /* opened when the last use goes */
    struct io_file   *next, **link;     /* in the machine's list, under its lock */
};

static inline void io_file_use(struct io_file *file)
{
    atomic_fetch_add_explicit(&file->uses, 1, memory_order_relaxed);
}

static inline void io_file_unuse(struct io_file *file)
{
    if (atomic_fetch_sub(&file->uses, 1) == 1)
        host_gate_open(&file->unused);
}

void io_files_check(struct machine *machine);
void io_files_shutdown(struct machine *machine);

/* ---- cache.c: cached files; cache_impl.h has the rest ---- */

void io_caches_check(struct machine *machine);
void io_caches_shutdown(struct machine *machine);

/* ---- disk.c ---- */

int  io_disks_boot(struct machine *machine);
void io_disks_stop(struct machine *machine);        /* wait for what is in flight; no disk does I/O afterwards */
void io_disks_shutdown(struct machine *machine);

/* ---- physical.c: physical devices of no special kind ---- */

int  io_physical_boot(struct machine *machine);
void io_physical_remove(struct machine *machine);   /* all of them: they are the machine's, and no leak */

/* ---- status.c ---- */

/* What a negative result of the host means to a driver. */
NTSTATUS io_status_of_error(int64_t error);

/* ---- state ---- */

struct io_arena;
struct io_cache;
struct io_device;
struct io_driver;

/*
 * Key: (C) constant after boot  (L) under the lock  (R) under the requests lock  (A) atomic
 */
struct io_state {
    struct host_mutex  lock;            /* of the lists below, of device stacks, and of what holds devices and cache maps */
    struct host_mutex  requests_lock;
    LIST_ENTRY         requests;        /* (R) io_slot.link of threads' requests */
    KSPIN_LOCK         cancel_lock;     /* IoAcquireCancelSpinLock */
    struct io_device  *devices;         /* (L) */
    struct io_driver  *drivers;         /* (L) */
    struct io_file    *files;           /* (L) */
    struct io_cache   *caches;          /* (L) */
    struct io_irps    *irps;            /* (C) */
    PDRIVER_OBJECT     disk_driver;     /* (C) */
    struct disk_turns *disk_turns;      /* (C) disk.c's: transfers that end later; NULL: disks end them when they can */
    PDRIVER_OBJECT     physical_driver; /* (C) */
    _Atomic int64_t    completions;     /* (A) registrations of IoSetCompletionRoutineEx that are alive */
};

#endif
