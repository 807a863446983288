/* SPDX-License-Identifier: MIT */
/* The record of MDLs: a hash table by address that grows with what is alive, and a ring of those that were freed. */

#include "verifier/verifier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 1024, MOST_SPARE = 1024, FIRST_SITES = 16, FIRST_SHARED = 16 };

static size_t bucket_of(const struct vf_state *state, const MDL *mdl)
{
    return (size_t)(((uintptr_t)mdl >> 4) * 0x9E3779B97F4A7C15ull >> 20) & (state->nbuckets - 1);
}

/* ---- the table; the lock is held ---- */

static struct vf_mdl **find_locked(struct vf_state *state, PMDL mdl)
{
    struct vf_mdl **link = &state->buckets[bucket_of(state, mdl)];

    while (*link != NULL && (*link)->mdl != mdl)
        link = &(*link)->next;
    return link;
}

static void grow_locked(struct vf_state *state)
{
    struct vf_state old = *state;
    struct vf_mdl **buckets = calloc(state->nbuckets * 2, sizeof(*buckets));

    if (buckets == NULL)
        return;                         /* longer chains are slower, not wrong */
    state->buckets = buckets;
    state->nbuckets *= 2;
    for (size_t i = 0; i < old.nbuckets; i++) {
        for (struct vf_mdl *entry = old.buckets[i], *next; entry != NULL; entry = next) {
            struct vf_mdl **bucket = &buckets[bucket_of(state, entry->mdl)];

            next = entry->next;
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(old.buckets);
}

static struct vf_mdl *take_spare_locked(struct vf_state *state)
{
    struct vf_mdl *entry = state->spare;

    state->spare = entry->next;
    state->nspare--;
    return entry;
}

static struct vf_mdl *new_entry_locked(struct vf_state *state)
{
    struct vf_mdl *entry = state->spare != NULL ? take_spare_locked(state) : malloc(sizeof(*entry));

    if (entry == NULL)
        ke_usage("the verifier has no memory left for its record; run with verifier=off or more memory");
    *entry = (struct vf_mdl){0};
    return entry;
}

/* Most MDLs live but a moment: a few entries are kept for the next ones. */
static void give_entry_locked(struct vf_state *state, struct vf_mdl *entry)
{
    if (state->nspare == MOST_SPARE) {
        free(entry);
        return;
    }
    entry->next = state->spare;
    state->spare = entry;
    state->nspare++;
}

static struct vf_mdl *find_or_add_locked(struct vf_state *state, PMDL mdl)
{
    struct vf_mdl **link = find_locked(state, mdl);

    if (*link != NULL)
        return *link;
    *link = new_entry_locked(state);
    (*link)->mdl = mdl;
    if (++state->nentries > state->nbuckets) {
        struct vf_mdl *entry = *link;

        grow_locked(state);
        return entry;
    }
    return *link;
}

/* ---- partial MDLs that map pages which another MDL holds ---- */

/* The MDL whose lock or pages a partial MDL lives on; NULL when that is gone, or not on record. */
static struct vf_mdl *source_of_locked(struct vf_state *state, const struct vf_mdl *part)
{
    struct vf_mdl *source = part->source.mdl == NULL ? NULL : *find_locked(state, part->source.mdl);

    return source != NULL && source != part && source->hold.number == part->source.number ? source : NULL;
}

static void leave_source_locked(struct vf_state *state, struct vf_mdl *part)
{
    struct vf_mdl *source = source_of_locked(state, part), **link = source == NULL ? NULL : &source->borrowers;

    while (link != NULL && *link != NULL && *link != part)
        link = &(*link)->next_borrower;
    if (link != NULL && *link == part)
        *link = part->next_borrower;
}

static void enter_source_locked(struct vf_state *state, struct vf_mdl *part)
{
    struct vf_mdl *source = source_of_locked(state, part);

    if (source == NULL)
        return;
    part->next_borrower = source->borrowers;
    source->borrowers = part;
}

static void remove_locked(struct vf_state *state, struct vf_mdl **link)
{
    struct vf_mdl *entry = *link;

    if (entry->state & VF_MAPPED)
        leave_source_locked(state, entry);
    *link = entry->next;
    give_entry_locked(state, entry);
    state->nentries--;
}

/* An MDL in a driver's own memory that holds nothing: its memory may become anything without a word to us. */
static bool holds_nothing(const struct vf_mdl *entry)
{
    return (entry->state & (VF_ALLOCATED | VF_LOCKED | VF_MAPPED | VF_PAGES | VF_POOL_MDL)) == 0 && entry->user_mappings == 0;
}

static void drop_if_empty_locked(struct vf_state *state, PMDL mdl)
{
    struct vf_mdl **link = find_locked(state, mdl);

    if (*link != NULL && holds_nothing(*link))
        remove_locked(state, link);
}

/* ---- the record ---- */

struct vf_mdl vf_lookup(struct machine *machine, PMDL mdl)
{
    struct vf_state *state = machine->verifier;
    struct vf_mdl copy = {.mdl = mdl};
    const struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    if (entry != NULL)
        copy = *entry;
    host_mutex_unlock(&state->lock);
    return copy;
}

static bool find_freed_locked(const struct vf_state *state, PMDL mdl, struct vf_mdl *out)
{
    for (size_t age = 1; age <= VF_HISTORY && age <= state->nfreed; age++) {
        const struct vf_mdl *entry = &state->freed[(state->nfreed - age) % VF_HISTORY];

        if (entry->mdl == mdl) {
            *out = *entry;
            return true;
        }
    }
    return false;
}

uint32_t vf_state_of(struct machine *machine, PMDL mdl)
{
    struct vf_state *state = machine->verifier;
    const struct vf_mdl *entry;
    uint32_t bits;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    bits = entry == NULL ? 0 : entry->state;
    host_mutex_unlock(&state->lock);
    return bits;
}

bool vf_lookup_freed(struct machine *machine, PMDL mdl, struct vf_mdl *out)
{
    struct vf_state *state = machine->verifier;
    bool found;

    host_mutex_lock(&state->lock);
    found = find_freed_locked(state, mdl, out);
    host_mutex_unlock(&state->lock);
    return found;
}

/* ---- questions that do not wait ---- */

enum vf_answer vf_ask(struct machine *machine, PMDL mdl, struct vf_mdl *out)
{
    struct vf_state *state = machine->verifier;
    enum vf_answer answer = VF_UNKNOWN;
    const struct vf_mdl *entry;

    *out = (struct vf_mdl){.mdl = mdl};
    if (!host_mutex_lock_within(&state->lock, ke_patience_ns()))
        return VF_BUSY;
    entry = *find_locked(state, mdl);
    if (entry != NULL) {
        *out = *entry;
        answer = VF_ALIVE;
    } else if (find_freed_locked(state, mdl, out)) {
        answer = VF_FREED;
    }
    host_mutex_unlock(&state->lock);
    return answer;
}

bool vf_list(struct machine *machine, uint32_t wanted, struct vf_mdl *entries, size_t room, size_t *total)
{
    struct vf_state *state = machine->verifier;

    *total = 0;
    if (!host_mutex_lock_within(&state->lock, ke_patience_ns()))
        return false;
    for (size_t i = 0; i < state->nbuckets; i++) {
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next) {
            if (!(entry->state & wanted))
                continue;
            if (*total < room)
                entries[*total] = *entry;
            ++*total;
        }
    }
    host_mutex_unlock(&state->lock);
    return true;
}

size_t vf_find_locked(struct machine *machine, vf_wanted *wanted, uint64_t what, struct vf_mdl *entries, size_t room)
{
    struct vf_state *state = machine->verifier;
    size_t total = 0;

    if (!host_mutex_lock_within(&state->lock, ke_patience_ns()))
        return 0;
    for (size_t i = 0; i < state->nbuckets; i++) {
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next) {
            if (!(entry->state & (VF_LOCKED | VF_PAGES)) || !wanted(entry, what))
                continue;
            if (total < room)
                entries[total] = *entry;
            total++;
        }
    }
    host_mutex_unlock(&state->lock);
    return total;
}

