/* SPDX-License-Identifier: MIT */
/* The record of MDLs: a hash table by address that grows with what is alive, and a ring of those that were freed. */

#include "verifier/verifier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 1024, FIRST_SITES = 16 };

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

static struct vf_mdl *find_or_add_locked(struct vf_state *state, PMDL mdl)
{
    struct vf_mdl **link = find_locked(state, mdl);

    if (*link != NULL)
        return *link;
    *link = calloc(1, sizeof(**link));
    if (*link == NULL)
        ke_usage("the verifier has no memory left for its record; run with verifier=off or more memory");
    (*link)->mdl = mdl;
    if (++state->nentries > state->nbuckets) {
        struct vf_mdl *entry = *link;

        grow_locked(state);
        return entry;
    }
    return *link;
}

static void remove_locked(struct vf_state *state, struct vf_mdl **link)
{
    struct vf_mdl *entry = *link;

    *link = entry->next;
    free(entry);
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

bool vf_lookup_freed(struct machine *machine, PMDL mdl, struct vf_mdl *out)
{
    struct vf_state *state = machine->verifier;
    bool found = false;

    host_mutex_lock(&state->lock);
    for (size_t age = 1; age <= VF_HISTORY && age <= state->nfreed && !found; age++) {
        const struct vf_mdl *entry = &state->freed[(state->nfreed - age) % VF_HISTORY];

        found = entry->mdl == mdl;
        if (found)
            *out = *entry;
    }
    host_mutex_unlock(&state->lock);
    return found;
}

void vf_record(struct machine *machine, struct ke_site site, PMDL mdl, uint32_t set, uint32_t clear, enum vf_event event)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = set != 0 ? vf_stack_at(machine, site) : NULL;
    struct vf_mdl *entry;

    host_mutex_lock(&state->lock);
    entry = find_or_add_locked(state, mdl);
    entry->state = (entry->state & ~clear) | set;
    if (where != NULL)
        entry->where[event] = where;
    if (set & (VF_ALLOCATED | VF_POOL_MDL))
        entry->driver = ke_self()->driver;
    drop_if_empty_locked(state, mdl);
    host_mutex_unlock(&state->lock);
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
        entry->where[VF_EVENT_MAPPED] = where;
    drop_if_empty_locked(state, mdl);
    host_mutex_unlock(&state->lock);
}

void vf_record_freed(struct machine *machine, struct ke_site site, PMDL mdl)
{
    struct vf_state *state = machine->verifier;
    const struct vf_stack *where = vf_stack_at(machine, site);
    struct vf_mdl *freed, **link;

    host_mutex_lock(&state->lock);
    link = find_locked(state, mdl);
    freed = &state->freed[state->nfreed++ % VF_HISTORY];
    *freed = *link != NULL ? **link : (struct vf_mdl){.mdl = mdl};
    freed->where[VF_EVENT_FREED] = where;
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
            if (entry->driver != driver || !(entry->state & VF_ALLOCATED))
                continue;
            *example = entry->mdl;
            count++;
        }
    }
    host_mutex_unlock(&state->lock);
    return count;
}

/* Only for the end of the machine: `visit` runs without the lock, when nobody else changes the record. */
void vf_each(struct machine *machine, void (*visit)(const struct vf_mdl *entry))
{
    const struct vf_state *state = machine->verifier;

    for (size_t i = 0; i < state->nbuckets; i++)
        for (const struct vf_mdl *entry = state->buckets[i]; entry != NULL; entry = entry->next)
            visit(entry);
}

int vf_record_boot(struct vf_state *state)
{
    state->buckets = calloc(FIRST_BUCKETS, sizeof(state->buckets[0]));
    if (state->buckets == NULL)
        return -ENOMEM;
    state->nbuckets = FIRST_BUCKETS;
    host_mutex_init(&state->lock);
    return 0;
}

void vf_record_shutdown(struct vf_state *state)
{
    for (size_t i = 0; i < state->nbuckets; i++)
        while (state->buckets[i] != NULL)
            remove_locked(state, &state->buckets[i]);
    free(state->buckets);
    free(state->warned_sites);
    vf_stacks_free(state);
    host_mutex_destroy(&state->lock);
}
