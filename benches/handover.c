/* SPDX-License-Identifier: MIT */
/*
 * What does an MDL cost that another thread frees? One thread allocates and hands over, the other frees, against magazines
 * of blocks that go back by one compare-and-swap, and against the C library.
 *
 *     this thread    allocate 32 -> [ batch ][ batch ] ... -> free 32    the other, all the time
 */

#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BATCH = 32, BATCHES = 8, PAGES = 16, BLOCK_BYTES = 16 + sizeof(MDL) + PAGES * sizeof(PFN_NUMBER) };

struct allocator {
    void *(*allocate)(void);
    void  (*free)(void *object);
};

/* The way between the two threads: a ring of batches. */
static struct {
    _Alignas(64) _Atomic uint64_t filled;
    _Alignas(64) _Atomic uint64_t emptied;
    _Alignas(64) struct {
        const struct allocator *allocator;
        void                   *objects[BATCH];
    } batches[BATCHES];
} ring;

/* ---- the MDLs ---- */

static void *allocate_mdl(void)
{
    return IoAllocateMdl((PVOID)0x10000, PAGES * PAGE_SIZE, FALSE, FALSE, NULL);
}

static void free_mdl(void *mdl)
{
    IoFreeMdl(mdl);
}

static const struct allocator mdls = {allocate_mdl, free_mdl};

/* ---- anchors ---- */

struct node {
    struct node *next;                  /* in its magazine, or in a thread's list */
    struct node *next_magazine;         /* of the first in a magazine */
    uint64_t     header[6];
};

static _Thread_local struct node *own, *returned;
static _Thread_local unsigned nreturned;
static _Atomic(struct node *) magazines;

static void fill_own(void)
{
    struct node *magazine = atomic_exchange(&magazines, NULL);

    while (magazine != NULL) {
        struct node *next = magazine->next_magazine, *last = magazine;

        while (last->next != NULL)
            last = last->next;
        last->next = own;
        own = magazine;
        magazine = next;
    }
    for (int i = 0; own == NULL && i < BATCH; i++) {
        struct node *node = aligned_alloc(64, (BLOCK_BYTES + 63) / 64 * 64);

        if (node == NULL)
            abort();
        node->next = i == 0 ? NULL : own;
        own = node;
    }
}

static void *allocate_node(void)
{
    struct node *node;

    if (own == NULL)
        fill_own();
    node = own;
    own = node->next;
    for (size_t i = 0; i < sizeof(node->header) / sizeof(node->header[0]); i++)
        node->header[i] = i;
    return node;
}

static void return_magazine(void)
{
    struct node *head = atomic_load(&magazines);

    do
        returned->next_magazine = head;
    while (!atomic_compare_exchange_weak(&magazines, &head, returned));
    returned = NULL;
    nreturned = 0;
}

static void free_node(void *object)
{
    struct node *node = object;

    node->next = returned;
    returned = node;
    if (++nreturned == BATCH)
        return_magazine();
}

static const struct allocator nodes = {allocate_node, free_node};

static void *allocate_memory(void)
{
    uint64_t *header = malloc(sizeof(MDL) + PAGES * sizeof(PFN_NUMBER));

    for (size_t i = 0; i < sizeof(MDL) / sizeof(*header); i++)
        header[i] = i;
    return header;
}

static const struct allocator memory = {allocate_memory, free};

/* ---- handing over ---- */

static void wait_while(const _Atomic uint64_t *counter, uint64_t value)
{
    for (unsigned spins = 0; atomic_load_explicit(counter, memory_order_acquire) == value; spins++)
        if (spins > 100000)
            sched_yield();
}

static void stay_on(size_t cpu)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void *free_all(void *unused)
{
    (void)unused;
    stay_on(1);
    for (uint64_t i = 0;; i++) {
        wait_while(&ring.filled, i);
        for (size_t k = 0; k < BATCH; k++)
            ring.batches[i % BATCHES].allocator->free(ring.batches[i % BATCHES].objects[k]);
        atomic_store_explicit(&ring.emptied, i + 1, memory_order_release);
    }
    return NULL;
}

static void hand_over(const struct allocator *allocator, uint64_t times)
{
    uint64_t next = atomic_load(&ring.filled);

    for (uint64_t batches = (times + BATCH - 1) / BATCH; batches-- > 0; next++) {
        if (next >= BATCHES)
            wait_while(&ring.emptied, next - BATCHES);
        ring.batches[next % BATCHES].allocator = allocator;
        for (size_t k = 0; k < BATCH; k++)
            ring.batches[next % BATCHES].objects[k] = allocator->allocate();
        atomic_store_explicit(&ring.filled, next + 1, memory_order_release);
    }
    while (atomic_load(&ring.emptied) != next)
        sched_yield();
}

static void hand_over_mdls(void *context, uint64_t times)
{
    (void)context;
    hand_over(&mdls, times);
}

static void hand_over_nodes(void *context, uint64_t times)
{
    (void)context;
    hand_over(&nodes, times);
}

static void hand_over_memory(void *context, uint64_t times)
{
    (void)context;
    hand_over(&memory, times);
}

/* The MDLs that one thread made are there while they are on their way, and gone when the other has freed them. */
static bool is_handed_over(void *context)
{
    struct pinion_counters counters;
    bool good;

    (void)context;
    for (size_t k = 0; k < BATCH; k++)
        ring.batches[0].objects[k] = allocate_mdl();
    pinion_counters(&counters);
    good = counters.live_mdls == BATCH;
    for (size_t k = 0; k < BATCH; k++)
        free_mdl(ring.batches[0].objects[k]);
    hand_over(&mdls, 100 * BATCH);
    pinion_counters(&counters);
    return good && counters.live_mdls == 0;
}

int main(int argc, char **argv)
{
    const struct bench_case cases[] = {
        {"1d", "MDLs of 16 pages that another thread frees", "magazines", 1.25, 0, hand_over_mdls, hand_over_nodes, is_handed_over, NULL, NULL},
        {"1d", "MDLs of 16 pages that another thread frees", "malloc + free", 0.35, 0, hand_over_mdls, hand_over_memory, is_handed_over, NULL, NULL},
    };
    pthread_t other;

    pinion_boot("verifier=off");
    stay_on(0);
    if (pthread_create(&other, NULL, free_all, NULL) != 0)
        abort();
    return bench_run(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
