/* SPDX-License-Identifier: MIT */
/*
 * MDLs on many threads: buffers of their own, the same buffer for all under a trimmer that never rests,
 * memory freed under locks, MDLs that change hands. Each runs with the verifier and without it; counters
 * are read all the while.
 */

#include "stress.h"

enum { THREADS = 4, PAGES = 12, BYTES = PAGES * PAGE_SIZE };

/* Each test once with the verifier and once without. */
#define TEST_BOTH(name)                                                                                      \
    static void name(uint64_t seed);                                                                         \
    TEST(mdl_stress, name##__verifier_on)                                                                    \
    {                                                                                                        \
        boot("ram=64M:verifier=on");                                                                         \
        name(stress_seed(#name));                                                                            \
    }                                                                                                        \
    TEST(mdl_stress, name##__verifier_off)                                                                   \
    {                                                                                                        \
        boot("ram=64M:verifier=off");                                                                        \
        name(stress_seed(#name));                                                                            \
    }                                                                                                        \
    static void name(uint64_t seed)

/* ---- pieces of buffers ---- */

struct piece {
    ULONG off, bytes;
};

static struct piece random_piece(struct rng *rng, ULONG most)
{
    struct piece piece = {.off = random_below(rng, most)};

    piece.bytes = 1 + random_below(rng, random_below(rng, 4) == 0 ? most - piece.off : PAGE_SIZE);
    if (piece.bytes > most - piece.off)
        piece.bytes = most - piece.off;
    return piece;
}

enum { BYTES_APART = 67 };

static bool holds_pattern(const UCHAR *va, ULONG seed, SIZE_T first, SIZE_T bytes)
{
    for (SIZE_T i = 0; i < bytes; i += BYTES_APART)
        if (va[i] != pattern_byte(seed, first + i))
            return false;
    return va[bytes - 1] == pattern_byte(seed, first + bytes - 1);
}

#define EXPECT_PIECE(va, seed, piece) EXPECT(holds_pattern((va), (seed), (piece).off, (piece).bytes))

static PMDL lock_piece(UCHAR *buffer, struct piece piece, LOCK_OPERATION operation)
{
    const PMDL mdl = mdl_over(buffer + piece.off, piece.bytes);

    EXPECT_STATUS(try_lock(mdl, UserMode, operation), STATUS_SUCCESS);
    return mdl;
}

/* More MDLs than any of these tests has at a time. A count that went below zero would be far above it. */
enum { MOST_MDLS = 2000 };

#define EXPECT_AT_MOST(count, most) EXPECT_EQ((count) > (most) ? (count) : 0, 0)

/* What is alive stays between nothing and what the threads can hold. */
static void watch_counters(void *context)
{
    const struct pinion_counters now = counters_now();

    UNREFERENCED_PARAMETER(context);
    EXPECT_AT_MOST(now.live_mdls, MOST_MDLS);
    EXPECT_AT_MOST(now.locked_pages, MOST_MDLS * (PAGES + 1));
    EXPECT_AT_MOST(now.system_mappings, MOST_MDLS);
    EXPECT_AT_MOST(now.system_pages_mapped, MOST_MDLS * (PAGES + 1));
}

static void trim_and_watch(void *context)
{
    *(uint64_t *)context += pinion_trim();
    watch_counters(NULL);
}

/* ---- buffers of their own ---- */

enum { PRIVATE_ROUNDS = 250 };

struct worker {
    UCHAR *buffer;
    ULONG seed;
    struct rng rng;
};

/* A part of a locked MDL, read and rewritten through its own or its source's mapping. */
static void use_part(struct worker *w, PMDL source, struct piece whole)
{
    const struct piece inner = random_piece(&w->rng, whole.bytes);
    const struct piece part = {whole.off + inner.off, inner.bytes};
    const PMDL target = mdl_over(w->buffer + part.off, part.bytes);
    UCHAR *va;

    if (random_below(&w->rng, 2) == 0)
        EXPECT(MmGetSystemAddressForMdlSafe(source, NORMAL_NX) != NULL);
    IoBuildPartialMdl(source, target, w->buffer + part.off, part.bytes);
    va = MmGetSystemAddressForMdlSafe(target, NORMAL_NX);
    EXPECT(va != NULL);
    EXPECT_PIECE(va, w->seed, part);
    va[0] = (UCHAR)~va[0];
    EXPECT_EQ(w->buffer[part.off], (UCHAR)~pattern_byte(w->seed, part.off));
    w->buffer[part.off] = (UCHAR)~w->buffer[part.off];
    EXPECT_PIECE(va, w->seed, part);
    if (random_below(&w->rng, 2) == 0)
        MmPrepareMdlForReuse(target);
    IoFreeMdl(target);
}

/* Moves the beginning of the MDL forward, once or until little is left. */
static void advance(struct worker *w, PMDL mdl, struct piece *whole)
{
    while (whole->bytes > 1 && random_below(&w->rng, 3) != 0) {
        const ULONG by = 1 + random_below(&w->rng, whole->bytes - 1);

        EXPECT_STATUS(MmAdvanceMdl(mdl, by), STATUS_SUCCESS);
        whole->off += by;
        whole->bytes -= by;
    }
    EXPECT_PTR_EQ(MmGetMdlVirtualAddress(mdl), w->buffer + whole->off);
    EXPECT_PIECE(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), w->seed, *whole);
}

static void private_round(struct worker *w)
{
    struct piece whole = random_piece(&w->rng, BYTES);
    const PMDL mdl = lock_piece(w->buffer, whole, IoModifyAccess);

    use_part(w, mdl, whole);
    advance(w, mdl, &whole);
    if (random_below(&w->rng, 2) == 0)
        MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
    EXPECT_PIECE(w->buffer + whole.off, w->seed, whole);
    unlock_and_free(mdl);
}

static void work_privately(void *context)
{
    struct worker *const w = context;

    for (unsigned i = 0; i < PRIVATE_ROUNDS; i++)
        private_round(w);
}

/* Threads that lock, split, map, advance and free in buffers of their own see their own bytes only, and all
   comes back. */
TEST_BOTH(private_buffers__all_at_once__stay_intact)
{
    struct worker workers[THREADS];
    struct background trimmer;
    uint64_t trimmed = 0;

    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct worker){user_pattern(PAGES, i + 1), i + 1, rng_of_thread(seed, i)};
    background_start(&trimmer, trim_and_watch, &trimmed);
    run_on_threads(work_privately, workers, sizeof(workers[0]), THREADS);
    background_end(&trimmer);
    EXPECT(trimmed > 0);
    for (unsigned i = 0; i < THREADS; i++) {
        EXPECT_PATTERN(workers[i].buffer, BYTES, i + 1);
        pinion_user_free(workers[i].buffer);
    }
}

/* ---- the same buffer for all ---- */

enum { SHARED_ROUNDS = 200 };

/* At DISPATCH_LEVEL a page that is away cannot come back: touching the buffer there shows that no locked
   page goes away. */
static void read_at_dispatch_level(struct worker *w, struct piece piece)
{
    const KIRQL irql = raise_irql(DISPATCH_LEVEL);

    for (int again = 0; again < 2; again++) {
        EXPECT_PIECE(w->buffer + piece.off, w->seed, piece);
        sched_yield();
    }
    KeLowerIrql(irql);
}

static void shared_round(struct worker *w)
{
    const struct piece first = random_piece(&w->rng, BYTES), second = random_piece(&w->rng, BYTES);
    const PMDL outer = lock_piece(w->buffer, first, IoReadAccess);
    const PMDL inner = lock_piece(w->buffer, second, IoWriteAccess);

    read_at_dispatch_level(w, first);
    unlock_and_free(outer);
    read_at_dispatch_level(w, second);
    if (random_below(&w->rng, 4) == 0)
        EXPECT_PIECE(MmGetSystemAddressForMdlSafe(inner, NORMAL_NX), w->seed, second);
    unlock_and_free(inner);
    if (random_below(&w->rng, 4) == 0)
        EXPECT_PIECE(w->buffer + first.off, w->seed, first);
}

static void work_on_shared(void *context)
{
    struct worker *const w = context;

    for (unsigned i = 0; i < SHARED_ROUNDS; i++)
        shared_round(w);
}

/* However many threads lock and unlock the same pages, none that is locked is ever trimmed, and no byte
   changes. */
TEST_BOTH(shared_buffer__trimmed_all_the_time__locked_pages_stay)
{
    UCHAR *const buffer = user_pattern(PAGES, 7);
    struct worker workers[THREADS];
    struct background trimmer;
    uint64_t trimmed = 0;

    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct worker){buffer, 7, rng_of_thread(seed, i)};
    background_start(&trimmer, trim_and_watch, &trimmed);
    run_on_threads(work_on_shared, workers, sizeof(workers[0]), THREADS);
    background_end(&trimmer);
    EXPECT(trimmed > 0);
    EXPECT_PATTERN(buffer, BYTES, 7);
    pinion_trim();
    EXPECT_EQ(pinion_trim(), 0);
    pinion_user_free(buffer);
}

enum { TIGHT_TRIMS = 3000, MOST_TIGHT_ROUNDS = 60000 };

struct tight {
    UCHAR *page;
    _Atomic uint64_t trimmed;
    struct rng rng; /* of the one thread that locks */
};

/* So that the two loops do not fall into step. */
static void dawdle(struct rng *rng)
{
    for (volatile unsigned spins = random_below(rng, 200); spins > 0; spins--)
        continue;
}

/* Enough trims have met enough locks; where the trimmer hardly gets a processor, at least one has. */
static bool is_worth_another(struct tight *tight, unsigned rounds)
{
    const uint64_t trimmed = atomic_load(&tight->trimmed);

    if (rounds % 256 == 255)
        sched_yield();
    return trimmed == 0 || (rounds < MOST_TIGHT_ROUNDS && trimmed < TIGHT_TRIMS);
}

/* A lock that is taken and dropped as fast as can be, and one look at the page while it is held. */
static void lock_tightly(void *context)
{
    struct tight *const tight = context;
    const PMDL mdl = mdl_over(tight->page, 1);

    for (unsigned i = 0; is_worth_another(tight, i); i++) {
        KIRQL irql;

        dawdle(&tight->rng);
        MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
        irql = raise_irql(DISPATCH_LEVEL);
        EXPECT_EQ(*(volatile UCHAR *)tight->page, pattern_byte(5, 0));
        KeLowerIrql(irql);
        MmUnlockPages(mdl);
    }
    IoFreeMdl(mdl);
}

static void trim_tightly(void *context)
{
    atomic_fetch_add(&((struct tight *)context)->trimmed, pinion_trim());
}

/* One page that is trimmed whenever nobody locks it is never away when somebody does, however close the two
   come. */
TEST(mdl_stress, one_page__locked_and_trimmed_in_tight_loops__is_never_away)
{
    struct tight tight = {.trimmed = 0};
    struct background trimmer;

    boot("ram=16M:verifier=off");
    tight.rng = rng_of_thread(stress_seed("one page"), 0);
    tight.page = user_pattern(1, 5);
    background_start(&trimmer, trim_tightly, &tight);
    lock_tightly(&tight);
    background_end(&trimmer);
    EXPECT(atomic_load(&tight.trimmed) > 0);
    pinion_user_free(tight.page);
}

/* ---- freed under locks ---- */

enum { FREE_ROUNDS = 60 };

struct tenant {
    UCHAR *buffer;
    ULONG seed;
    struct rng rng;
    pthread_barrier_t *locked;
    struct test_thread thread;
};

/* Locks before the memory is freed, looks at it afterwards. */
static void hold_through_free(void *context)
{
    struct tenant *const t = context;
    const struct piece piece = random_piece(&t->rng, BYTES);
    const PMDL mdl = lock_piece(t->buffer, piece, IoReadAccess);
    const bool early = random_below(&t->rng, 2) == 0;

    if (early)
        EXPECT_PIECE(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), t->seed, piece);
    pthread_barrier_wait(t->locked);
    if (random_below(&t->rng, 2) == 0)
        pause_ms(1);
    EXPECT_PIECE(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), t->seed, piece);
    unlock_and_free(mdl);
}

/* Tries to lock while the memory may be freed at any moment: all of it, or nothing and
   STATUS_ACCESS_VIOLATION. */
static void race_against_free(void *context)
{
    struct tenant *const t = context;

    pthread_barrier_wait(t->locked);
    for (unsigned i = 0; i < 8; i++) {
        const struct piece piece = random_piece(&t->rng, BYTES);
        const PMDL mdl = mdl_over(t->buffer + piece.off, piece.bytes);
        const NTSTATUS status = try_lock(mdl, UserMode, IoReadAccess);

        if (status == STATUS_SUCCESS) {
            EXPECT_PIECE(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), t->seed, piece);
            MmUnlockPages(mdl);
        } else {
            EXPECT_STATUS(status, STATUS_ACCESS_VIOLATION);
        }
        IoFreeMdl(mdl);
    }
}