/* ---- what is added to it ---- */

static struct vf_hold new_hold_locked(struct vf_state *state, PMDL mdl)
{
    return (struct vf_hold){mdl, ++state->last_hold};
}

/* Only differences mean anything: it goes round in 49 days. */
uint32_t vf_now_ms(void)
{
    return (uint32_t)(host_now_ns() / 1000000);
}

/* A lock and a mapping have their numbers as long as their state bits are set. */
static void set_holds_locked(struct vf_state *state, struct vf_mdl *entry, uint32_t set, uint32_t clear)
{
    if ((set | clear) & (VF_LOCKED | VF_PAGES | VF_PARTIAL | VF_BUILT))
        entry->read_locked = (set & VF_LOCKED) && !mdl_has(entry->mdl, MDL_WRITE_OPERATION);
    if (clear & (VF_LOCKED | VF_PAGES)) {
        entry->hold = (struct vf_hold){0};
        entry->borrowers = NULL;
    }
    if (clear & VF_MAPPED) {
        leave_source_locked(state, entry);
        entry->mapping = (struct vf_hold){0};
    }
    if (set & (VF_LOCKED | VF_PAGES)) {
        entry->hold = new_hold_locked(state, entry->mdl);
        entry->npages_locked = (uint32_t)mdl_span(entry->mdl);
        entry->process = entry->mdl->Process;
        entry->advanced_to = 0;
        entry->locked_at_ms = ke_the_machine.options.lock_limit_ms == 0 ? 0 : vf_now_ms();
    }
    if (set & VF_MAPPED)
        entry->mapping = new_hold_locked(state, entry->mdl);
    if ((set | clear) & VF_PARTIAL)
        entry->source = entry->lender = (struct vf_hold){0};
}

