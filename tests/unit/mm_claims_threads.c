/* SPDX-License-Identifier: MIT */
/*
 * Pins on ranges and pins on pages are one sum: whichever way a lock was counted, and whoever undoes which part of it, each
 * page has as many pins as there are locks on it. Runs under ThreadSanitizer too.
 */

#include "harness.h"

#include "mdl/mdl.h"
#include "mm/claim.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static uint32_t pins_at(const char *va)
{
    return mm_pins_of_pfn(ke_machine(), mm_translate(ke_machine(), (uintptr_t)va));
}

static void expect_pins(const char *va, size_t npages, uint32_t pins)
{
    for (size_t i = 0; i < npages; i++)
        EXPECT_EQ(pins_at(va + i * PAGE_SIZE), pins);
}

static char *pages(size_t n)
{
    char *va = pinion_user_alloc(n * PAGE_SIZE, PAGE_READWRITE);

    EXPECT(va != NULL);
    return va;
}

static PMDL locked(char *va, size_t npages)
{
    PMDL mdl = IoAllocateMdl(va, (ULONG)(npages * PAGE_SIZE), FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    return mdl;
}

/* Shortened MDLs are unlocked here, which the verifier would call a mistake. */
static void boot_without_verifier(void)
{
    EXPECT_EQ(pinion_boot("verifier=off"), 0);
}

/* As on a Linux that forces no barrier on other threads; on others, it is their way that is taken. */
static void boot_without_forced_barrier(void)
{
    boot_without_verifier();
    ke_machine()->mm->claims_common = true;
}

static void unlock_and_free(PMDL mdl)
{
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
}

/* An unlock of the pages that a shortened MDL still describes leaves the lock on the others. */
TEST(mm_claims, unlock__byte_count_shortened__others_stay_pinned)
{
    boot_without_verifier();
    char *va = pages(8);
    PMDL mdl = locked(va, 8);

    mdl->ByteCount = 3 * PAGE_SIZE;
    MmUnlockPages(mdl);
    expect_pins(va, 3, 0);
    expect_pins(va + 3 * PAGE_SIZE, 5, 1);
    EXPECT_EQ(pinion_trim(), 3);
    mm_unlock_pages(ke_machine(), mdl_pfns(mdl) + 3, 5);
    expect_pins(va + 3 * PAGE_SIZE, 5, 0);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

/* Overlapping locks, undone in any order, add up at each page. */
TEST(mm_claims, lock__overlapping_ranges__pins_add_up)
{
    boot_without_verifier();
    char *va = pages(16);
    PMDL whole = locked(va, 16), left = locked(va, 8), middle = locked(va + 4 * PAGE_SIZE, 8);

    expect_pins(va, 4, 2);
    expect_pins(va + 4 * PAGE_SIZE, 4, 3);
    expect_pins(va + 8 * PAGE_SIZE, 4, 2);
    expect_pins(va + 12 * PAGE_SIZE, 4, 1);
    left->ByteCount -= PAGE_SIZE;
    MmUnlockPages(left);
    expect_pins(va + 4 * PAGE_SIZE, 3, 2);
    EXPECT_EQ(pins_at(va + 7 * PAGE_SIZE), 3);
    unlock_and_free(whole);
    unlock_and_free(middle);
    expect_pins(va, 7, 0);
    EXPECT_EQ(pins_at(va + 7 * PAGE_SIZE), 1);
    mm_unlock_pages(ke_machine(), mdl_pfns(left) + 7, 1);
    expect_pins(va, 16, 0);
    IoFreeMdl(left);
    pinion_user_free(va);
}

/* An advance takes the lock off the pages that it passes, and off no other. */
TEST(mm_claims, advance__locked__passed_pages_are_unpinned)
{
    char *va = pages(8);
    PMDL mdl = locked(va, 8);

    EXPECT_EQ(MmAdvanceMdl(mdl, 3 * PAGE_SIZE + 5), STATUS_SUCCESS);
    expect_pins(va, 3, 0);
    expect_pins(va + 3 * PAGE_SIZE, 5, 1);
    unlock_and_free(mdl);
    expect_pins(va, 8, 0);
    pinion_user_free(va);
}

/* Thousands of pages get the numbers that the page table has; one that was edited is unlocked as it says. */
TEST(mm_claims, lock__thousands_of_pages__numbers_are_the_page_tables)
{
    enum { MANY = 5000 };
    boot_without_verifier();
    char *va = pages(MANY);
    PMDL mdl = locked(va, MANY);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
    PFN_NUMBER last;

    for (size_t i = 0; i < MANY; i++)
        EXPECT_EQ(pfns[i], mm_translate(ke_machine(), (uintptr_t)va + i * PAGE_SIZE));
    last = pfns[MANY - 1];
    pfns[MANY - 1] = pfns[0];
    pfns[0] = last;
    MmUnlockPages(mdl);
    EXPECT_EQ(pins_at(va), 0);
    EXPECT_EQ(pins_at(va + (MANY - 1) * PAGE_SIZE), 0);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    EXPECT_EQ(pfns[MANY - 1], last);
    unlock_and_free(mdl);
    EXPECT_EQ(pinion_trim(), MANY);
    pinion_user_free(va);
}

/* However many locks a thread has at a time, all of them count. */
TEST(mm_claims, lock__hundreds_at_a_time__all_count)
{
    enum { MOST = 300 };
    char *va = pages(4);
    PMDL mdls[MOST];

    for (unsigned i = 0; i < MOST; i++) {
        mdls[i] = locked(va + (i % 2) * PAGE_SIZE, 3);
        EXPECT_EQ(pins_at(va + PAGE_SIZE), i + 1);
    }
    EXPECT_EQ(pins_at(va), MOST / 2);
    for (unsigned i = 0; i < MOST; i++)
        unlock_and_free(mdls[(i * 7) % MOST]);
    expect_pins(va, 4, 0);
    pinion_user_free(va);
}

/* A page has as many pins as Windows counts, then the lock is refused; a claim among them counts too. */
TEST(mm_claims, lock__as_often_as_can_be__then_refused)
{
    struct machine *machine = ke_machine();
    char *va = pages(1);
    const struct mm_lock_request request = {.va = (uintptr_t)va, .bytes = PAGE_SIZE, .user_mode = true};
    PFN_NUMBER pfn;
    PEPROCESS process;
    unsigned n = 0;

    while (n < 70000 && NT_SUCCESS(mm_lock_pages(machine, &request, &pfn, &process)))
        n++;
    EXPECT_EQ(n, 65535);
    EXPECT_EQ(pins_at(va), n);
    EXPECT_EQ(mm_lock_pages(machine, &request, &pfn, &process), STATUS_WORKING_SET_QUOTA);
    while (n-- > 0)
        mm_unlock_pages(machine, &pfn, 1);
    EXPECT_EQ(pins_at(va), 0);
    pinion_user_free(va);
}

/* A page that is freed while a claim holds it comes back when the claim goes. */
TEST(mm_claims, free__claimed__frames_come_back_with_the_unlock)
{
    const size_t before = mm_frames_free(ke_machine());
    char *va = pages(600);
    PMDL mdl = locked(va + PAGE_SIZE, 8);

    pinion_user_free(va);
    EXPECT_EQ(mm_frames_free(ke_machine()), before - 600);
    unlock_and_free(mdl);
    EXPECT_EQ(mm_frames_free(ke_machine()), before);
}

#if !defined(__SANITIZE_THREAD__)
/* One unlock more than there are locks stops the machine. */
STOP_TEST(mm_claims, unlock__more_often_than_locked__stops, 0x4E, 7)
{
    PMDL mdl = locked(pages(4), 4);

    mm_unlock_pages(ke_machine(), mdl_pfns(mdl), 4);
    mm_unlock_pages(ke_machine(), mdl_pfns(mdl) + 2, 1);
}
#endif

/* ---- threads ---- */

static void *unlock_there(void *mdl)
{
    MmUnlockPages(mdl);
    return NULL;
}

static void *lock_there(void *mdl)
{
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    return NULL;
}

static void run_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;

    EXPECT_EQ(pthread_create(&thread, NULL, body, argument), 0);
    pthread_join(thread, NULL);
}

/* A lock outlives the thread that took it, and another thread may undo it. */
TEST(mm_claims, unlock__on_another_thread__pins_go)
{
    char *va = pages(8);
    PMDL mdl = locked(va, 8);

    run_thread(unlock_there, mdl);
    expect_pins(va, 8, 0);
    run_thread(lock_there, mdl);
    expect_pins(va, 8, 1);
    EXPECT_EQ(pinion_trim(), 0);
    MmUnlockPages(mdl);
    expect_pins(va, 8, 0);
    IoFreeMdl(mdl);
    pinion_user_free(va);
}

enum { WORKERS = 3, ROUNDS = 2000, SHARED_PAGES = 24, FEW_TRIMS = 200, MANY_TRIMS = 200000, TOUCHES = 3000 };

struct worker {
    pthread_t     thread;
    char         *va;
    unsigned      number;
    unsigned      seed;
    unsigned      wrong;
    _Atomic(PMDL) handed_over;          /* for another thread to undo */
};

static struct worker workers[WORKERS];
static atomic_bool trimmed_enough;

static unsigned random_below(struct worker *worker, unsigned most)
{
    return (unsigned)rand_r(&worker->seed) % most;
}

/* At DISPATCH_LEVEL a page that has been taken away stops the machine. */
static void touch_without_paging(const struct worker *worker, char *va, unsigned npages)
{
    KIRQL irql;

    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    for (unsigned i = 0; i < npages; i++)
        va[i * PAGE_SIZE + worker->number] = 1;
    KeLowerIrql(irql);
}

/* Half of the locks are undone in two parts, so that claims are broken while others use them. */
static void lock_some(struct worker *worker)
{
    const unsigned first = random_below(worker, SHARED_PAGES);
    const unsigned n = 1 + random_below(worker, SHARED_PAGES - first);
    PMDL mdl = locked(worker->va + first * PAGE_SIZE, n);
    const PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);

    touch_without_paging(worker, worker->va + first * PAGE_SIZE, n);
    for (unsigned i = 0; i < n; i++)
        worker->wrong += mm_pins_of_pfn(ke_machine(), pfns[i]) == 0;
    if (n > 1 && random_below(worker, 2) == 0) {
        mm_unlock_pages(ke_machine(), pfns + n - 1, 1);
        mdl->ByteCount -= PAGE_SIZE;
    }
    unlock_and_free(mdl);
}

