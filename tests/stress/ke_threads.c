/* SPDX-License-Identifier: MIT */
/* The executive under load: DPCs that several threads queue and remove, work items by the thousand, tokens
   passed round. */

#include "stress.h"

enum { THREADS = 4 };

/* ---- DPCs ---- */

enum { DPCS = 24, DPC_ROUNDS = 3000 };

struct dpc_world {
    KDPC dpcs[DPCS];
    _Atomic int64_t queued, removed, ran;
};

struct dpc_worker {
    struct dpc_world *world;
    struct rng rng;
};

static VOID count_run(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    struct dpc_world *const world = context;

    UNREFERENCED_PARAMETER(dpc);
    EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
    EXPECT_PTR_EQ(first, (char *)second - 1);
    atomic_fetch_add(&world->ran, 1);
}

static void insert_or_remove(struct dpc_worker *worker)
{
    struct dpc_world *const world = worker->world;
    PKDPC const dpc = &world->dpcs[random_below(&worker->rng, DPCS)];
    char *const argument = (char *)(uintptr_t)random_below(&worker->rng, 1000);

    if (random_below(&worker->rng, 3) == 0)
        atomic_fetch_add(&world->removed, KeRemoveQueueDpc(dpc));
    else
        atomic_fetch_add(&world->queued, KeInsertQueueDpc(dpc, argument, argument + 1));
}

static void queue_and_remove(void *context)
{
    struct dpc_worker *const worker = context;

    for (unsigned i = 0; i < DPC_ROUNDS; i++) {
        const KIRQL irql = raise_irql(random_below(&worker->rng, 2) == 0 ? PASSIVE_LEVEL : DISPATCH_LEVEL);

        for (unsigned n = random_below(&worker->rng, 6); n > 0; n--)
            insert_or_remove(worker);
        sched_yield();
        KeLowerIrql(irql);
    }
    KeFlushQueuedDpcs();
}

/* Whoever queues and removes the same DPCs at once: each that was queued either ran or was removed, once. */
TEST(ke_stress, dpcs__queued_and_removed_by_all__run_or_are_removed_once)
{
    const uint64_t seed = stress_seed("dpcs");
    static struct dpc_world world;
    struct dpc_worker workers[THREADS];

    for (int i = 0; i < DPCS; i++)
        KeInitializeDpc(&world.dpcs[i], count_run, &world);
    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct dpc_worker){&world, rng_of_thread(seed, i)};
    run_on_threads(queue_and_remove, workers, sizeof(workers[0]), THREADS);
    EXPECT_EQ(atomic_load(&world.queued), atomic_load(&world.ran) + atomic_load(&world.removed));
    EXPECT(atomic_load(&world.ran) > 0);
    for (int i = 0; i < DPCS; i++)
        EXPECT_EQ(KeRemoveQueueDpc(&world.dpcs[i]), FALSE);
}

/* ---- work items ---- */

enum { ITEMS = 1500 };

struct work_world {
    _Atomic int64_t ran;
    _Atomic uint64_t sum;
    KSEMAPHORE finished;
};

struct work {
    WORK_QUEUE_ITEM item;
    struct work_world *world;
    uint64_t value;
    unsigned again;
};

static VOID run_work(PVOID parameter)
{
    struct work *const work = parameter;

    EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
    atomic_fetch_add(&work->world->sum, work->value);
    if (work->again-- != 0) {
        ExQueueWorkItem(&work->item, DelayedWorkQueue);
        return;
    }
    atomic_fetch_add(&work->world->ran, 1);
    KeReleaseSemaphore(&work->world->finished, IO_NO_INCREMENT, 1, FALSE);
    free(work);
}

struct work_queuer {
    struct work_world *world;
    struct rng rng;
    uint64_t sum;
};

static void queue_work(void *context)
{
    struct work_queuer *const queuer = context;

    for (unsigned i = 0; i < ITEMS; i++) {
        struct work *const work = malloc(sizeof(*work));
        const KIRQL irql = raise_irql(random_below(&queuer->rng, 2) == 0 ? PASSIVE_LEVEL : DISPATCH_LEVEL);

        *work = (struct work){.world = queuer->world, .value = i, .again = random_below(&queuer->rng, 3)};
        queuer->sum += i * (uint64_t)(work->again + 1);
        ExInitializeWorkItem(&work->item, run_work, work);
        ExQueueWorkItem(&work->item, DelayedWorkQueue);
        KeLowerIrql(irql);
    }
}

