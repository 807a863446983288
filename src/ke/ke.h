/* SPDX-License-Identifier: MIT */
/*
 * The executive: the machine, its threads' IRQL and exceptions, dispatcher objects, DPCs, work items, bug checks, and
 * the table of hooks that the verifier fills.
 *
 *   machine     the simulated computer of this process; every floor hangs its state here
 *   thread      what Pinion knows of one Linux thread; each counts as a processor of its own
 *   finding     a warning or a leak; pinion_shutdown returns how many there were
 *
 * Nothing here knows a page, an MDL or an IRP's meaning: the floors above tell ke about themselves in a table.
 */
#ifndef PINION_KE_H
#define PINION_KE_H

#include <ntifs.h>

#include "host/host.h"
#include "ke/hooks.h"
#include "pinion/debug.h"
#include "pinion/pinion.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Always checked: past this point Pinion's own state would be wrong. Prints what was expected, then aborts. */
#define VERIFY(condition) \
    do { \
        if (UNLIKELY(!(condition))) \
            ke_broken(#condition, __FILE__, __LINE__); \
    } while (0)
_Noreturn void ke_broken(const char *condition, const char *file, int line);

/* ---- options.c ---- */

enum ke_windows {
    KE_WINDOWS_2000, KE_WINDOWS_XP, KE_WINDOWS_2003, KE_WINDOWS_VISTA, KE_WINDOWS_7, KE_WINDOWS_8, KE_WINDOWS_8_1, KE_WINDOWS_10,
};

/* Driver Verifier's flags that Pinion knows so far: name, value, and what the debugger calls it. */
#define KE_VERIFIER_FLAGS(X) \
    X(SPECIAL_POOL, 0x00000001, "Special pool") \
    X(FORCE_IRQL, 0x00000002, "Force IRQL checking") \
    X(LOW_RESOURCES, 0x00000004, "Randomized low resources simulation") \
    X(POOL_TRACKING, 0x00000008, "Pool tracking") \
    X(DMA, 0x00000080, "DMA checking") \
    X(INVARIANT_STACK, 0x00002000, "Invariant MDL checking for stack") \
    X(INVARIANT_DRIVER, 0x00004000, "Invariant MDL checking for driver") \
    X(SYSTEMATIC, 0x00040000, "Systematic low resources simulation") \
    X(CODE_INTEGRITY, 0x02000000, "Code integrity checks")

#define KE_VERIFIER_ENUM(name, value, text) KE_VERIFIER_##name = value,
enum ke_verifier_flags {
    KE_VERIFIER_FLAGS(KE_VERIFIER_ENUM)
    KE_VERIFIER_ON = 0x000009BB & ~0x6, /* every check without forced IRQL checking and low resources */
};
#undef KE_VERIFIER_ENUM

struct ke_options {
    uint32_t        verifier;           /* flags; 0 is off */
    uint64_t        ram_bytes;
    bool            scattered;
    enum ke_windows windows;
    bool            faults_to_host;
    bool            uring;
    bool            disk_in_turns;      /* disks end transfers in an order that is the same each time */
    bool            dma_remapped;       /* an IOMMU stands between devices and memory */
    uint64_t        seed;
    uint32_t        fault_rate;         /* of KE_VERIFIER_LOW_RESOURCES: so many of 10000 calls fail, */
    uint64_t        fault_delay;        /* but none of the first so many */
    uint32_t        lock_limit_ms;      /* the verifier warns of pages that were locked for longer; 0: of none */
};

void ke_options_default(struct ke_options *options);

/* Apply "key=value:key=value". False: nothing more was read, and `why` says what to do, in one line. */
bool ke_options_parse(struct ke_options *options, const char *text, char *why, size_t why_bytes);

/* ---- machine.c ---- */

enum ke_machine_state { KE_MACHINE_OFF, KE_MACHINE_BOOTING, KE_MACHINE_RUNNING, KE_MACHINE_FORKED };

struct machine {
    _Atomic uint32_t   state;           /* enum ke_machine_state */
    uint32_t           generation;      /* counts boots: what a thread cached from an earlier machine is worthless */
    struct ke_options  options;
    struct ke_hooks    hooks;
    bool             (*idle)(struct machine *machine);  /* called where a thread would wait: does some work, if there is any; NULL: none */
    struct ke_state   *ke;
    struct mm_state   *mm;
    struct mdl_state  *mdl;
    struct dma_state  *dma;
    struct io_state   *io;
    struct vf_state   *verifier;
    _Atomic uint64_t   findings;
};

extern struct machine ke_the_machine;

/* Boots, waits for another thread's boot, or ends a forked child. */
void ke_boot_now(void);

/* Another thread may be booting it: only while this is true may its other members be read. */
static inline bool ke_is_running(void)
{
    return LIKELY(atomic_load_explicit(&ke_the_machine.state, memory_order_acquire) == KE_MACHINE_RUNNING);
}

/* The running machine, booted if need be. */
static inline struct machine *ke_machine(void)
{
    if (!ke_is_running())
        ke_boot_now();
    return &ke_the_machine;
}

/*
 * The generation of the machine while it runs, no verifier looks on and no failure is to be made; else 0. What a thread
 * keeps with that generation may be used without asking for any of these: one comparison says it all.
 */
extern _Atomic uint32_t ke_plain_generation;

static inline bool ke_is_plain(uint32_t generation)
{
    return LIKELY(atomic_load_explicit(&ke_plain_generation, memory_order_acquire) == generation);
}

/*
 * A floor of the house, lowest first in ke_floors[], which src/house.c defines. Any routine may be NULL.
 * A floor that fails to boot has undone its own work; the floors below it are shut down.
 */
struct ke_floor {
    const char *name;
    int       (*boot)(struct machine *machine);             /* 0 or -errno */
    void      (*check)(struct machine *machine);            /* report what is still held, before any shutdown */
    void      (*shutdown)(struct machine *machine);
    void      (*thread_exit)(struct machine *machine);      /* on a thread that is ending */
    void      (*frames_left)(struct machine *machine, uintptr_t sp);        /* ke_frames_left */
};
extern const struct ke_floor *const ke_floors[];            /* ends with NULL */

/* A mistake in the use of Pinion itself, not of Windows: one line on stderr, exit code 2. */
_Noreturn void ke_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- thread.c ---- */

enum ke_counter {
    KE_ALLOCATED_PAGES, KE_CONTIGUOUS_BLOCKS, KE_SYSTEM_PAGES_MAPPED, KE_OUTSTANDING_LISTS,
    KE_MDLS_ALLOCATED, KE_MDLS_MADE, KE_MDLS_FREED,     /* by IoAllocateMdl, by other routines, by any: ke_live_mdls */
    KE_PARTIALS_BUILT, KE_MDLS_ADVANCED, KE_PAGES_LOCKED, KE_PAGES_UNLOCKED,
    KE_MAPPINGS_MADE, KE_MAPPINGS_RELEASED, KE_IO_MAPPINGS,            /* of MDLs: ke_system_mappings; of device memory now */
    KE_IRPS_ALLOCATED, KE_IRPS_COMPLETED, KE_LIVE_IRPS, KE_INJECTED_FAILURES,
    KE_LISTS_BUILT, KE_MAP_REGISTERS_USED, KE_BYTES_BOUNCED,
    KE_COUNTERS,

    /* What ke_sums works out besides. */
    KE_LOCKED_PAGES = KE_COUNTERS, KE_SYSTEM_MAPPINGS,
    KE_SUMS
};

struct ke_exception;

/*
 * Only the thread itself writes these; others read the counters. A counter may be negative in one thread: what counts
 * is the sum over all of them, which ke_sum gives.
 */
struct ke_thread {
    KIRQL                irql;
    bool                 known;         /* in the list of threads */
    bool                 in_dpc;
    PEPROCESS            process;       /* attached to; NULL: the one that the machine booted with */
    uint32_t             process_generation;
    PDRIVER_OBJECT       driver;        /* whose routine runs; NULL: the host program's own code */
    struct ke_exception *exceptions;    /* innermost frame of pinion_try or a driver's __try */
    LIST_ENTRY           dpcs;          /* queued by this thread at DISPATCH_LEVEL, to run when it goes below; under the DPC lock */
    _Atomic uint32_t     ndpcs;         /* in that list: another thread may take one out */
    _Atomic uint32_t     nlent;         /* requests under way that write to its stack when they end, on whatever thread */
    _Atomic int64_t      counters[KE_COUNTERS];
    struct ke_thread    *next;
    struct ke_thread   **link;
};

extern _Thread_local struct ke_thread ke_this_thread;
void ke_thread_join_list(void);
static inline struct ke_thread *ke_self(void);

/* From here on this driver's code runs; what ran before, to be given to the next call. What a driver allocates is put to its account. */
static inline PDRIVER_OBJECT ke_enter_driver(PDRIVER_OBJECT driver)
{
    struct ke_thread *self = ke_self();
    const PDRIVER_OBJECT before = self->driver;

    self->driver = driver;
    return before;
}

static inline struct ke_thread *ke_self(void)
{
    if (UNLIKELY(!ke_this_thread.known))
        ke_thread_join_list();
    return &ke_this_thread;
}

/* The calling thread's stack is in use from sp on only: what was lent to a request of what lies below is gone. */
void ke_tell_frames_left(uintptr_t sp);
static inline void ke_frames_left(uintptr_t sp)
{
    if (UNLIKELY(atomic_load_explicit(&ke_self()->nlent, memory_order_relaxed) != 0))
        ke_tell_frames_left(sp);
}

/* In a routine that drivers call: their stack as it is at the call. */
#define KE_CALLERS_SP ((uintptr_t)__builtin_frame_address(0) + 2 * sizeof(uintptr_t))

/* A driver's routine has returned; `before` is what ke_enter_driver gave. */
static inline void ke_leave_driver(PDRIVER_OBJECT before)
{
    ke_self()->driver = before;
    ke_frames_left((uintptr_t)__builtin_frame_address(0));
}

static inline void ke_count(enum ke_counter counter, int64_t delta)
{
    _Atomic int64_t *own = &ke_self()->counters[counter];

    atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + delta, memory_order_relaxed);
}

