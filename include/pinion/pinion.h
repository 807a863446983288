/* SPDX-License-Identifier: MIT */
/*
 * Pinion's host API: what a test, a fuzzer or a tool says to the simulated machine that its driver runs on.
 *
 * The driver's side is <wdm.h>, <ntddk.h> or <ntifs.h>. This header may follow one of them or stand alone: it then
 * declares the few types it needs, and it redefines nothing. Constants such as PAGE_READWRITE come from <wdm.h>.
 *
 * There is one machine per process. The first Windows routine called boots it with the options of the environment
 * variable PINION_OPTIONS ("key=value:key=value"); pinion_boot does so with options of the program's own:
 *
 *   verifier=on|off|0x...   the run-time verifier (on), or flags in Driver Verifier's numbering
 *   ram=SIZE                usable memory, such as 512M or 8G (4G)
 *   layout=scattered|linear how frame numbers follow each other (scattered)
 *   windows=VERSION         2000, xp, 2003, vista, 2008, 7, 8, 8.1, 10 or 11 (10)
 *   faults=catch|host       what an uncaught fault at a host address does: a bug check, or the handler before us (catch)
 *   uring=on|off            whether disks may use io_uring (on)
 *   disk=async|turns        disks end transfers when they can, or in an order that is always the same: every second one
 *                           inside IoCallDriver, the others while a thread waits, and in pinion_poll (async)
 *   dma=identity|remapped   whether devices see physical addresses, or an IOMMU stands in the way (identity)
 *   seed=N                  chooses the scattering of frame numbers, and which calls fail at random (1)
 *   fault-rate=N            with verifier flag 0x4, so many of 10000 calls fail (600)
 *   fault-delay=N           but none of the first N (0)
 *   lock-limit=MS           the verifier warns where pages were locked for longer than MS milliseconds (0: it does not)
 */
#ifndef PINION_PINION_H
#define PINION_PINION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int                     NTSTATUS;
typedef unsigned char           BOOLEAN;
typedef unsigned int            ULONG;
typedef struct _EPROCESS       *PEPROCESS;
typedef struct _DEVICE_OBJECT  *PDEVICE_OBJECT;
typedef struct _DRIVER_OBJECT  *PDRIVER_OBJECT;
typedef struct _FILE_OBJECT    *PFILE_OBJECT;
typedef struct _DMA_ADAPTER    *PDMA_ADAPTER;

#define PINION_API __attribute__((visibility("default")))

/* ---- The machine ---- */

/* Boot with these options; NULL: the environment's and the defaults. 0, -EALREADY when running, -EINVAL with a line on stderr, or another -errno. */
PINION_API int pinion_boot(const char *options);

/* Check for leaks, print the report, end the machine: the number of findings (warnings and leaks) since boot. */
PINION_API unsigned pinion_shutdown(void);

/* The exception that body raised, or STATUS_SUCCESS. Nests. The IRQL stays as the exception left it. */
PINION_API NTSTATUS pinion_try(void (*body)(void *context), void *context);

/* ---- Processes and their memory ---- */

/* A new process with an empty address range; NULL when memory for it is refused. */
PINION_API PEPROCESS pinion_process_create(const char *name);

/* The calling thread's current process from here on; NULL: the one that the machine booted with. */
PINION_API void pinion_process_attach(PEPROCESS process);

/* End it and free its memory. Pages still locked: bug check 0x76. */
PINION_API void pinion_process_exit(PEPROCESS process);

/* Zeroed, page-aligned memory of the current process, protected PAGE_*; NULL when it cannot be had. */
PINION_API void *pinion_user_alloc(size_t bytes, ULONG protection);

/* Change the protection of whole pages of one allocation. Memory mapped there by a driver keeps its own. */
PINION_API void pinion_user_protect(void *va, size_t bytes, ULONG protection);

/* Free an allocation. Pages that are still locked live on, out of reach, until they are unlocked. */
PINION_API void pinion_user_free(void *va);

/* Make pages present until the next trim: call it before handing the address to a system call of your own. */
PINION_API void pinion_user_resident(void *va, size_t bytes);

/* Take away every pageable page that is not locked; how many. The next touch brings a page back. */
PINION_API size_t pinion_trim(void);

/* ---- Faults on demand ---- */

/* The nth call of that routine from now fails as its page says; 0: none does. */
PINION_API void pinion_fail(const char *ddi, unsigned nth);

/* Each call whose number from now is a multiple of period fails; 0: none does. */
PINION_API void pinion_fail_every(const char *ddi, unsigned period);

/* ---- Call stacks and findings as data ---- */