static void *work(void *argument)
{
    struct worker *worker = argument;

    for (int round = 0; round < ROUNDS; round++)
        lock_some(worker);
    return NULL;
}

static void run_workers(void *(*body)(void *), char *va, int trims)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].va = va;
        workers[i].number = i;
        workers[i].seed = i + 1;
        EXPECT_EQ(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (int i = 0; i < trims; i++)
        pinion_trim();
    atomic_store(&trimmed_enough, true);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        EXPECT_EQ(workers[i].wrong, 0);
    }
}

static void expect_never_unpinned_and_none_left(void *(*body)(void *), int trims)
{
    char *va = pages(SHARED_PAGES);

    run_workers(body, va, trims);
    pinion_user_resident(va, SHARED_PAGES * PAGE_SIZE);
    expect_pins(va, SHARED_PAGES, 0);
    pinion_user_free(va);
}

/* Threads that lock, unlock and trim the same pages never see one of their own without a pin, or gone, and leave none behind. */
TEST(mm_claims, lock__by_threads_with_trims__never_unpinned_and_none_left)
{
    boot_without_verifier();
    expect_never_unpinned_and_none_left(work, FEW_TRIMS);
}

/* The same where no barrier can be forced on other threads. */
TEST(mm_claims, lock__by_threads_with_trims_and_no_barrier__never_unpinned_and_none_left)
{
    boot_without_forced_barrier();
    expect_never_unpinned_and_none_left(work, FEW_TRIMS);
}

