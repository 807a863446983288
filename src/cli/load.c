/* SPDX-License-Identifier: MIT */
/*
 * The requests of a run. Each worker thread keeps its slots in flight:
 *
 *     worker:   choose -> submit ...            ... take what came back -> check it -> choose -> submit ...
 *     anyone:                      done: push
 *
 * `done` may run on any thread and at DISPATCH_LEVEL, so all it does is put the slot on the worker's stack, and open
 * the worker's gate when enough have come back: waking a thread costs as much as a small request, and those that are still in flight keep
 * the driver busy meanwhile.
 */

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

enum { SAMPLE_EVERY = 16, TICK_MS = 50 };

static const int64_t NS_PER_MS = 1000000;

/* A worker that hears nothing for so long takes its requests for lost; well before the session as a whole times out. */
static int64_t patience_ns(const struct load *load)
{
    const int64_t longest = 10000000000, part = (int64_t)(load->options->timeout_ns / 4);

    return part == 0 || part > longest ? longest : part;
}

/* ---- choosing the next request of a slot ---- */

/* Sizes of every order of magnitude are equally likely. */
static uint32_t choose_bytes(struct slot *slot, uint64_t most)
{
    const struct cli_options *options = slot->worker->load->options;
    const int lowest = __builtin_ctzll(SECTOR_BYTES);
    const uint64_t least = options->min_bytes < most ? options->min_bytes : most;
    const int low = 63 - __builtin_clzll(least), high = 63 - __builtin_clzll(most);
    const uint64_t base = 1ull << (low + (int)(random_next(&slot->random) % (unsigned)(high - low + 1)));
    const uint64_t bytes = base + ((random_next(&slot->random) % base) >> lowest << lowest);

    return (uint32_t)(bytes < least ? least : bytes > most ? most : bytes);
}

/* Anywhere in the slot's stretch; now and then a read that reaches the end of the file or beyond. */
static uint64_t choose_sector(struct slot *slot, uint64_t nsectors)
{
    const uint64_t roll = random_next(&slot->random);

    if (!slot->worker->load->options->write && roll % 16 == 0)
        return slot->first_sector + slot->nsectors - 1 - (roll >> 8) % nsectors;
    return slot->first_sector + (roll >> 8) % (slot->nsectors - nsectors + 1);
}

/* Page aligned, ending with a page, sector aligned, or anywhere; always between the guards' places. */
static void *choose_buffer(struct slot *slot, uint32_t bytes)
{
    const uint64_t roll = random_next(&slot->random);
    size_t at = 0;

    switch (roll % 4) {
    case 1: at = (PAGE_SIZE - bytes % PAGE_SIZE) % PAGE_SIZE; break;
    case 2: at = (roll >> 8) % (PAGE_SIZE / SECTOR_BYTES) * SECTOR_BYTES; break;
    case 3: at = (roll >> 8) % PAGE_SIZE; break;
    }
    return slot->arena + PAGE_SIZE + at;
}

static size_t arena_bytes(const struct load *load)
{
    return load->options->max_bytes + 3ul * PAGE_SIZE;
}

static void choose_range(struct slot *slot)
{
    const uint64_t stretch = slot->nsectors * SECTOR_BYTES;
    const uint64_t most = slot->worker->load->options->max_bytes;

    slot->request.bytes = choose_bytes(slot, stretch < most ? stretch : most);
    slot->request.offset = choose_sector(slot, slot->request.bytes / SECTOR_BYTES) * SECTOR_BYTES;
}

/* What a write carries, or what a read must overwrite: something else each time, and not drawn from the sequence. */
static void fill_buffer(struct slot *slot)
{
    const struct load *load = slot->worker->load;
    const struct pinion_request *request = &slot->request;
    const uint64_t first = request->offset / SECTOR_BYTES;
    unsigned char *buffer = request->buffer;

    if (request->operation == PINION_WRITE)
        for (uint64_t i = 0; i < request->bytes / SECTOR_BYTES; i++)
            truth_of_write(load->options->seed, first + i, slot->generation, buffer + i * SECTOR_BYTES);
    else if (load->checking)
        memset(buffer, (int)(slot->started & 0xFF), request->bytes);
}