static void free_round(struct rng *rng, ULONG round)
{
    struct tenant tenants[THREADS];
    pthread_barrier_t locked;
    UCHAR *const buffer = user_pattern(PAGES, round);

    pthread_barrier_init(&locked, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        tenants[i] = (struct tenant){
            .buffer = buffer, .seed = round, .rng = rng_of_thread(random_word(rng), i), .locked = &locked};
        thread_start(&tenants[i].thread, i % 2 == 0 ? hold_through_free : race_against_free, &tenants[i]);
    }
    pthread_barrier_wait(&locked);
    pinion_user_free(buffer);
    EXPECT(!MmIsAddressValid(buffer));
    for (unsigned i = 0; i < THREADS; i++)
        thread_join(&tenants[i].thread);
    pthread_barrier_destroy(&locked);
}

/* Memory that is freed while it is locked keeps its bytes for those who hold it, refuses everyone else, and
   comes back. */
TEST_BOTH(freed_buffer__while_locked__keeps_its_bytes_and_comes_back)
{
    struct rng rng = rng_of_thread(seed, 99);
    UCHAR *all;

    for (ULONG round = 0; round < FREE_ROUNDS; round++)
        free_round(&rng, round);
    all = pinion_user_alloc((64 * 256 - 64) * (SIZE_T)PAGE_SIZE,
                            PAGE_READWRITE); /* all but what the machine itself holds */
    EXPECT(all != NULL);
    pinion_user_free(all);
}