/*
 * One page of its own, locked for about as long as it takes to take a page away, then not for a moment: a trim that finds it without a
 * pin meets the next lock half-way.
 */
static void *lock_own(void *argument)
{
    struct worker *worker = argument;
    char *va = worker->va + worker->number * 2 * PAGE_SIZE;
    PMDL mdl = IoAllocateMdl(va, PAGE_SIZE, FALSE, FALSE, NULL);

    while (!atomic_load(&trimmed_enough)) {
        MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
        for (unsigned i = 0; i < TOUCHES; i++)
            touch_without_paging(worker, va, 1);
        MmUnlockPages(mdl);
        for (unsigned i = random_below(worker, 100); i > 0; i--)
            atomic_signal_fence(memory_order_seq_cst);
    }
    IoFreeMdl(mdl);
    return NULL;
}

/* A lock without a barrier keeps its page from a trim that begins at the same moment. */
TEST(mm_claims, lock__of_own_page_with_trims__never_taken_away)
{
    boot_without_verifier();
    expect_never_unpinned_and_none_left(lock_own, MANY_TRIMS);
}

#if !defined(__SANITIZE_THREAD__)
/* A row is private until another thread has to change it, and its owner goes on with it then. */
TEST(mm_claims, row__claim_undone_elsewhere__becomes_common)
{
    boot_without_verifier();
    char *va = pages(8);
    PMDL mdl = locked(va, 8);
    const struct mm_claim_row *row = atomic_load(&ke_machine()->mm->claim_rows);

    EXPECT_EQ(ke_machine()->mm->claims_common, false);
    EXPECT_EQ(atomic_load(&row->common), false);
    MmUnlockPages(mdl);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    run_thread(unlock_there, mdl);
    EXPECT_EQ(atomic_load(&row->common), true);
    expect_pins(va, 8, 0);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    expect_pins(va, 8, 1);
    unlock_and_free(mdl);
    expect_pins(va, 8, 0);
    pinion_user_free(va);
}
#endif