static void choose_request(struct slot *slot)
{
    struct pinion_request *request = &slot->request;
    const bool writes = slot->worker->load->options->write && !slot->reads_back;

    if (!slot->reads_back)
        choose_range(slot);
    slot->reads_back = false;
    slot->generation += writes;
    slot->quota--;
    slot->started++;
    request->operation = writes ? PINION_WRITE : PINION_READ;
    request->buffer = choose_buffer(slot, request->bytes);
    fill_buffer(slot);
    guards_set(request);
}

/* ---- a worker ---- */

static void request_done(struct pinion_request *request)
{
    struct slot *slot = request->context;
    struct worker *worker = slot->worker;
    struct slot *head = atomic_load(&worker->back);

    do
        slot->next = head;
    while (!atomic_compare_exchange_weak(&worker->back, &head, slot));
    if (atomic_fetch_add(&worker->nback, 1) + 1 == atomic_load(&worker->enough))
        host_gate_open(&worker->gate);
}

/* False: it was refused at the door, and `done` does not run. */
static bool submit(struct slot *slot)
{
    const NTSTATUS status = pinion_submit(slot->worker->load->device, &slot->request);

    if (slot->request.sent)
        return true;
    slot->request.status = status;
    slot->request.information = 0;
    return false;
}

static void sample_locked_pages(struct worker *worker)
{
    struct pinion_counters now;

    pinion_counters(&now);
    if (now.locked_pages > worker->tally.peak_locked_pages)
        worker->tally.peak_locked_pages = now.locked_pages;
}

static void take_note(struct slot *slot)
{
    struct worker *worker = slot->worker;

    check_request(slot);
    atomic_store_explicit(&worker->requests, worker->tally.requests, memory_order_relaxed);
    atomic_store_explicit(&worker->bytes, worker->tally.bytes, memory_order_relaxed);
}

/* Put the slot's next request in flight, if it has one. */
static void launch(struct slot *slot)
{
    struct worker *worker = slot->worker;

    while (slot->quota > 0 && !atomic_load(&worker->load->stop)) {
        choose_request(slot);
        if (submit(slot)) {
            worker->in_flight++;
            if (worker->load->checking || slot->started % SAMPLE_EVERY == 1)
                sample_locked_pages(worker);
            return;
        }
        take_note(slot);
    }
}

static struct slot *take_back(struct worker *worker)
{
    struct slot *slots = atomic_exchange(&worker->back, NULL);
    int n = 0;

    for (const struct slot *slot = slots; slot != NULL; slot = slot->next)
        n++;
    atomic_fetch_sub(&worker->nback, n);
    return slots;
}

/* Until enough have come back, or a while. A slot is on the stack before it is counted, so the count never says more than there are. */
static void wait_for_enough(struct worker *worker)
{
    const int quarter = (int)(worker->load->options->depth + 3) / 4, in_flight = (int)worker->in_flight;
    const int enough = quarter < in_flight ? quarter : in_flight;

    atomic_store(&worker->enough, enough);
    while (pinion_poll())
        continue;
    if (atomic_load(&worker->nback) < enough)
        host_gate_wait(&worker->gate, TICK_MS * NS_PER_MS);
}

/* What came back, as a list; NULL: nothing does any more. */
static struct slot *await_slots(struct worker *worker)
{
    const uint64_t start_ns = host_now_ns();

    do {
        struct slot *slots = take_back(worker);

        if (slots != NULL)
            return slots;
        wait_for_enough(worker);
    } while ((int64_t)(host_now_ns() - start_ns) < patience_ns(worker->load));
    return take_back(worker);
}