/* ---- addresses that change owners ---- */

enum { RECYCLED_ROUNDS = 150, LARGE_PAGES = 1200 };

struct recycler {
    _Atomic(UCHAR *) buffer; /* valid a moment ago */
    _Atomic bool done;
};

struct stale_worker {
    struct recycler *recycler;
    struct rng rng;
};

static void recycle(void *context)
{
    struct recycler *const r = context;

    for (unsigned i = 0; i < RECYCLED_ROUNDS; i++) {
        UCHAR *const buffer = user_pages(LARGE_PAGES, PAGE_READWRITE);

        atomic_store(&r->buffer, buffer);
        if (i % 8 == 0)
            sched_yield();
        pinion_user_free(buffer);
    }
    atomic_store(&r->done, true);
}

/* Locks what may be freed, zombie, free or somebody's new memory by now: whatever it is, all of it or
   nothing. */
static void lock_stale(void *context)
{
    struct stale_worker *const w = context;

    while (!atomic_load(&w->recycler->done)) {
        UCHAR *const buffer = atomic_load(&w->recycler->buffer);
        const struct piece piece = random_piece(&w->rng, BYTES);
        PMDL mdl;

        if (buffer == NULL)
            continue;
        mdl = mdl_over(buffer + piece.off, piece.bytes);
        if (try_lock(mdl, UserMode, IoWriteAccess) == STATUS_SUCCESS)
            MmUnlockPages(mdl);
        IoFreeMdl(mdl);
    }
}