void vf_record(struct machine *machine, struct ke_site site, PMDL mdl, uint32_t set, uint32_t clear, enum vf_event event)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = set != 0 ? vf_stack_at(machine, site) : NULL;
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = find_or_add_locked(state, mdl);
    entry->state = (entry->state & ~clear) | set;
    set_holds_locked(state, entry, set, clear);
    if (where != NULL)
        entry->where[event] = where;
    if (set & (VF_ALLOCATED | VF_POOL_MDL))
        entry->driver = ke_self()->driver;
    drop_if_empty_locked(state, mdl);
    host_mutex_unlock(&state->lock);
}

void vf_record_not_mapped(struct machine *machine, struct ke_site site, PMDL mdl)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = vf_stack_at(machine, site);
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    if (entry != NULL)
        entry->where[VF_EVENT_NOT_MAPPED] = where;
    host_mutex_unlock(&state->lock);
}

static void add_shared_locked(struct vf_state *state, PMDL mdl)
{
    if (state->nshared == state->shared_room) {
        const size_t room = state->shared_room == 0 ? FIRST_SHARED : state->shared_room * 2;
        struct vf_shared *shared = realloc(state->shared, room * sizeof(*shared));

        if (shared == NULL)
            ke_usage("the verifier has no memory left for its record; run with verifier=off or more memory");
        state->shared = shared;
        state->shared_room = room;
    }
    state->shared[state->nshared++] = (struct vf_shared){mdl, mdl_va(mdl), mdl->ByteCount};
}

static void remove_shared_locked(struct vf_state *state, PMDL mdl)
{
    size_t i = 0;

    while (i < state->nshared && state->shared[i].mdl != mdl)
        i++;
    if (i < state->nshared)
        state->shared[i] = state->shared[--state->nshared];
}

bool vf_find_shared(struct machine *machine, uintptr_t va, size_t bytes, PMDL *mdl)
{
    struct vf_state *state = machine->verifier;
    bool found = false;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nshared && !found; i++) {
        found = state->shared[i].va < va + bytes && va < state->shared[i].va + state->shared[i].bytes;
        *mdl = state->shared[i].mdl;
    }
    host_mutex_unlock(&state->lock);
    return found;
}

void vf_record_user_mapping(struct machine *machine, struct ke_site site, PMDL mdl, bool mapped)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = vf_stack_at(machine, site);
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = find_or_add_locked(state, mdl);
    if (mapped)
        entry->user_mappings++;
    else if (entry->user_mappings != 0)
        entry->user_mappings--;
    if (mapped)
        add_shared_locked(state, mdl);
    else
        remove_shared_locked(state, mdl);
    if (mapped)
        entry->where[VF_EVENT_MAPPED] = where;
    drop_if_empty_locked(state, mdl);
    host_mutex_unlock(&state->lock);
}

void vf_record_lineage(struct machine *machine, PMDL source, PMDL target)
{
    struct vf_state *state = machine->verifier;
    const struct vf_mdl *from;
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    from = *find_locked(state, source);
    entry = *find_locked(state, target);
    if (from != NULL && entry != NULL) {
        entry->source = from->hold.mdl != NULL ? from->hold : from->source;
        entry->lender = from->mapping.mdl != NULL ? from->mapping : from->lender;
        entry->read_locked = from->read_locked;
    }
    host_mutex_unlock(&state->lock);
}