/* Where a return address leads: as much as the debug information tells. What is not known is empty, or 0. */
struct pinion_place {
    char     function[128];
    char     file[256];
    unsigned line;
    char     module[256];               /* path of the program or shared object */
    uint64_t offset;                    /* from where the module begins: the same in every process */
};
PINION_API void pinion_place_of(const void *code, struct pinion_place *out);

/* Return addresses, innermost first. */
struct pinion_stack {
    const char        *title;           /* what happened there: "done at", "allocated at" */
    const void *const *frames;
    unsigned           nframes;
};

/* A warning, or the bug check that is about to end the process. All that it points to is good during the call only. */
struct pinion_finding {
    const char                *id;      /* "0xC4/0xB8", "0x1E" or a warning's name, as `pinion explain` takes it */
    const char                *bug_check;       /* DRIVER_VERIFIER_DETECTED_VIOLATION and so on; NULL for a warning */
    uint64_t                   parameters[4];   /* of the bug check */
    const char                *what;
    const char                *advice;  /* what to do about it; may be empty */
    const struct pinion_stack *stacks;  /* where it was done, if that is known; then the story of what it is about */
    unsigned                   nstacks;
};

/* From here on `found` is called for each finding, after it was printed, on the thread that it belongs to. NULL: no more. */
typedef void pinion_found(const struct pinion_finding *finding, void *context);
PINION_API void pinion_watch_findings(pinion_found *found, void *context);

/*
 * A call of a routine that can fail, told apart by the frames of the driver that led to it, from the one that the system
 * called to the one that called the routine. The id follows from the routine and from the places of these frames in
 * their modules, so that it is the same in every process.
 */
struct pinion_call {
    uint64_t            id;
    const char         *routine;
    struct pinion_stack stack;
};

/* From here on `met` is called the first time that a machine sees a call, before the routine does anything. NULL: no more. */
typedef void pinion_met(const struct pinion_call *call, void *context);
PINION_API void pinion_watch_calls(pinion_met *met, void *context);

/* These calls fail the first time that each is made from now; they replace those named before. At most PINION_MOST_CALLS. */
enum { PINION_MOST_CALLS = 16 };
PINION_API void pinion_fail_calls(const uint64_t *ids, unsigned nids);

/* ---- Counters ---- */

/* What is alive now. */
struct pinion_counters {
    uint64_t live_mdls;                 /* MDLs of IoAllocateMdl and kin, not yet freed */
    uint64_t locked_pages;              /* page locks held; a page locked twice counts twice */
    uint64_t system_mappings;           /* mappings of MDLs into system space */
    uint64_t system_pages_mapped;       /* their pages; with the verifier off, a mapping is taken for as long as its MDL says when it ends */
    uint64_t host_calls;                /* memory system calls so far, but for guards around MDLs in special pool */
    uint64_t outstanding_lists;         /* scatter/gather lists not yet given back */
    uint64_t live_irps;                 /* IRPs of drivers and of the I/O manager, not yet freed */
};
PINION_API void pinion_counters(struct pinion_counters *out);

/* What has happened since boot. */
struct pinion_totals {
    uint64_t mdls_allocated;            /* by IoAllocateMdl */
    uint64_t partial_mdls_built;        /* by IoBuildPartialMdl */
    uint64_t mdls_advanced;             /* by MmAdvanceMdl, with success */
    uint64_t pages_locked;
    uint64_t mappings_made;             /* into system space */
    uint64_t irps_allocated;
    uint64_t irps_completed;
    uint64_t injected_failures;         /* of pinion_fail and its kin, and of the verifier's low resources */
    uint64_t findings;                  /* warnings and leaks reported */
    uint64_t lists_built;               /* scatter/gather lists */
    uint64_t map_registers_used;        /* each time that a request got one */
    uint64_t bytes_bounced;             /* of transfers, copied because the device could not reach them as they were */
};
PINION_API void pinion_totals(struct pinion_totals *out);

/* ---- Drivers, devices and requests ---- */

/* Load a driver that is linked into this program: makes its driver object and calls its DriverEntry (a PDRIVER_INITIALIZE). */
typedef NTSTATUS pinion_driver_entry(PDRIVER_OBJECT driver, void *registry_path);
PINION_API NTSTATUS pinion_driver_load(const char *name, pinion_driver_entry *entry, PDRIVER_OBJECT *driver);

/* Call the driver's AddDevice over the physical device, then send IRP_MN_START_DEVICE down the new stack. */
PINION_API NTSTATUS pinion_driver_start(PDRIVER_OBJECT driver, PDEVICE_OBJECT physical_device);

