/* SPDX-License-Identifier: MIT */
/*
 * MDLs in special pool (verifier flag 0x1): one that ends with a page of its own, so that whoever touches what lies behind its PFNs, or
 * anything of it once it is freed, is met at once.
 *
 *     slot     | filler ..... MDL header, PFNs . | guard |
 *
 * An MDL is aligned as pool is, so that filler may stand behind it as well. It is compared when the MDL is freed.
 *
 * Slots are used again oldest first. A page of its own costs a system call to open and another to close, which a driver that
 * runs for long need not pay for each MDL: each call site gets the first MDLs there, and one in some later.
 */

#include "mdl/state.h"
#include "rtl/filler.h"
#include "rtl/mix.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOTS      = 4096,
    SLOT_BYTES = 2 * HOST_PAGE_SIZE,
    SITES      = 1024,                  /* call sites that are told apart, nearly: those that fall together share their turns */
    FIRST      = 64,                    /* MDLs of a site that are special, */
    THEN_EACH  = 64,                    /* and each such one from then on */
    FILLER     = 0x9D,
    GRANULE    = 16,
};

struct slot {
    PMDL     mdl;                       /* the one that stands here, or stood here last; NULL: none ever has */
    uint32_t capacity;                  /* PFNs */
    bool     live;
};

/*
 * Key: (C) constant (L) under the lock. A slot that is live belongs to whoever has its MDL.
 * Invariant: a slot is live or in the ring, and its page can be touched while it is live.
 */
struct mdl_special {
    uintptr_t         base;             /* (C) */
    struct host_mutex lock;
    uint16_t          free[SLOTS];      /* (L) a ring, oldest first */
    uint32_t          first, nfree;     /* (L) */
    struct slot       slots[SLOTS];
    _Atomic uint32_t  met[SITES];       /* allocations of each call site */
};

static uintptr_t page_of(const struct mdl_special *special, const struct slot *slot)
{
    return special->base + (uintptr_t)(slot - special->slots) * SLOT_BYTES;
}

/* Whose page or guard va lies in; NULL: special pool is elsewhere, or there is none. */
static struct slot *slot_of(const struct machine *machine, uintptr_t va)
{
    struct mdl_special *special = machine->mdl->special;

    if (special == NULL || va - special->base >= (size_t)SLOTS * SLOT_BYTES)
        return NULL;
    return &special->slots[(va - special->base) / SLOT_BYTES];
}

static size_t bytes_of(size_t npages)
{
    return sizeof(MDL) + npages * sizeof(PFN_NUMBER);
}

/* ---- which MDLs ---- */

static bool is_its_turn(struct mdl_special *special, struct ke_site site)
{
    const uint32_t n = atomic_fetch_add_explicit(&special->met[rtl_mix(site.ip) % SITES], 1, memory_order_relaxed);

    return n < FIRST || n % THEN_EACH == 0;
}

/* ---- take and give ---- */

static struct slot *take_slot(struct mdl_special *special)
{
    struct slot *slot = NULL;

    host_mutex_lock(&special->lock);
    if (special->nfree != 0) {
        slot = &special->slots[special->free[special->first]];
        special->first = (special->first + 1) % SLOTS;
        special->nfree--;
    }
    host_mutex_unlock(&special->lock);
    return slot;
}

static void give_slot(struct mdl_special *special, const struct slot *slot)
{
    host_mutex_lock(&special->lock);
    special->free[(special->first + special->nfree++) % SLOTS] = (uint16_t)(slot - special->slots);
    host_mutex_unlock(&special->lock);
}

/* What an MDL is made of is never given a value here, so that its PFNs are those of the slot's MDL before it. */
static PMDL stand_in(const struct mdl_special *special, struct slot *slot, size_t npages)
{
    const size_t in_front = (HOST_PAGE_SIZE - bytes_of(npages)) / GRANULE * GRANULE, end = in_front + bytes_of(npages);
    char *const page = (char *)page_of(special, slot);

    memset(page, FILLER, in_front);
    memset(page + end, FILLER, HOST_PAGE_SIZE - end);
    slot->mdl = (PMDL)(page + in_front);
    slot->capacity = (uint32_t)npages;
    slot->live = true;
    return slot->mdl;
}