/* Thousands of work items that free or requeue themselves run as often as they were queued. */
TEST(ke_stress, work_items__queued_by_all__run_as_often_as_queued)
{
    const uint64_t seed = stress_seed("work items");
    struct work_world world = {.ran = 0};
    struct work_queuer queuers[THREADS];
    uint64_t sum = 0;

    KeInitializeSemaphore(&world.finished, 0, MAXLONG);
    for (unsigned i = 0; i < THREADS; i++)
        queuers[i] = (struct work_queuer){&world, rng_of_thread(seed, i), 0};
    run_on_threads(queue_work, queuers, sizeof(queuers[0]), THREADS);
    for (unsigned i = 0; i < THREADS * ITEMS; i++)
        KeWaitForSingleObject(&world.finished, Executive, KernelMode, FALSE, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        sum += queuers[i].sum;
    EXPECT_EQ(atomic_load(&world.ran), THREADS * ITEMS);
    EXPECT_EQ(atomic_load(&world.sum), sum);
}

/* ---- tokens ---- */

enum { PLACES = 6, TOKENS = 3, PASSES = 1200 };

/* Semaphores are places, tokens units in them; a thread takes one from any place and puts it into another. */
struct ring {
    KSEMAPHORE places[PLACES];
    PVOID objects[PLACES];
};

struct passer {
    struct ring *ring;
    struct rng rng;
};

static void pass_tokens(void *context)
{
    struct passer *const passer = context;
    KWAIT_BLOCK blocks[PLACES];

    for (unsigned i = 0; i < PASSES; i++) {
        LARGE_INTEGER timeout = {.QuadPart = -(LONGLONG)random_below(&passer->rng, 200)};
        const NTSTATUS status = KeWaitForMultipleObjects(PLACES, passer->ring->objects, WaitAny, Executive,
                                                         KernelMode, FALSE, &timeout, blocks);

        if (status == STATUS_TIMEOUT)
            continue;
        EXPECT(status >= STATUS_WAIT_0 && status < STATUS_WAIT_0 + PLACES);
        KeReleaseSemaphore(&passer->ring->places[random_below(&passer->rng, PLACES)], IO_NO_INCREMENT, 1,
                           FALSE);
    }
}

static int64_t count_tokens(struct ring *ring)
{
    int64_t tokens = 0;

    for (int i = 0; i < PLACES; i++)
        tokens += KeReadStateSemaphore(&ring->places[i]);
    return tokens;
}

/* Tokens that threads pass round through waits for any of several semaphores are never lost or doubled. */
TEST(ke_stress, wait_any__tokens_passed_round__stay_as_many)
{
    const uint64_t seed = stress_seed("tokens");
    struct ring ring;
    struct passer passers[THREADS];

    for (int i = 0; i < PLACES; i++) {
        KeInitializeSemaphore(&ring.places[i], i < TOKENS, TOKENS);
        ring.objects[i] = &ring.places[i];
    }
    for (unsigned i = 0; i < THREADS; i++)
        passers[i] = (struct passer){&ring, rng_of_thread(seed, i)};
    run_on_threads(pass_tokens, passers, sizeof(passers[0]), THREADS);
    EXPECT_EQ(count_tokens(&ring), TOKENS);
}

/* ---- the table of philosophers ---- */

enum { FORKS = 5, MEALS = 300 };

struct table {
    KEVENT forks[FORKS];
    unsigned meals[FORKS]; /* not atomic: both forks are held */
    unsigned uses[FORKS];  /* of each fork; not atomic either */
};

struct philosopher {
    struct table *table;
    unsigned place;
};

static void dine(void *context)
{
    const struct philosopher *const self = context;
    struct table *const table = self->table;
    const unsigned left = self->place, right = (self->place + 1) % FORKS;
    PVOID forks[] = {&table->forks[left], &table->forks[right]};

    for (unsigned i = 0; i < MEALS; i++) {
        EXPECT_STATUS(KeWaitForMultipleObjects(2, forks, WaitAll, Executive, KernelMode, FALSE, NULL, NULL),
                      STATUS_SUCCESS);
        table->meals[self->place]++;
        table->uses[left]++;
        table->uses[right]++;
        KeSetEvent(&table->forks[left], IO_NO_INCREMENT, FALSE);
        KeSetEvent(&table->forks[right], IO_NO_INCREMENT, FALSE);
    }
}

/* Waits for two of five events in a circle neither deadlock nor let two threads hold the same one. */
TEST(ke_stress, wait_all__forks_in_a_circle__exclude_and_do_not_deadlock)
{
    struct table table = {.meals = {0}};
    struct philosopher philosophers[FORKS];

    for (unsigned i = 0; i < FORKS; i++) {
        KeInitializeEvent(&table.forks[i], SynchronizationEvent, TRUE);
        philosophers[i] = (struct philosopher){&table, i};
    }
    run_on_threads(dine, philosophers, sizeof(philosophers[0]), FORKS);
    for (unsigned i = 0; i < FORKS; i++) {
        EXPECT_EQ(table.meals[i], MEALS);
        EXPECT_EQ(table.uses[i], 2 * MEALS);
    }
}
