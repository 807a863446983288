/* SPDX-License-Identifier: MIT */
/*
 * What Pinion knows of each Linux thread, and the counters that each keeps for itself.
 *
 * A thread joins the list at its first routine and leaves when it ends; its counts are then added to those of the
 * threads that are gone, so that sums stay true.
 */

#include "ke/state.h"

_Thread_local struct ke_thread ke_this_thread;

static struct host_mutex list_lock = {PTHREAD_MUTEX_INITIALIZER};
static struct ke_thread *threads;
static int64_t           gone[KE_COUNTERS];     /* what ended threads had counted */

void ke_thread_join_list(void)
{
    struct ke_thread *self = &ke_this_thread;

    self->known = true;
    InitializeListHead(&self->dpcs);
    ke_prepare_process();
    host_thread_watch();
    host_mutex_lock(&list_lock);
    self->next = threads;
    self->link = &threads;
    if (threads != NULL)
        threads->link = &self->next;
    threads = self;
    host_mutex_unlock(&list_lock);
}

void ke_thread_leave_list(void)
{
    struct ke_thread *self = &ke_this_thread;

    if (!self->known)
        return;
    host_mutex_lock(&list_lock);
    *self->link = self->next;
    if (self->next != NULL)
        self->next->link = self->link;
    for (int i = 0; i < KE_COUNTERS; i++)
        gone[i] += atomic_load_explicit(&self->counters[i], memory_order_relaxed);
    host_mutex_unlock(&list_lock);
    self->known = false;
}

void ke_tell_frames_left(uintptr_t sp)
{
    for (size_t i = 0; ke_floors[i] != NULL; i++)
        if (ke_floors[i]->frames_left != NULL)
            ke_floors[i]->frames_left(&ke_the_machine, sp);
}

/* Drivers keep and compare the address; what stands there is ours. */
PETHREAD PsGetCurrentThread(VOID)
{
    return (PETHREAD)(void *)ke_self();
}

PKTHREAD KeGetCurrentThread(VOID)
{
    return PsGetCurrentThread();
}

static int64_t sum_locked(enum ke_counter counter)
{
    int64_t sum = gone[counter];

    for (const struct ke_thread *thread = threads; thread != NULL; thread = thread->next)
        sum += atomic_load_explicit(&thread->counters[counter], memory_order_relaxed);
    return sum;
}

int64_t ke_sum(enum ke_counter counter)
{
    int64_t sum;

    host_mutex_lock(&list_lock);
    sum = sum_locked(counter);
    host_mutex_unlock(&list_lock);
    return sum;
}

bool ke_sums(int64_t sums[KE_SUMS])
{
    if (!host_mutex_lock_within(&list_lock, ke_patience_ns()))
        return false;
    for (int i = 0; i < KE_COUNTERS; i++)
        sums[i] = sum_locked((enum ke_counter)i);
    host_mutex_unlock(&list_lock);
    sums[KE_LOCKED_PAGES] = sums[KE_PAGES_LOCKED] - sums[KE_PAGES_UNLOCKED];
    sums[KE_SYSTEM_MAPPINGS] = sums[KE_MAPPINGS_MADE] - sums[KE_MAPPINGS_RELEASED] + sums[KE_IO_MAPPINGS];
    return true;
}

/* What has ended is added up first: of what comes and goes meanwhile, the sum has seen neither or the beginning. */
static int64_t alive(enum ke_counter begun, enum ke_counter ended)
{
    const int64_t sum = ke_sum(ended);

    return ke_sum(begun) - sum;
}

int64_t ke_live_mdls(void)
{
    const int64_t allocated = alive(KE_MDLS_ALLOCATED, KE_MDLS_FREED);

    return allocated + ke_sum(KE_MDLS_MADE);
}

int64_t ke_locked_pages(void)
{
    return alive(KE_PAGES_LOCKED, KE_PAGES_UNLOCKED);
}

int64_t ke_system_mappings(void)
{
    return alive(KE_MAPPINGS_MADE, KE_MAPPINGS_RELEASED) + ke_sum(KE_IO_MAPPINGS);
}

void ke_counters_reset(void)
{
    host_mutex_lock(&list_lock);
    for (int i = 0; i < KE_COUNTERS; i++) {
        gone[i] = 0;
        for (struct ke_thread *thread = threads; thread != NULL; thread = thread->next)
            atomic_store_explicit(&thread->counters[i], 0, memory_order_relaxed);
    }
    host_mutex_unlock(&list_lock);
}

/* Threads are asked one after the other: of what moves from hand to hand meanwhile, the sum may have seen the end only. */
static uint64_t at_least_0(int64_t sum)
{
    return sum < 0 ? 0 : (uint64_t)sum;
}

static uint64_t count_of(enum ke_counter counter)
{
    return at_least_0(ke_sum(counter));
}

void pinion_counters(struct pinion_counters *out)
{
    ke_machine();
    *out = (struct pinion_counters){
        .live_mdls = at_least_0(ke_live_mdls()),
        .locked_pages = at_least_0(ke_locked_pages()),
        .system_mappings = at_least_0(ke_system_mappings()),
        .system_pages_mapped = count_of(KE_SYSTEM_PAGES_MAPPED),
        .host_calls = host_calls(),
        .outstanding_lists = count_of(KE_OUTSTANDING_LISTS),
        .live_irps = count_of(KE_LIVE_IRPS),
    };
}

void pinion_totals(struct pinion_totals *out)
{
    *out = (struct pinion_totals){
        .mdls_allocated = count_of(KE_MDLS_ALLOCATED),
        .partial_mdls_built = count_of(KE_PARTIALS_BUILT),
        .mdls_advanced = count_of(KE_MDLS_ADVANCED),
        .pages_locked = count_of(KE_PAGES_LOCKED),
        .mappings_made = count_of(KE_MAPPINGS_MADE),
        .irps_allocated = count_of(KE_IRPS_ALLOCATED),
        .irps_completed = count_of(KE_IRPS_COMPLETED),
        .lists_built = count_of(KE_LISTS_BUILT),
        .map_registers_used = count_of(KE_MAP_REGISTERS_USED),
        .bytes_bounced = count_of(KE_BYTES_BOUNCED),
        .injected_failures = count_of(KE_INJECTED_FAILURES),
        .findings = atomic_load(&ke_machine()->findings),
    };
}