static void set_mapped_at(struct vf_mdl *entry, uintptr_t va)
{
    entry->mapped_at = va;
    entry->buffer_at = mdl_va(entry->mdl);
    entry->mapped_bytes = entry->mdl->ByteCount;
}

void vf_record_mapped_at(struct machine *machine, PMDL mdl, uintptr_t va)
{
    struct vf_state *state = machine->verifier;
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    if (entry != NULL) {
        set_mapped_at(entry, va);
        entry->lender = (struct vf_hold){0};
        leave_source_locked(state, entry);
        enter_source_locked(state, entry);
    }
    host_mutex_unlock(&state->lock);
}

bool vf_take_borrower(struct machine *machine, PMDL mdl, struct vf_mdl *borrower)
{
    struct vf_state *state = machine->verifier;
    struct vf_mdl *entry, *part;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    part = entry == NULL ? NULL : entry->borrowers;
    if (part != NULL) {
        entry->borrowers = part->next_borrower;
        *borrower = *part;
    }
    host_mutex_unlock(&state->lock);
    return part != NULL;
}

void vf_record_advanced(struct machine *machine, PMDL mdl, size_t passed)
{
    struct vf_state *state = machine->verifier;
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = *find_locked(state, mdl);
    if (entry != NULL) {
        entry->advanced_to = (uintptr_t)mdl->StartVa;
        entry->npages_locked -= (uint32_t)passed;
        set_mapped_at(entry, (uintptr_t)mdl->MappedSystemVa);
    }
    host_mutex_unlock(&state->lock);
}

bool vf_hold_lasts(struct machine *machine, struct vf_hold hold)
{
    struct vf_state *state = machine->verifier;
    const struct vf_mdl *entry;
    bool lasts;

    if (hold.mdl == NULL)
        return true;
    host_mutex_lock(&state->lock);
    entry = *find_locked(state, hold.mdl);
    lasts = entry != NULL && (entry->hold.number == hold.number || entry->mapping.number == hold.number);
    host_mutex_unlock(&state->lock);
    return lasts;
}

bool vf_find_by_mapping(struct machine *machine, uintptr_t va, struct vf_mdl *out)
{
    struct vf_state *state = machine->verifier;
    bool found = false;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nbuckets && !found; i++) {
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL && !found; entry = entry->next) {
            found = entry->mapping.mdl != NULL && span_contains(entry->mapped_at, entry->mapped_bytes, va, 1);
            if (found)
                *out = *entry;
        }
    }
    host_mutex_unlock(&state->lock);
    return found;
}

static bool is_in_or_behind_mapping(const struct vf_mdl *entry, uintptr_t va)
{
    const uintptr_t base = span_page_base(entry->mapped_at);

    return entry->mapped_at != 0
        && span_contains(base, (span_pages(entry->mapped_at, entry->mapped_bytes) + 1) * SPAN_PAGE_SIZE, va, 1);
}

bool vf_find_by_fault(struct machine *machine, uintptr_t va, struct vf_mdl *out)
{
    struct vf_state *state = machine->verifier;
    bool found = false;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nbuckets && !found; i++) {
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL && !found; entry = entry->next) {
            found = is_in_or_behind_mapping(entry, va);
            if (found)
                *out = *entry;
        }
    }
    for (size_t age = 1; age <= VF_HISTORY && age <= state->nfreed && !found; age++) {
        const struct vf_mdl *entry = &state->freed[(state->nfreed - age) % VF_HISTORY];

        found = is_in_or_behind_mapping(entry, va);
        if (found)
            *out = *entry;
    }
    host_mutex_unlock(&state->lock);
    return found;
}

/* ---- chains ---- */

static void mark_rest_locked(struct vf_state *state, struct machine *machine, const struct vf_mdl *entry)
{
    const struct vf_stack *head_freed = entry->head_freed;

    while (head_freed != NULL && entry != NULL && mdl_block_is_live(machine, entry->mdl) && entry->mdl->Next != NULL) {
        struct vf_mdl *next = *find_locked(state, entry->mdl->Next);

        if (next == NULL || next->head_freed != NULL)
            return;
        next->head_freed = head_freed;
        entry = next;
    }
}

void vf_mark_rest_of_chains(struct machine *machine)
{
    struct vf_state *state = machine->verifier;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nbuckets; i++)
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next)
            mark_rest_locked(state, machine, entry);
    host_mutex_unlock(&state->lock);
}

