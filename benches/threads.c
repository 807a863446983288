/* SPDX-License-Identifier: MIT */
/*
 * Do two threads do twice as much? Each routine by two threads at once against the same by one: on MDLs and buffers of their
 * own, and on MDLs of their own for one buffer.
 *
 * Two threads of one core slow each other down even where they share nothing. So the private cases have a second anchor: the same
 * routine on one thread here while another process, with a machine of its own, runs it on the other processor.
 *
 * On one buffer 2 x is the limit, half the work for each: together they are to do no less than one alone.
 */

#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { PAGES = 16, BYTES = PAGES * PAGE_SIZE };

#define PRIVATE_LIMIT (2 / 1.9)
#define SHARED_LIMIT  2.0
#define OPTIONS       "verifier=off:layout=linear"

struct place {
    char        *va;                    /* in the process */
    char        *pool;
    PMDL         locked, target, lockable, mappable, built;
    PDMA_ADAPTER adapter;
};

static VOID on_list(PDEVICE_OBJECT device, PIRP irp, PSCATTER_GATHER_LIST list, PVOID context)
{
    (void)device;
    (void)irp;
    *(PSCATTER_GATHER_LIST *)context = list;
}

static void spin(void *context, uint64_t times)
{
    (void)context;
    for (volatile uint64_t left = times; left > 0; left--)
        ;
}

static void allocate_and_free(void *context, uint64_t times)
{
    const struct place *place = context;

    while (times-- > 0)
        IoFreeMdl(IoAllocateMdl(place->va, BYTES, FALSE, FALSE, NULL));
}

static void build_partial(void *context, uint64_t times)
{
    const struct place *place = context;

    while (times-- > 0)
        IoBuildPartialMdl(place->locked, place->target, place->va, BYTES);
}

static void advance(void *context, uint64_t times)
{
    const struct place *place = context;

    while (times-- > 0) {
        place->target->ByteOffset = 0;
        place->target->ByteCount = BYTES;
        MmAdvanceMdl(place->target, PAGE_SIZE);
    }
}

static void describe_pool(void *context, uint64_t times)
{
    const struct place *place = context;

    while (times-- > 0) {
        place->built->MdlFlags &= ~MDL_SOURCE_IS_NONPAGED_POOL;
        MmBuildMdlForNonPagedPool(place->built);
    }
}

static void lock_and_unlock(void *context, uint64_t times)
{
    const struct place *place = context;

    while (times-- > 0) {
        MmProbeAndLockPages(place->lockable, UserMode, IoWriteAccess);
        MmUnlockPages(place->lockable);
    }
}

/* A lock is found fastest by the thread that made it: each thread makes its own. */
static void map_and_unmap(void *context, uint64_t times)
{
    struct place *place = context;

    if (!(place->mappable->MdlFlags & MDL_PAGES_LOCKED))
        MmProbeAndLockPages(place->mappable, UserMode, IoWriteAccess);
    while (times-- > 0)
        MmUnmapLockedPages(MmGetSystemAddressForMdlSafe(place->mappable, NormalPagePriority), place->mappable);
}

static void get_and_put_list(void *context, uint64_t times)
{
    const struct place *place = context;
    PSCATTER_GATHER_LIST list = NULL;
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    while (times-- > 0) {
        place->adapter->DmaOperations->GetScatterGatherList(place->adapter, NULL, place->locked, place->va, BYTES, on_list, &list, FALSE);
        place->adapter->DmaOperations->PutScatterGatherList(place->adapter, list, FALSE);
    }
    KeLowerIrql(irql);
}

/* ---- the other process ---- */

typedef void routine(void *context, uint64_t times);

enum {
    TURN   = 64,                        /* how often the other process works before it looks whether to go on */
    NAP_US = 200,                       /* how long it sleeps when it is not to */
};

/* Shared by the two. The other process runs what is wanted, and says so. */
static struct {
    _Alignas(64) _Atomic(routine *) wanted;
    _Alignas(64) _Atomic(routine *) running;
} *other;

static void run_for_ever(struct place *place)
{
    for (;;) {
        routine *const wanted = atomic_load(&other->wanted);

        atomic_store(&other->running, wanted);
        if (wanted == NULL)
            usleep(NAP_US);
        else
            wanted(place, TURN);
    }
}

static void start_beside(routine *wanted)
{
    atomic_store(&other->wanted, wanted);
    while (atomic_load(&other->running) != wanted)
        sched_yield();
}

/* It is forked, so routines have the same addresses there. */
#define BESIDE_ANOTHER_PROCESS(name) \
    static void name##_beside(void *context, uint64_t times) \
    { \
        if (times == 0) { \
            start_beside(name); \
            return; \
        } \
        name(context, times); \
        atomic_store(&other->wanted, NULL); \
    }

BESIDE_ANOTHER_PROCESS(spin)
BESIDE_ANOTHER_PROCESS(allocate_and_free)
BESIDE_ANOTHER_PROCESS(build_partial)
BESIDE_ANOTHER_PROCESS(advance)
BESIDE_ANOTHER_PROCESS(describe_pool)
BESIDE_ANOTHER_PROCESS(lock_and_unlock)
BESIDE_ANOTHER_PROCESS(map_and_unmap)
BESIDE_ANOTHER_PROCESS(get_and_put_list)

/* One after the other, every routine does its work on the place. */
static bool works(void *context)
{
    const struct place *place = context;
    struct pinion_counters before, after;

    pinion_counters(&before);
    allocate_and_free(context, 1);
    build_partial(context, 1);
    if (MmGetMdlPfnArray(place->target)[PAGES - 1] != MmGetMdlPfnArray(place->locked)[PAGES - 1])
        return false;
    advance(context, 1);
    describe_pool(context, 1);
    lock_and_unlock(context, 1);
    get_and_put_list(context, 1);
    map_and_unmap(context, 1);
    MmUnlockPages(place->mappable);
    pinion_counters(&after);
    return MmGetMdlByteCount(place->target) == BYTES - PAGE_SIZE && before.live_mdls == after.live_mdls
        && before.locked_pages == after.locked_pages && after.system_mappings == 0 && after.outstanding_lists == 0;
}