/* As ke_count, on a thread that is in the list. */
static inline void ke_count_here(enum ke_counter counter, int64_t delta)
{
    _Atomic int64_t *own = &ke_this_thread.counters[counter];

    atomic_store_explicit(own, atomic_load_explicit(own, memory_order_relaxed) + delta, memory_order_relaxed);
}

int64_t ke_sum(enum ke_counter counter);
bool    ke_sums(int64_t sums[KE_SUMS]);         /* all of them, for a printer; false: the list of threads is busy */
int64_t ke_live_mdls(void);
int64_t ke_locked_pages(void);
int64_t ke_system_mappings(void);
void    ke_counters_reset(void);

/* ---- exception.c ---- */

/* Leave for the innermost frame; bug check 0x1E where there is none. `ip` is where the exception arose. */
_Noreturn void ke_raise(NTSTATUS status, uintptr_t ip);

/* The same for an access that is not permitted: 0 a load, 1 a store, 8 code. The verifier hears of it first. */
_Noreturn void ke_raise_access(NTSTATUS status, uintptr_t ip, ULONG_PTR access, uintptr_t va);
void ke_access_refused(uintptr_t va);           /* where it is to stop instead */

/* ---- bugcheck.c ---- */

/* Stop the machine: the STOP line, whatever report the verifier has, SIGABRT. */
_Noreturn void ke_bug_check(ULONG code, uint64_t p1, uint64_t p2, uint64_t p3, uint64_t p4);