static void run_stale(void *context)
{
    struct stale_worker *const w = context;

    if (w->rng.state == 0)
        recycle(w->recycler);
    else
        lock_stale(w);
}

/* Addresses that are freed and given out anew while others lock them lose no page and no lock. */
TEST_BOTH(recycled_addresses__locked_at_any_moment__lose_nothing)
{
    struct stale_worker workers[THREADS];
    struct recycler recycler = {.done = false};

    for (unsigned i = 0; i < THREADS; i++)
        workers[i] = (struct stale_worker){&recycler, i == 0 ? (struct rng){0} : rng_of_thread(seed, i)};
    run_on_threads(run_stale, workers, sizeof(workers[0]), THREADS);
    EXPECT_EQ(counters_now().locked_pages, 0);
}

/* ---- from hand to hand ---- */

enum { PARCELS = 400 };

/* A locked MDL on its way from one thread to another. */
struct parcel {
    LIST_ENTRY link;
    PMDL mdl;
    struct piece piece;
    ULONG seed;
};

struct post {
    LIST_ENTRY head;
    KSPIN_LOCK lock;
    KSEMAPHORE waiting;
};

struct clerk {
    struct post *post;
    struct worker worker;
    struct parcel *parcels; /* of a sender */
};

static void send_parcels(void *context)
{
    struct clerk *const clerk = context;
    struct worker *const w = &clerk->worker;

    for (unsigned i = 0; i < PARCELS; i++) {
        struct parcel *const parcel = &clerk->parcels[i];

        parcel->piece = random_piece(&w->rng, BYTES);
        parcel->seed = w->seed;
        parcel->mdl = lock_piece(w->buffer, parcel->piece, IoReadAccess);
        if (random_below(&w->rng, 2) == 0)
            EXPECT(MmGetSystemAddressForMdlSafe(parcel->mdl, NORMAL_NX) != NULL);
        ExInterlockedInsertTailList(&clerk->post->head, &parcel->link, &clerk->post->lock);
        KeReleaseSemaphore(&clerk->post->waiting, IO_NO_INCREMENT, 1, FALSE);
    }
}