/* On the buffers of `of`, or on new ones. */
static void prepare(struct place *place, const struct place *of)
{
    DEVICE_DESCRIPTION description = {.Version = DEVICE_DESCRIPTION_VERSION2, .Master = TRUE, .ScatterGather = TRUE,
                                      .Dma64BitAddresses = TRUE, .InterfaceType = PCIBus, .MaximumLength = BYTES};
    ULONG registers;

    place->va = of != NULL ? of->va : pinion_user_alloc(BYTES, PAGE_READWRITE);
    place->pool = of != NULL ? of->pool : ExAllocatePool2(POOL_FLAG_NON_PAGED, BYTES, 'hcnB');
    place->locked = IoAllocateMdl(place->va, BYTES, FALSE, FALSE, NULL);
    place->target = IoAllocateMdl(place->va, BYTES, FALSE, FALSE, NULL);
    place->lockable = IoAllocateMdl(place->va, BYTES, FALSE, FALSE, NULL);
    place->mappable = IoAllocateMdl(place->va, BYTES, FALSE, FALSE, NULL);
    place->built = IoAllocateMdl(place->pool, BYTES, FALSE, FALSE, NULL);
    place->adapter = IoGetDmaAdapter(pinion_device_create("disk"), &description, &registers);
    if (place->adapter == NULL || place->built == NULL)
        abort();
    MmProbeAndLockPages(place->locked, UserMode, IoWriteAccess);
}

static void start_other(void)
{
    static struct place place;
    const pid_t parent = getpid();
    cpu_set_t cpus;

    other = mmap(NULL, sizeof(*other), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (other == MAP_FAILED)
        abort();
    if (fork() != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    CPU_ZERO(&cpus);
    CPU_SET(1, &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);
    pinion_boot(OPTIONS);
    prepare(&place, NULL);
    run_for_ever(&place);
}

int main(int argc, char **argv)
{
    static struct place first, second, same;
    const struct bench_case cases[] = {
        {"15", "(control: two threads that share nothing)", "one thread", PRIVATE_LIMIT, 0, spin, spin, works, &first, &second},
        {"15", "(control: two threads that share nothing)", "two processes", PRIVATE_LIMIT, 0, spin, spin_beside, works, &first, &second},
        {"15", "two threads: allocate + free", "one thread", PRIVATE_LIMIT, 0, allocate_and_free, allocate_and_free, works, &first, &second},
        {"15", "two threads: allocate + free", "two processes", PRIVATE_LIMIT, 0, allocate_and_free, allocate_and_free_beside, works, &first, &second},
        {"15", "two threads: partial", "one thread", PRIVATE_LIMIT, 0, build_partial, build_partial, works, &first, &second},
        {"15", "two threads: partial", "two processes", PRIVATE_LIMIT, 0, build_partial, build_partial_beside, works, &first, &second},
        {"15", "two threads: advance", "one thread", PRIVATE_LIMIT, 0, advance, advance, works, &first, &second},
        {"15", "two threads: advance", "two processes", PRIVATE_LIMIT, 0, advance, advance_beside, works, &first, &second},
        {"15", "two threads: describe pool", "one thread", PRIVATE_LIMIT, 0, describe_pool, describe_pool, works, &first, &second},
        {"15", "two threads: describe pool", "two processes", PRIVATE_LIMIT, 0, describe_pool, describe_pool_beside, works, &first, &second},
        {"15", "two threads: lock + unlock", "one thread", PRIVATE_LIMIT, 0, lock_and_unlock, lock_and_unlock, works, &first, &second},
        {"15", "two threads: lock + unlock", "two processes", PRIVATE_LIMIT, 0, lock_and_unlock, lock_and_unlock_beside, works, &first, &second},
        {"15", "two threads: system address", "one thread", PRIVATE_LIMIT, 0, map_and_unmap, map_and_unmap, works, &first, &second},
        {"15", "two threads: system address", "two processes", PRIVATE_LIMIT, 0, map_and_unmap, map_and_unmap_beside, works, &first, &second},
        {"15", "two threads: list + put", "one thread", PRIVATE_LIMIT, 0, get_and_put_list, get_and_put_list, works, &first, &second},
        {"15", "two threads: list + put", "two processes", PRIVATE_LIMIT, 0, get_and_put_list, get_and_put_list_beside, works, &first, &second},
        {"15", "one buffer: partial", "one thread", SHARED_LIMIT, 0, build_partial, build_partial, works, &first, &same},
        {"15", "one buffer: describe pool", "one thread", SHARED_LIMIT, 0, describe_pool, describe_pool, works, &first, &same},
        {"15", "one buffer: lock + unlock", "one thread", SHARED_LIMIT, 0, lock_and_unlock, lock_and_unlock, works, &first, &same},
        {"15", "one buffer: system address", "one thread", SHARED_LIMIT, 0, map_and_unmap, map_and_unmap, works, &first, &same},
        {"15", "one buffer: list + put", "one thread", SHARED_LIMIT, 0, get_and_put_list, get_and_put_list, works, &first, &same},
    };
    int code;

    start_other();
    pinion_boot(OPTIONS);
    prepare(&first, NULL);
    prepare(&second, NULL);
    prepare(&same, &first);
    code = bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
    ExFreePool(first.pool);                     /* LeakSanitizer does not see what only a machine's memory points to */
    ExFreePool(second.pool);
    return code;
}
