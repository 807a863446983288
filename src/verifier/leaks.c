/* SPDX-License-Identifier: MIT */
/*
 * What was left when the machine ends. Leaks with the same call stacks are one mistake that was made many times: the first few are told
 * one by one, and of the rest how many there are.
 */

#include "verifier/verifier.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TOLD_ALIKE = 16 };

/* Leaks that would be told alike. */
struct kind {
    enum vf_rule         rule;
    enum vf_event        event;         /* what has no counterpart */
    const struct vf_mdl *example;
    unsigned             count;
};

struct left {
    struct kind *kinds;
    size_t       n, room;
};

static bool is_of_kind(const struct kind *kind, enum vf_rule rule, const struct vf_mdl *entry)
{
    return kind->rule == rule && kind->example->head_freed == entry->head_freed
        && memcmp(kind->example->where, entry->where, sizeof(entry->where)) == 0;
}

static struct kind *find_kind(const struct left *left, enum vf_rule rule, const struct vf_mdl *entry)
{
    for (size_t i = 0; i < left->n; i++)
        if (is_of_kind(&left->kinds[i], rule, entry))
            return &left->kinds[i];
    return NULL;
}

/* NULL where there is no memory: each leak is told then. */
static struct kind *add_kind(struct left *left, enum vf_rule rule, enum vf_event event, const struct vf_mdl *entry)
{
    if (left->n == left->room) {
        const size_t room = left->room == 0 ? 64 : left->room * 2;
        struct kind *kinds = realloc(left->kinds, room * sizeof(*kinds));

        if (kinds == NULL)
            return NULL;
        left->kinds = kinds;
        left->room = room;
    }
    left->kinds[left->n] = (struct kind){.rule = rule, .event = event, .example = entry};
    return &left->kinds[left->n++];
}

static void tell(struct left *left, enum vf_rule rule, enum vf_event event, const struct vf_mdl *entry)
{
    struct kind *kind = find_kind(left, rule, entry);

    if (kind == NULL)
        kind = add_kind(left, rule, event, entry);
    if (kind == NULL || kind->count++ < MOST_TOLD_ALIKE)
        vf_warn(rule, (struct vf_case){.mdl = entry->mdl, .event = event});
}

/* What is lent goes with what it was lent for, whose leak is told elsewhere. */
static void report_left(const struct vf_mdl *entry, void *context)
{
    struct left *left = context;

    if (entry->state & VF_LENT)
        return;
    if (entry->state & VF_MAPPED)
        tell(left, VF_MAPPING_LEAK, VF_EVENT_MAPPED, entry);
    if (entry->user_mappings != 0)
        tell(left, VF_USER_MAPPING_LEAK, VF_EVENT_MAPPED, entry);
    if (entry->state & VF_LOCKED)
        tell(left, VF_LOCK_LEAK, VF_EVENT_LOCKED, entry);
    if (entry->state & VF_ALLOCATED)
        tell(left, entry->head_freed != NULL ? VF_CHAIN_LEAK : VF_MDL_LEAK, VF_EVENT_ALLOCATED, entry);
    if (entry->state & VF_PAGES)
        tell(left, VF_PAGES_LEAK, VF_EVENT_ALLOCATED, entry);
    else if (entry->state & VF_POOL_MDL)
        tell(left, VF_PAGES_MDL_LEAK, VF_EVENT_ALLOCATED, entry);
}

/* Each of them is a finding, though one line tells of all. */
static void report_rest(struct machine *machine, const struct left *left)
{
    for (size_t i = 0; i < left->n; i++) {
        const struct kind *kind = &left->kinds[i];
        const unsigned rest = kind->count - MOST_TOLD_ALIKE;

        if (kind->count <= MOST_TOLD_ALIKE)
            continue;
        vf_warn_of_more(kind->rule, kind->example, kind->event, rest);
        atomic_fetch_add(&machine->findings, rest - 1);
    }
}

/*
 * What no MDL has any more, and nobody can give back: pages of an MDL that was shortened before they were unlocked, a mapping that was made
 * twice at the same moment, device memory.
 */
static void report_orphans(struct machine *machine)
{
    const struct vf_held held = vf_sum_held(machine), told = machine->verifier->told;
    const int64_t pages = ke_locked_pages() - held.pages - told.pages;
    const int64_t mappings = ke_system_mappings() - held.mappings - told.mappings;

    if (pages > 0)
        ke_warn("pages-left-locked", "%lld page locks were never undone, and no MDL has them; an MDL was changed while it was locked",
                (long long)pages);
    if (mappings > 0)
        ke_warn("mappings-left", "%lld system mappings were never undone, and no MDL has them", (long long)mappings);
}

/* Nobody else is at work any more. */
static void report_reservations(struct machine *machine)
{
    const struct mm_space *space = machine->mm->system_ptes;

    for (uint32_t i = 0; i < space->nregions; i++)
        if (space->regions[i].npages != 0 && space->regions[i].kind == MM_REGION_RESERVED)
            vf_warn(VF_RESERVATION_LEAK, (struct vf_case){.made = space->regions[i].where});
}

void vf_report_leaks(struct machine *machine)
{
    struct left left = {0};

    vf_mark_rest_of_chains(machine);
    vf_each(machine, report_left, &left);
    report_rest(machine, &left);
    free(left.kinds);
    report_orphans(machine);
    report_reservations(machine);
}
