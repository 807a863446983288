/* SPDX-License-Identifier: MIT */
/*
 * handover WAY: threads that hand things to each other by Pinion's own means, as drivers do. A race detector that watches the
 * program must see that nothing races; with no-lock something does.
 */

#include <wdm.h>

#include <pinion/pinion.h>

#include <pthread.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 300, MANY = 50, LENGTH = 2 * PAGE_SIZE };

static pthread_barrier_t all_here, all_done;    /* no thread is to be through before another begins */
static KSPIN_LOCK spin_lock;
static FAST_MUTEX fast_mutex;
static ULONG guarded;                   /* by whichever lock */

static void under_spin_lock(UCHAR *buffer)
{
    KIRQL irql;

    (void)buffer;
    KeAcquireSpinLock(&spin_lock, &irql);
    guarded++;
    KeReleaseSpinLock(&spin_lock, irql);
}

static void under_fast_mutex(UCHAR *buffer)
{
    (void)buffer;
    ExAcquireFastMutex(&fast_mutex);
    guarded++;
    ExReleaseFastMutex(&fast_mutex);
}

static void under_no_lock(UCHAR *buffer)
{
    (void)buffer;
    guarded++;
}

/* Each thread makes call stacks that the others make as well. */
static void make_stacks(UCHAR *buffer)
{
    PMDL mdl = IoAllocateMdl(buffer + 10, PAGE_SIZE, FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    *(UCHAR *)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute) = 1;
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
}

/* What one thread freed, another gets and writes. */
static void trade_mdls(UCHAR *buffer)
{
    PMDL mdls[MANY];

    for (int i = 0; i < MANY; i++) {
        mdls[i] = IoAllocateMdl(buffer, LENGTH, FALSE, FALSE, NULL);
        MmGetMdlPfnArray(mdls[i])[1] = (PFN_NUMBER)i;
    }
    for (int i = 0; i < MANY; i++)
        IoFreeMdl(mdls[i]);
}

static void trade_irps(UCHAR *buffer)
{
    PIRP irps[MANY];

    (void)buffer;
    for (int i = 0; i < MANY; i++) {
        irps[i] = IoAllocateIrp(2, FALSE);
        irps[i]->IoStatus.Information = (ULONG_PTR)i;
        IoGetNextIrpStackLocation(irps[i])->MajorFunction = IRP_MJ_READ;
    }
    for (int i = 0; i < MANY; i++)
        IoFreeIrp(irps[i]);
}

static const struct way {
    const char *name;
    void      (*go)(UCHAR *buffer);
} ways[] = {
    {"spin-lock", under_spin_lock}, {"fast-mutex", under_fast_mutex}, {"no-lock", under_no_lock},
    {"stacks", make_stacks}, {"mdls", trade_mdls}, {"requests", trade_irps},
};

static void *work(void *context)
{
    const struct way *way = context;
    UCHAR *buffer = pinion_user_alloc(LENGTH, PAGE_READWRITE);

    pthread_barrier_wait(&all_here);
    for (int i = 0; i < ROUNDS; i++)
        way->go(buffer);
    pthread_barrier_wait(&all_done);
    pinion_user_free(buffer);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    const struct way *way = ways;

    for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(ways[i].name, argv[1]) == 0)
            way = &ways[i];
    pinion_boot(NULL);
    KeInitializeSpinLock(&spin_lock);
    ExInitializeFastMutex(&fast_mutex);
    pthread_barrier_init(&all_here, NULL, THREADS);
    pthread_barrier_init(&all_done, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)way);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return (int)pinion_shutdown();
}