/* Send IRP_MN_REMOVE_DEVICE down the stack over the physical device: its drivers detach and delete their devices. */
PINION_API NTSTATUS pinion_driver_remove(PDEVICE_OBJECT physical_device);

/* Call the driver's unload routine, if it has one, and free its driver object. */
PINION_API void pinion_driver_unload(PDRIVER_OBJECT driver);

/* A disk backed by a file or block device. A read past its end is STATUS_END_OF_FILE, one across it is short. */
enum pinion_disk_flags {
    PINION_DISK_WRITABLE = 1,           /* without it, a write is STATUS_MEDIA_WRITE_PROTECTED */
    PINION_DISK_PARTIAL  = 2,           /* transfers at most PINION_DISK_PARTIAL_BYTES a request, and says how many */
    PINION_DISK_32_BIT   = 4,           /* as a bus master (pinion/disk.h) it has 32 address bits; otherwise 64 */
};
enum { PINION_DISK_PARTIAL_BYTES = 24 * 1024 };

/* With disk=turns: end one transfer that was to end later. 0: there is none. Waiting routines do so by themselves. */
PINION_API int pinion_poll(void);

/* 0 or -errno of opening the file. */
PINION_API int         pinion_disk_create(const char *path, unsigned flags, PDEVICE_OBJECT *disk);
PINION_API void        pinion_disk_delete(PDEVICE_OBJECT disk);         /* after pinion_driver_remove; waits for what is in flight */
PINION_API uint64_t    pinion_disk_bytes(PDEVICE_OBJECT disk);
PINION_API const char *pinion_disk_engine(PDEVICE_OBJECT disk);         /* "io_uring", "threads" or "in turns" */

/*
 * A physical device of no special kind, for IoGetDmaAdapter and AddDevice. It goes with the machine. Its hardware is played by
 * the caller: these read and write memory as the device does, by logical addresses. An access that the device may not make
 * moves nothing, is a warning (dma-fault), and STATUS_ACCESS_VIOLATION. For a device behind the system's DMA controller
 * (DEVICE_DESCRIPTION.Master FALSE) the controller counts, and la is not used.
 */
PINION_API PDEVICE_OBJECT pinion_device_create(const char *name);
PINION_API NTSTATUS       pinion_device_read(PDMA_ADAPTER adapter, uint64_t la, void *out, size_t bytes);
PINION_API NTSTATUS       pinion_device_write(PDMA_ADAPTER adapter, uint64_t la, const void *in, size_t bytes);

/* Open the top of a device's stack, as CreateFile does. The handle may be used by any thread. */
PINION_API NTSTATUS pinion_open(PDEVICE_OBJECT device, PFILE_OBJECT *file);
PINION_API void     pinion_close(PFILE_OBJECT file);

/*
 * One read or write by the current process, as ReadFile and WriteFile make it: the device's flags decide between
 * buffered, direct and neither I/O. The request is the caller's; `status` and `information` hold when `done` runs, on
 * any thread, at any IRQL up to DISPATCH_LEVEL.
 */
enum pinion_operation { PINION_READ, PINION_WRITE };
struct pinion_request {
    enum pinion_operation operation;
    void     *buffer;
    ULONG     bytes;
    uint64_t  offset;
    void    (*done)(struct pinion_request *request);
    void     *context;                  /* the caller's */
    NTSTATUS  status;
    uint64_t  information;              /* bytes moved */
    BOOLEAN   sent;                     /* by pinion_submit: a driver has been given it, so that `done` runs */
};

/* Start it: STATUS_PENDING or what it ended with, and `done` runs in either case. A buffer that refuses the access, or
 * no memory for the request: that status, and `done` does not run. */
PINION_API NTSTATUS pinion_submit(PFILE_OBJECT file, struct pinion_request *request);

/*
 * For a program that takes requests of the file for lost: how many have not ended. Each of the first few is a warning, irp-lost, whose place is
 * the dispatch routine that had it last. Drivers must be at rest meanwhile.
 */
PINION_API unsigned pinion_report_lost(PFILE_OBJECT file);

/* Start it and wait for its end; `done` is not used. */
PINION_API NTSTATUS pinion_transfer(PFILE_OBJECT file, struct pinion_request *request);

/* The I/O manager's device control, as DeviceIoControl makes it (all four methods): status; *information the bytes returned. */
PINION_API NTSTATUS pinion_control(PFILE_OBJECT file, ULONG code, void *in, ULONG in_bytes, void *out, ULONG out_bytes,
                                   uint64_t *information);

#ifdef __cplusplus
}
#endif

#endif