PMDL mdl_special_take(struct machine *machine, struct ke_site site, size_t npages)
{
    struct mdl_special *special = machine->mdl->special;
    struct slot *slot;

    if (special == NULL || bytes_of(npages) > HOST_PAGE_SIZE || !is_its_turn(special, site))
        return NULL;
    slot = take_slot(special);
    if (slot == NULL)
        return NULL;
    if (host_fence((void *)page_of(special, slot), HOST_PAGE_SIZE, false) != 0) {
        give_slot(special, slot);
        return NULL;
    }
    return stand_in(special, slot, npages);
}

bool mdl_special_give(struct machine *machine, PMDL mdl)
{
    struct mdl_special *special = machine->mdl->special;
    struct slot *slot = slot_of(machine, (uintptr_t)mdl);

    if (slot == NULL)
        return false;
    VERIFY(slot->live && slot->mdl == mdl);
    slot->live = false;
    host_fence((void *)page_of(special, slot), HOST_PAGE_SIZE, true);       /* refused: a late access is not seen, that is all */
    give_slot(special, slot);
    return true;
}

/* ---- what stands where ---- */

enum mdl_place mdl_special_place(const struct machine *machine, const MDL *mdl, size_t *capacity)
{
    const struct slot *slot = slot_of(machine, (uintptr_t)mdl);

    if (slot == NULL)
        return MDL_ELSEWHERE;
    *capacity = slot->capacity;
    return slot->live && slot->mdl == mdl ? MDL_LIVE : MDL_FREED;
}

bool mdl_special_is_damaged(const struct machine *machine, const MDL *mdl, uintptr_t *va)
{
    const struct slot *slot = slot_of(machine, (uintptr_t)mdl);
    uintptr_t page, end;

    if (slot == NULL || !slot->live || slot->mdl != mdl)
        return false;
    page = page_of(machine->mdl->special, slot);
    end = page + HOST_PAGE_SIZE;
    *va = rtl_find_damage(page, (uintptr_t)mdl, FILLER);
    if (*va == (uintptr_t)mdl)
        *va = rtl_find_damage((uintptr_t)mdl + bytes_of(slot->capacity), end, FILLER);
    return *va != end;
}

/* A guard stands behind one MDL and in front of another: overruns are the rule, but an MDL that is alive goes first. */
static const struct slot *concerned(const struct machine *machine, uintptr_t va)
{
    const struct slot *slot = slot_of(machine, va), *behind = slot_of(machine, va + HOST_PAGE_SIZE);

    return slot != NULL && !slot->live && behind != NULL && behind->live ? behind : slot;
}

bool mdl_special_meets(const struct machine *machine, uintptr_t va, PMDL *mdl, bool *freed)
{
    const struct slot *slot = concerned(machine, va);

    if (slot == NULL || slot->mdl == NULL)
        return false;
    *mdl = slot->mdl;
    *freed = !slot->live;
    return true;
}

/* ---- boot and shutdown ---- */

int mdl_special_boot(struct machine *machine)
{
    struct mdl_special *special;
    void *base;

    if (!(machine->options.verifier & KE_VERIFIER_SPECIAL_POOL) || machine->options.windows < KE_WINDOWS_7)
        return 0;
    special = calloc(1, sizeof(*special));
    if (special == NULL)
        return -ENOMEM;
    if (host_reserve((size_t)SLOTS * SLOT_BYTES, &base) != 0) {
        free(special);
        return -ENOMEM;
    }
    special->base = (uintptr_t)base;
    host_mutex_init(&special->lock);
    for (uint16_t i = 0; i < SLOTS; i++)
        special->free[i] = i;
    special->nfree = SLOTS;
    machine->mdl->special = special;
    return 0;
}

void mdl_special_shutdown(struct machine *machine)
{
    struct mdl_special *special = machine->mdl->special;

    if (special == NULL)
        return;
    host_release((void *)special->base, (size_t)SLOTS * SLOT_BYTES);
    host_mutex_destroy(&special->lock);
    free(special);
}