static void keep_in_flight(struct worker *worker)
{
    while (worker->in_flight > 0) {
        struct slot *slot = await_slots(worker), *next;

        if (slot == NULL) {
            worker->tally.lost = worker->in_flight;
            atomic_store(&worker->load->stop, true);
            return;
        }
        for (; slot != NULL; slot = next) {
            next = slot->next;
            worker->in_flight--;
            take_note(slot);
            launch(slot);
        }
    }
}

static void leave_run(struct load *load)
{
    if (atomic_fetch_sub(&load->running, 1) == 1)
        host_gate_open(&load->finished);
}

static void worker_main(void *context)
{
    struct worker *worker = context;
    struct load *load = worker->load;

    pinion_process_attach(load->process);
    for (unsigned i = 0; i < load->options->depth; i++)
        launch(&worker->slots[i]);
    keep_in_flight(worker);
    leave_run(load);
}

/* ---- the load ---- */

static void slot_start_over(struct load *load, struct slot *slot, unsigned index)
{
    const unsigned worker = index / load->options->depth;

    slot->random = random_seeded(load->options->seed, worker, index % load->options->depth);
    slot->started = 0;
    slot->reads_back = false;
}

/* Writers get stretches of their own, whole sectors all; each reader gets the file, and the sector that ends it. */
static void slot_assign(struct load *load, struct slot *slot, unsigned index)
{
    const struct cli_options *options = load->options;
    const uint64_t whole = load->file->bytes / SECTOR_BYTES;
    const uint64_t nactive = options->write && whole < load->nslots ? whole : load->nslots;
    const uint64_t share = options->requests / nactive + (index < options->requests % nactive);

    slot->quota = index >= nactive ? 0 : options->requests == 0 ? UINT64_MAX : share;
    slot->first_sector = options->write ? whole * index / nactive : 0;
    slot->nsectors = options->write ? whole * (index + 1) / nactive - slot->first_sector
                                    : (load->file->bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

static bool slot_create(struct load *load, struct worker *worker, struct slot *slot, unsigned index)
{
    slot->worker = worker;
    slot->request.context = slot;
    slot->request.done = request_done;
    slot_assign(load, slot, index);
    slot_start_over(load, slot, index);
    slot->arena = pinion_user_alloc(arena_bytes(load), PAGE_READWRITE);
    if (slot->arena != NULL && !load->options->check)
        memset(slot->arena, 0, arena_bytes(load));      /* what Linux takes for new pages is not the driver's to answer for */
    return slot->arena != NULL;
}

static bool worker_create(struct load *load, struct worker *worker, unsigned index)
{
    const unsigned depth = load->options->depth;

    worker->load = load;
    host_gate_init(&worker->gate);
    worker->slots = calloc(depth, sizeof(*worker->slots));
    worker->expected = malloc(load->options->max_bytes);
    if (worker->slots == NULL || worker->expected == NULL)
        return false;
    for (unsigned i = 0; i < depth; i++)
        if (!slot_create(load, worker, &worker->slots[i], index * depth + i))
            return false;
    return true;
}

bool load_create(struct load *load)
{
    const struct cli_options *options = load->options;
    bool made = true;

    load->nslots = options->threads * options->depth;
    load->nrequests = options->requests;
    host_gate_init(&load->finished);
    if (options->write)
        load->generations = calloc(load->file->bytes / SECTOR_BYTES, sizeof(*load->generations));
    load->workers = calloc(options->threads, sizeof(*load->workers));
    made = load->workers != NULL && (!options->write || load->generations != NULL);
    for (unsigned i = 0; made && i < options->threads; i++)
        made = worker_create(load, &load->workers[i], i);
    if (!made)
        cli_complain(0, "there is no memory for %u buffers of %zu bytes: use a larger --ram, or a smaller --threads, "
                     "--depth or --max-size", load->nslots, arena_bytes(load));
    return made;
}

/* The buffers go with the process that they belong to. */
void load_destroy(struct load *load)
{
    for (unsigned i = 0; load->workers != NULL && i < load->options->threads; i++) {
        free(load->workers[i].slots);
        free(load->workers[i].expected);
    }
    free(load->workers);
    free(load->generations);
}

void load_rewind(struct load *load)
{
    load->nrequests = 0;
    for (unsigned i = 0; i < load->nslots; i++) {
        struct worker *worker = &load->workers[i / load->options->depth];
        struct slot *slot = &worker->slots[i % load->options->depth];

        load->nrequests += slot->quota = slot->started;
        slot_start_over(load, slot, i);
        worker->tally = (struct tally){0};
    }
}

/* ---- a run ---- */

static unsigned start_workers(struct load *load)
{
    unsigned started = 0;

    while (started < load->options->threads) {
        struct worker *worker = &load->workers[started];
        int error;

        atomic_fetch_add(&load->running, 1);
        error = host_thread_start(&worker->thread, worker_main, worker);
        if (error != 0) {
            cli_complain(0, "thread %u cannot be started: %s; use a smaller --threads", started + 1, strerror(-error));
            atomic_store(&load->stop, true);
            leave_run(load);
            break;
        }
        started++;
    }
    return started;
}

/* How far it is: by requests or by time, whichever will end it first. */
static void show_progress(const struct load *load, uint64_t ns)
{
    const char *what = load->limit_ns == 0 && load->options->requests == 0 ? "comparing"
                       : load->options->write ? "writing" : "reading";
    uint64_t requests = 0, bytes = 0;
    double by_requests, by_time;

    for (unsigned i = 0; i < load->options->threads; i++) {
        requests += atomic_load_explicit(&load->workers[i].requests, memory_order_relaxed);
        bytes += atomic_load_explicit(&load->workers[i].bytes, memory_order_relaxed);
    }
    by_requests = load->nrequests == 0 ? 0 : (double)requests / (double)load->nrequests;
    by_time = load->limit_ns == 0 ? 0 : (double)ns / (double)load->limit_ns;
    progress_show(what, by_requests > by_time ? by_requests : by_time, bytes, ns);
}

static void await_workers(struct load *load)
{
    while (!host_gate_wait(&load->finished, TICK_MS * NS_PER_MS)) {
        const uint64_t ns = host_now_ns() - load->start_ns;

        if (host_interrupted() || (load->limit_ns != 0 && ns >= load->limit_ns))
            atomic_store(&load->stop, true);
        show_progress(load, ns);
    }
    progress_clear();
}

static void add_tally(struct tally *sum, const struct tally *tally)
{
    sum->requests += tally->requests;
    sum->bytes += tally->bytes;
    sum->failed += tally->failed;
    if (tally->failed > 0)
        sum->failed_with = tally->failed_with;
    sum->cut_short += tally->cut_short;
    sum->guards_broken += tally->guards_broken;
    sum->verified_bytes += tally->verified_bytes;
    sum->wrong_bytes += tally->wrong_bytes;
    sum->lost += tally->lost;
    if (tally->peak_locked_pages > sum->peak_locked_pages)
        sum->peak_locked_pages = tally->peak_locked_pages;
}

bool load_run(struct load *load, struct tally *sum, uint64_t *elapsed_ns)
{
    unsigned started;

    load->start_ns = host_now_ns();
    atomic_store(&load->running, 1);
    started = start_workers(load);
    leave_run(load);
    await_workers(load);
    for (unsigned i = 0; i < started; i++)
        add_tally(sum, &load->workers[i].tally);
    for (unsigned i = 0; sum->lost == 0 && i < started; i++)
        host_thread_join(&load->workers[i].thread);     /* which waits for requests of the thread: not for lost ones */
    *elapsed_ns = host_now_ns() - load->start_ns;
    return started == load->options->threads;
}