/* `Next` may be left set at free; who frees the next MDL as well has done nothing wrong. */
static void mark_next_locked(struct vf_state *state, PMDL mdl, const struct vf_stack *where)
{
    struct vf_mdl *next = mdl->Next == NULL ? NULL : *find_locked(state, mdl->Next);

    if (next != NULL)
        next->head_freed = where;
}

void vf_record_freed(struct machine *machine, struct ke_site site, PMDL mdl, bool by_system)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = vf_stack_at(machine, site);
    struct vf_mdl *freed, **link;

    host_mutex_lock(&state->lock);
    link = find_locked(state, mdl);
    freed = &state->freed[state->nfreed++ % VF_HISTORY];
    *freed = *link != NULL ? **link : (struct vf_mdl){.mdl = mdl};
    freed->where[VF_EVENT_FREED] = where;
    freed->of_system = by_system;
    mark_next_locked(state, mdl, where);
    if (*link != NULL)
        remove_locked(state, link);
    host_mutex_unlock(&state->lock);
}

bool vf_first_warning_at(struct machine *machine, uintptr_t ip)
{
    struct vf_state *state = machine->verifier;
    bool first = true;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nwarned && first; i++)
        first = state->warned_sites[i] != ip;
    if (first && state->nwarned == state->warned_room) {
        const size_t room = state->warned_room == 0 ? FIRST_SITES : state->warned_room * 2;
        uintptr_t *sites = realloc(state->warned_sites, room * sizeof(*sites));

        if (sites == NULL)
            ke_usage("the verifier has no memory left for its record; run with verifier=off or more memory");
        state->warned_sites = sites;
        state->warned_room = room;
    }
    if (first)
        state->warned_sites[state->nwarned++] = ip;
    host_mutex_unlock(&state->lock);
    return first;
}

uint64_t vf_count_of_driver(struct machine *machine, const void *driver, PMDL *example)
{
    struct vf_state *state = machine->verifier;
    uint64_t count = 0;

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nbuckets; i++) {
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next) {
            if (entry->driver != driver || (entry->state & (VF_ALLOCATED | VF_LENT)) != VF_ALLOCATED)
                continue;
            *example = entry->mdl;
            count++;
        }
    }
    host_mutex_unlock(&state->lock);
    return count;
}

/* Only for the end of the machine: `visit` runs without the lock, when nobody else changes the record. */
void vf_each(struct machine *machine, void (*visit)(const struct vf_mdl *entry, void *context), void *context)
{
    const struct vf_state *state = machine->verifier;

    for (size_t i = 0; i < state->nbuckets; i++)
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next)
            visit(entry, context);
}

struct vf_held vf_sum_held(struct machine *machine)
{
    struct vf_state *state = machine->verifier;
    struct vf_held held = {0};

    host_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->nbuckets; i++)
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next) {
            held.pages += entry->state & VF_LOCKED ? (int64_t)entry->npages_locked : 0;
            held.mappings += (entry->state & VF_MAPPED) != 0;
        }
    host_mutex_unlock(&state->lock);
    return held;
}

void vf_record_told(struct machine *machine, int64_t pages, int64_t mappings)
{
    struct vf_state *state = machine->verifier;

    host_mutex_lock(&state->lock);
    state->told.pages += pages;
    state->told.mappings += mappings;
    host_mutex_unlock(&state->lock);
}

int vf_record_boot(struct vf_state *state)
{
    state->buckets = calloc(FIRST_BUCKETS, sizeof(state->buckets[0]));
    if (state->buckets == NULL || vf_stacks_boot(state) != 0)
        goto free_buckets;
    if (vf_invariants_boot(state) != 0)
        goto free_stacks;
    state->nbuckets = FIRST_BUCKETS;
    host_mutex_init(&state->lock);
    return 0;

free_stacks:
    vf_stacks_free(state);
free_buckets:
    free(state->buckets);
    return -ENOMEM;
}

void vf_record_shutdown(struct vf_state *state)
{
    for (size_t i = 0; i < state->nbuckets; i++)
        while (state->buckets[i] != NULL)
            remove_locked(state, &state->buckets[i]);
    while (state->spare != NULL)
        free(take_spare_locked(state));
    free(state->buckets);
    free(state->shared);
    free(state->warned_sites);
    vf_invariants_shutdown(state);
    vf_stacks_free(state);
    host_mutex_destroy(&state->lock);
}