/* Locks the whole buffer over and over, and hands every fourth lock to whoever takes it first. */
static void *hand_over(void *argument)
{
    struct worker *worker = argument;

    for (int round = 0; round < ROUNDS; round++) {
        PMDL mdl = locked(worker->va, SHARED_PAGES);

        touch_without_paging(worker, worker->va, SHARED_PAGES);
        if (round % 4 == 0)
            mdl = atomic_exchange(&workers[0].handed_over, mdl);
        if (mdl != NULL)
            unlock_and_free(mdl);
    }
    return NULL;
}

/* Claims that threads undo for each other, while their owners make and undo equal ones, add up to nothing. */
TEST(mm_claims, unlock__handed_to_other_threads__sums_hold)
{
    boot_without_verifier();
    struct pinion_counters counters;
    char *va = pages(SHARED_PAGES);

    run_workers(hand_over, va, FEW_TRIMS);
    unlock_and_free(atomic_load(&workers[0].handed_over));
    expect_pins(va, SHARED_PAGES, 0);
    pinion_counters(&counters);
    EXPECT_EQ(counters.locked_pages, 0);
    pinion_user_free(va);
}

/* Frees what it locks before it unlocks: the pages come back with the last unlock, whichever thread's it is. */
static void *free_locked(void *unused)
{
    (void)unused;
    for (int round = 0; round < ROUNDS / 4; round++) {
        char *va = pinion_user_alloc(4 * PAGE_SIZE, PAGE_READWRITE);
        PMDL mine = locked(va, 4), theirs;

        theirs = atomic_exchange(&workers[0].handed_over, locked(va, 4));
        pinion_user_free(va);
        if (theirs != NULL)
            unlock_and_free(theirs);
        unlock_and_free(mine);
    }
    return NULL;
}

TEST(mm_claims, free__while_threads_unlock__all_frames_come_back)
{
    boot_without_verifier();
    char *va = pages(SHARED_PAGES);
    const size_t before = mm_frames_free(ke_machine());

    run_workers(free_locked, va, FEW_TRIMS);
    unlock_and_free(atomic_load(&workers[0].handed_over));
    EXPECT_EQ(mm_frames_free(ke_machine()), before);
    pinion_user_free(va);
}

/* ---- processes that end ---- */

static void *unlock_and_free_there(void *mdl)
{
    unlock_and_free(mdl);
    return NULL;
}

/* The process ends while the thread that unlocked its pages may still be inside MmUnlockPages. */
static void *lock_in_own_process(void *unused)
{
    (void)unused;
    for (int round = 0; round < ROUNDS / 20; round++) {
        PEPROCESS process = pinion_process_create("short");
        pthread_t thread;
        char *va;

        pinion_process_attach(process);
        va = pages(1);
        EXPECT_EQ(pthread_create(&thread, NULL, unlock_and_free_there, locked(va, 1)), 0);
        while (pins_at(va) != 0)
            sched_yield();
        pinion_process_exit(process);
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* A process may end as soon as the last of its pages has been unlocked, by whatever thread. */
TEST(mm_claims, process_exit__right_after_an_unlock_elsewhere__no_harm)
{
    boot_without_verifier();
    const size_t before = mm_frames_free(ke_machine());
    char *va = pages(SHARED_PAGES);

    run_workers(lock_in_own_process, va, FEW_TRIMS);
    pinion_user_free(va);
    EXPECT_EQ(mm_frames_free(ke_machine()), before);
}
