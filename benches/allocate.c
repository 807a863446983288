/* SPDX-License-Identifier: MIT */
/* What does an MDL cost? IoAllocateMdl and IoFreeMdl, against a thread-local list, the C library, mimalloc, and DPDK's pool of buffers. */

#include "bench.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#if BENCH_DPDK
#include <pthread.h>
#include <sched.h>
#include <rte_eal.h>
#include <rte_mempool.h>
#endif

struct size {
    ULONG npages;
};

static void allocate_and_free(void *context, uint64_t times)
{
    const ULONG bytes = ((const struct size *)context)->npages * PAGE_SIZE;

    while (times-- > 0) {
        PMDL mdl = IoAllocateMdl((PVOID)0x10000, bytes, FALSE, FALSE, NULL);

        bench_use(mdl);
        IoFreeMdl(mdl);
    }
}

static bool is_allocated(void *context)
{
    const ULONG npages = ((const struct size *)context)->npages;
    struct pinion_counters counters;
    PMDL mdl = IoAllocateMdl((PVOID)0x10000, npages * PAGE_SIZE, FALSE, FALSE, NULL);
    bool good = mdl != NULL && MmGetMdlByteCount(mdl) == npages * PAGE_SIZE && MmGetMdlVirtualAddress(mdl) == (PVOID)0x10000;

    memset(MmGetMdlPfnArray(mdl), 0xFF, npages * sizeof(PFN_NUMBER));
    pinion_counters(&counters);
    good = good && counters.live_mdls == 1;
    IoFreeMdl(mdl);
    pinion_counters(&counters);
    return good && counters.live_mdls == 0;
}

/* ---- anchors ---- */

struct node {
    struct node *next;
    uint64_t     header[6];
};

static _Thread_local struct node *nodes __attribute__((tls_model("initial-exec")));

static __attribute__((noinline)) struct node *list_pop(uintptr_t va, uint32_t bytes)
{
    struct node *node = nodes;

    nodes = node->next;
    node->header[0] = 0;
    node->header[1] = 48;
    node->header[2] = 0;
    node->header[3] = 0;
    node->header[4] = va;
    node->header[5] = bytes;
    return node;
}

static __attribute__((noinline)) void list_push(struct node *node)
{
    node->next = nodes;
    nodes = node;
}

static void pop_and_push(void *context, uint64_t times)
{
    const struct size *size = context;

    if (nodes == NULL)
        nodes = calloc(1, sizeof(*nodes));
    while (times-- > 0) {
        struct node *node = list_pop(0x10000, size->npages);

        bench_use(node);
        list_push(node);
    }
}

static void malloc_and_free(void *context, uint64_t times)
{
    const size_t bytes = sizeof(MDL) + ((const struct size *)context)->npages * sizeof(PFN_NUMBER);

    while (times-- > 0) {
        void *memory = malloc(bytes);

        bench_use(memory);
        free(memory);
    }
}

static struct {
    void *(*allocate)(size_t bytes);
    void  (*free)(void *memory);
} mimalloc;

/* Loaded at run time: linked, it would take the C library's place. */
static bool open_mimalloc(void)
{
    void *library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL)
        return false;
    *(void **)&mimalloc.allocate = dlsym(library, "mi_malloc");
    *(void **)&mimalloc.free = dlsym(library, "mi_free");
    return mimalloc.allocate != NULL && mimalloc.free != NULL;
}

static void mi_allocate_and_free(void *context, uint64_t times)
{
    const size_t bytes = sizeof(MDL) + ((const struct size *)context)->npages * sizeof(PFN_NUMBER);

    while (times-- > 0) {
        void *memory = mimalloc.allocate(bytes);

        bench_use(memory);
        mimalloc.free(memory);
    }
}

#if BENCH_DPDK
static struct rte_mempool *pool;

/* DPDK binds the thread to one processor; what it may run on is put back. Of DPDK's drivers, only the one of pools is loaded. */
static bool open_pool(void)
{
    char *arguments[] = {"bench", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "--log-level=1", "-m", "64",
                         "-l", "0", "-d", "librte_mempool_ring.so", NULL};
    cpu_set_t cpus;

    pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    if (rte_eal_init(sizeof(arguments) / sizeof(arguments[0]) - 1, arguments) >= 0)
        pool = rte_mempool_create("mdl", 4095, 64 + 128, 256, 0, NULL, NULL, NULL, NULL, 0, 0);
    pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    return pool != NULL;
}

static void get_and_put(void *context, uint64_t times)
{
    (void)context;
    while (times-- > 0) {
        void *object;

        if (rte_mempool_get(pool, &object) != 0)
            abort();
        bench_use(object);
        rte_mempool_put(pool, object);
    }
}
#endif

/* Open the anchor where it is a library that may not be installed. */
static bool has_anchor(const struct bench_case *c)
{
    if (c->anchor == mi_allocate_and_free)
        return mimalloc.allocate != NULL || open_mimalloc();
#if BENCH_DPDK
    if (c->anchor == get_and_put)
        return open_pool();
#endif
    return true;
}

int main(int argc, char **argv)
{
    static struct size one = {1}, sixteen = {16}, large = {256}, huge = {16384};
    const struct bench_case all[] = {
        {"1", "allocate + free an MDL, 1 page", "TLS list + header", 2, 0, allocate_and_free, pop_and_push, is_allocated, &one, NULL},
        {"1", "allocate + free an MDL, 16 pages", "TLS list + header", 2, 0, allocate_and_free, pop_and_push, is_allocated, &sixteen, NULL},
        {"1b", "allocate + free an MDL, 256 pages", "malloc + free", 0.25, 0, allocate_and_free, malloc_and_free, is_allocated, &large, NULL},
        {"1b", "allocate + free an MDL, 16384 pages", "malloc + free", 0.5, 0, allocate_and_free, malloc_and_free, is_allocated, &huge, NULL},
        {"1b", "allocate + free an MDL, 256 pages", "mi_malloc + mi_free", 1, 0, allocate_and_free, mi_allocate_and_free, is_allocated, &large, NULL},
        {"1b", "allocate + free an MDL, 16384 pages", "mi_malloc + mi_free", 1, 0, allocate_and_free, mi_allocate_and_free, is_allocated, &huge, NULL},
        {"1c", "(control: two threads that share nothing)", "one thread", 1.15, 0, pop_and_push, pop_and_push, is_allocated, &sixteen, &sixteen},
        {"1c", "the same, 16 pages, two threads at once", "one thread", 1.15, 0, allocate_and_free, allocate_and_free, is_allocated, &sixteen, &sixteen},
#if BENCH_DPDK
        {"1", "allocate + free an MDL, 16 pages", "rte_mempool get + put", 1.1, 0, allocate_and_free, get_and_put, is_allocated, &sixteen, NULL},
#endif
    };
    struct bench_case cases[sizeof(all) / sizeof(all[0])];
    size_t ncases = 0;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (has_anchor(&all[i]))
            cases[ncases++] = all[i];
    pinion_boot("verifier=off");
    return bench_run(argc, argv, cases, ncases);
}