static void receive_parcels(void *context)
{
    struct clerk *const clerk = context;

    for (unsigned i = 0; i < PARCELS; i++) {
        struct parcel *parcel;

        KeWaitForSingleObject(&clerk->post->waiting, Executive, KernelMode, FALSE, NULL);
        parcel = CONTAINING_RECORD(ExInterlockedRemoveHeadList(&clerk->post->head, &clerk->post->lock),
                                   struct parcel, link);
        EXPECT_PIECE(MmGetSystemAddressForMdlSafe(parcel->mdl, NORMAL_NX), parcel->seed, parcel->piece);
        unlock_and_free(parcel->mdl);
    }
}

static void run_clerk(void *context)
{
    struct clerk *const clerk = context;

    if (clerk->parcels != NULL)
        send_parcels(clerk);
    else
        receive_parcels(clerk);
}

/* MDLs that one thread makes and locks, and another maps, unlocks and frees, are neither lost nor mixed up. */
TEST_BOTH(mdls__made_by_one_thread_and_freed_by_another__all_come_back)
{
    static struct parcel parcels[THREADS][PARCELS];
    struct clerk clerks[2 * THREADS];
    struct background watcher;
    struct post post;

    InitializeListHead(&post.head);
    KeInitializeSpinLock(&post.lock);
    KeInitializeSemaphore(&post.waiting, 0, MAXLONG);
    for (unsigned i = 0; i < 2 * THREADS; i++) {
        const bool sends = i >= THREADS; /* what counts up starts after what counts down */
        UCHAR *const buffer = sends ? user_pattern(PAGES, i) : NULL;

        clerks[i] =
            (struct clerk){&post, {buffer, i, rng_of_thread(seed, i)}, sends ? parcels[i - THREADS] : NULL};
    }
    background_start(&watcher, watch_counters, NULL);
    run_on_threads(run_clerk, clerks, sizeof(clerks[0]), 2 * THREADS);
    background_end(&watcher);
    for (unsigned i = 0; i < THREADS; i++)
        pinion_user_free(clerks[THREADS + i].worker.buffer);
}

/* ---- large blocks, short-lived threads ---- */

enum { GENERATIONS = 20, MDLS = 40 };

static void allocate_and_leave(void *context)
{
    struct rng *const rng = context;
    PMDL mdls[MDLS];

    for (unsigned i = 0; i < MDLS; i++) {
        const ULONG npages =
            random_below(rng, 4) == 0 ? 257 + random_below(rng, 3000) : 1 + random_below(rng, 256);

        mdls[i] = mdl_over((PVOID)(uintptr_t)PAGE_SIZE, (SIZE_T)npages * PAGE_SIZE);
        memset(MmGetMdlPfnArray(mdls[i]), (int)i, npages * sizeof(PFN_NUMBER));
    }
    for (unsigned i = 0; i < MDLS; i++) {
        EXPECT_EQ(MmGetMdlPfnArray(mdls[i])[0] & 0xFF, i);
        IoFreeMdl(mdls[i]);
    }
}

/* Threads that come and go, each with MDLs of all sizes, never write into each other's. */
TEST_BOTH(short_lived_threads__mdls_of_all_sizes__stay_apart)
{
    for (unsigned generation = 0; generation < GENERATIONS; generation++) {
        struct rng rngs[THREADS];

        for (unsigned i = 0; i < THREADS; i++)
            rngs[i] = rng_of_thread(seed + generation, i);
        run_on_threads(allocate_and_leave, rngs, sizeof(rngs[0]), THREADS);
    }
}