/* The name of a bug check; "UNKNOWN" for a code that <bugcodes.h> does not have. */
const char *ke_bug_check_name(ULONG code);

/* ---- finding.c: findings as data ---- */

enum { KE_FINDING_STACKS = 24, KE_FINDING_FRAMES = 12 };

/* A finding on its way from the report that prints it to the watcher. It lives in the frame of whoever begins it. */
struct ke_finding {
    struct pinion_finding finding;
    char                  id[64], text[512];
    struct pinion_stack   stacks[KE_FINDING_STACKS];
    const void           *frames[KE_FINDING_STACKS][KE_FINDING_FRAMES];
};

/* What this thread tells from here to the end is one finding; within another's begin and end it is a part of that. */
void ke_finding_begin(struct ke_finding *finding);
void ke_finding_begin_stop(struct ke_finding *finding, const char *bug_check, const uint64_t parameters[4]);
void ke_finding_end(struct ke_finding *finding);

/* Said of the finding that this thread is telling, if it is telling one. Texts and stacks are copied, but for titles. */
void ke_finding_name(const char *id);
void ke_finding_say(const char *what, const char *advice);
void ke_finding_stack(const char *title, const uintptr_t *pcs, size_t n);

/* One line "pinion: warning: <slug>: ..." on stderr, counted as a finding. */
void ke_warn(const char *slug, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- print.c: where reports and printers write ---- */

void ke_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "function (file:line)" of the call that returns to pc; in a printer under a debugger the address of that call, as "<0x...>". */
void ke_print_name(uintptr_t pc, char *text, size_t bytes);

/*
 * How long to wait for a lock: a printer only for a moment, because it may be this thread's, or that of one which stands still; a report for
 * half of the time that it may take.
 */
int64_t ke_patience_ns(void);

/* Between these, which nest, the thread is in a printer: its lines go where pinion_print_to said. */
void ke_printer_enter(void);
void ke_printer_leave(void);
void ke_printers_off(void);             /* a stop is told on stderr, wherever it arises */

/* A pool tag as text. */
enum { KE_TAG_TEXT = 5 };
void ke_tag_text(ULONG tag, char text[KE_TAG_TEXT]);

/* ---- faults.c: failures on demand ---- */

/* Every routine that pinion_fail can make fail, in alphabetical order; and `internal`: an allocation that the library makes for itself. */
#define KE_FALLIBLE_ROUTINES(X) \
    X(AllocateAdapterChannel) X(AllocateAdapterChannelEx) X(AllocateCommonBuffer) X(AllocateCommonBufferEx) \
    X(AllocateCommonBufferVector) X(AllocateCommonBufferWithBounds) X(AllocateDomainCommonBuffer) X(BuildMdlFromScatterGatherList) \
    X(BuildScatterGatherList) X(BuildScatterGatherListEx) X(CcCopyRead) X(CcCopyWrite) X(CcInitializeCacheMap) X(CcMdlRead) \
    X(CcPrepareMdlWrite) X(CreateCommonBufferFromMdl) X(ExAllocatePool) X(ExAllocatePool2) X(ExAllocatePool3) X(ExAllocatePoolWithTag) \
    X(FsRtlMdlReadDev) X(FsRtlPrepareMdlWriteDev) X(GetScatterGatherList) X(GetScatterGatherListEx) X(IoAllocateIrp) X(IoAllocateMdl) \
    X(IoAllocateWorkItem) X(IoBuildAsynchronousFsdRequest) X(IoBuildDeviceIoControlRequest) X(IoBuildSynchronousFsdRequest) \
    X(IoCreateDevice) X(IoGetDmaAdapter) X(IoMakeAssociatedIrp) X(IoSetCompletionRoutineEx) X(MapTransferEx) \
    X(MmAllocateContiguousMemory) X(MmAllocateContiguousMemoryEx) X(MmAllocateContiguousMemorySpecifyCache) \
    X(MmAllocateContiguousMemorySpecifyCacheNode) X(MmAllocateContiguousNodeMemory) X(MmAllocateMappingAddress) \
    X(MmAllocateMappingAddressEx) X(MmAllocateMdlForIoSpace) X(MmAllocateNodePagesForMdlEx) X(MmAllocateNonCachedMemory) \
    X(MmAllocatePagesForMdl) X(MmAllocatePagesForMdlEx) X(MmGetSystemAddressForMdlSafe) X(MmMapIoSpace) X(MmMapIoSpaceEx) \
    X(MmMapLockedPagesSpecifyCache) X(MmMapMdl) X(MmProbeAndLockPages) X(MmProbeAndLockProcessPages) X(MmProbeAndLockSelectedPages) \
    X(internal)

#define KE_FALLIBLE_ENUM(name) KE_FALLIBLE_##name,
enum ke_fallible { KE_FALLIBLE_ROUTINES(KE_FALLIBLE_ENUM) KE_FALLIBLE_COUNT };
#undef KE_FALLIBLE_ENUM

extern _Atomic uint32_t ke_failures_armed;
bool ke_fails_armed(enum ke_fallible routine);
void ke_failures_count_armed(void);     /* after a change of what ke_calls_armed says */
void ke_failures_boot(const struct ke_options *options);

/* Must this call fail? Asked once by each call of the routine, before it changes anything. */
static inline bool ke_fails(enum ke_fallible routine)
{
    return UNLIKELY(atomic_load_explicit(&ke_failures_armed, memory_order_relaxed) != 0) && ke_fails_armed(routine);
}

/* Must this allocation of frames, tables or host mappings fail? Asked where the host could refuse, so that each refusal can be tested. */
static inline bool ke_internal_fails(void)
{
    return ke_fails(KE_FALLIBLE_internal);
}

/* ---- fault_calls.c: failures by call stack ---- */

void ke_calls_boot(const struct ke_options *options);
bool ke_calls_armed(void);

/* Must this call fail, made with this stack? `name` is the routine's. */
bool ke_call_fails(const char *name, uintptr_t ip, uintptr_t frame);

/* ---- irql.c, dpc.c, dispatcher.c, workitem.c ---- */

bool ke_idle(void);                     /* this thread has nothing to do for now: true, some work was done that may change that */
bool ke_gate_wait(struct host_gate *gate, int64_t timeout_ns);          /* as host_gate_wait, but it does such work meanwhile */
void ke_run_dpcs(void);                 /* those queued by this thread; it stands below DISPATCH_LEVEL */

/* A work item's routine has returned: bug check 0xE1 where it did so at a raised IRQL. */
void ke_require_passive_return(const void *routine, const void *context, const void *item);

/* ---- driver calls ---- */

/* The call site of the DDI that this expression stands in: its caller, and the frame where a walk of the stack starts. */
#define KE_SITE \
    ((struct ke_site){(uintptr_t)__builtin_return_address(0), *(const uintptr_t *)__builtin_frame_address(0)})

/*
 * Call a hook of the verifier, if there is one: KE_HOOK(machine, mdl_free_check, mdl). Checks come before anything has
 * changed, records after everything has.
 */
#define KE_HOOK(machine, name, ...) \
    do { \
        if ((machine)->hooks.name != NULL) \
            (machine)->hooks.name(KE_SITE __VA_OPT__(,) __VA_ARGS__); \
    } while (0)

#endif
