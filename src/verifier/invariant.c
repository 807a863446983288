/* SPDX-License-Identifier: MIT */
/*
 * Invariant MDLs: buffers that nobody may change while their request is under way. Whoever makes the MDL says so, by
 * MDL_PAGE_CONTENTS_INVARIANT.
 *
 *                      IoCallDriver      IoCallDriver, last      IoCompleteRequest
 *     write, stack     taken                                     compared
 *     write, driver    taken             compared                compared
 *     read, stack      taken             compared
 *     read, driver     taken             compared, at each before it too
 *
 * A signature is kept for each request and MDL, from the first IoCallDriver until the request is completed or freed.
 */

#include "verifier/verifier.h"

#include "rtl/mix.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 256, EITHER = KE_VERIFIER_INVARIANT_STACK | KE_VERIFIER_INVARIANT_DRIVER };

struct vf_invariant {
    struct vf_invariant   *next;        /* in its bucket */
    const IRP             *irp;
    PMDL                   mdl;
    uint64_t               signature;
    const struct vf_stack *taken;
};

static bool is_on(void)
{
    return (ke_the_machine.options.verifier & EITHER) != 0;
}

static bool is_checked_at_each_call(void)
{
    return (ke_the_machine.options.verifier & KE_VERIFIER_INVARIANT_DRIVER) != 0;
}

/* ---- signatures ---- */

static uint64_t add_bytes(uint64_t signature, const uint8_t *from, size_t n)
{
    uint64_t word;

    for (; n >= sizeof(word); n -= sizeof(word), from += sizeof(word)) {
        memcpy(&word, from, sizeof(word));
        signature = rtl_mix(signature + word);
    }
    word = 0;
    memcpy(&word, from, n);
    return rtl_mix(signature + word);
}

/* The bytes are read where their frames are, so that the MDL need not be mapped. */
static uint64_t signature_of(PMDL mdl)
{
    const size_t npages = mdl_span(mdl);
    size_t off = mdl->ByteOffset, left = mdl->ByteCount;
    uint64_t signature = left;

    for (size_t i = 0; i < npages; i++) {
        const size_t n = left < SPAN_PAGE_SIZE - off ? left : SPAN_PAGE_SIZE - off;
        void *va;

        if (mm_first_run(&ke_the_machine, mdl_pfns(mdl) + i, 1, &va) != 0)
            signature = add_bytes(signature, (const uint8_t *)va + off, n);
        left -= n;
        off = 0;
    }
    return signature;
}

/* ---- the table; the record's lock is held ---- */

static struct vf_invariant **bucket_of(struct vf_state *state, const IRP *irp)
{
    return &state->invariants[((uintptr_t)irp >> 6) % BUCKETS];
}

static struct vf_invariant *find_locked(struct vf_state *state, const IRP *irp, const MDL *mdl)
{
    struct vf_invariant *entry = *bucket_of(state, irp);

    while (entry != NULL && (entry->irp != irp || entry->mdl != mdl))
        entry = entry->next;
    return entry;
}

static void add_locked(struct vf_state *state, struct vf_invariant value)
{
    struct vf_invariant *entry = malloc(sizeof(*entry));

    if (entry == NULL)
        ke_usage("the verifier has no memory left for its record; run with verifier=off or more memory");
    value.next = *bucket_of(state, value.irp);
    *entry = value;
    *bucket_of(state, value.irp) = entry;
}

/* The signature taken first of this request's MDL; the one given is kept if none was. */
static struct vf_invariant first_of(const IRP *irp, PMDL mdl, uint64_t signature, struct ke_site site)
{
    struct vf_state *state = ke_the_machine.verifier;
    struct vf_invariant now = {.irp = irp, .mdl = mdl, .signature = signature, .taken = vf_stack_at(&ke_the_machine, site)};
    const struct vf_invariant *entry;

    host_mutex_lock(&state->lock);
    entry = find_locked(state, irp, mdl);
    if (entry != NULL)
        now = *entry;
    else
        add_locked(state, now);
    host_mutex_unlock(&state->lock);
    return now;
}

/* ---- requests ---- */

static uint64_t system_address_of(PMDL mdl)
{
    void *va;

    if (mdl_has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL))
        return (uintptr_t)mdl->MappedSystemVa;
    return mm_first_run(&ke_the_machine, mdl_pfns(mdl), 1, &va) == 0 ? 0 : (uintptr_t)va + mdl->ByteOffset;
}

static void inspect(struct ke_site site, PDEVICE_OBJECT device, PIRP irp, bool write, bool compare)
{
    for (PMDL mdl = irp->MdlAddress; mdl != NULL; mdl = mdl->Next) {
        struct vf_invariant first;
        uint64_t signature;

        if (!mdl_has(mdl, MDL_PAGE_CONTENTS_INVARIANT))
            continue;
        signature = signature_of(mdl);
        first = first_of(irp, mdl, signature, site);
        if (compare && first.signature != signature)
            vf_stop(write ? VF_INVARIANT_WRITE : VF_INVARIANT_READ,
                    (struct vf_case){.site = site, .mdl = mdl, .made = first.taken}, (uintptr_t)device, (uintptr_t)irp,
                    system_address_of(mdl), 0);
    }
}

/* Nothing is below a device whose requests need one stack location. */
void vf_invariant_call(struct ke_site site, PDEVICE_OBJECT device, PIRP irp)
{
    const UCHAR major = IoGetNextIrpStackLocation(irp)->MajorFunction;
    const bool last = device->StackSize <= 1;

    if (is_on() && (major == IRP_MJ_WRITE || major == IRP_MJ_READ))
        inspect(site, device, irp, major == IRP_MJ_WRITE, is_checked_at_each_call() || (major == IRP_MJ_READ && last));
}

/* A read has changed its buffer by then. */
void vf_invariant_complete(struct ke_site site, PIRP irp)
{
    const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(irp);

    if (!is_on() || irp->CurrentLocation > irp->StackCount)
        return;
    if (location->MajorFunction == IRP_MJ_WRITE)
        inspect(site, location->DeviceObject, irp, true, true);
    vf_invariant_forget(irp);
}

void vf_invariant_forget(const IRP *irp)
{
    struct vf_state *state = ke_the_machine.verifier;
    struct vf_invariant **link, *entry;

    if (!is_on())
        return;
    host_mutex_lock(&state->lock);
    for (link = bucket_of(state, irp); (entry = *link) != NULL;) {
        if (entry->irp != irp) {
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        free(entry);
    }
    host_mutex_unlock(&state->lock);
}

int vf_invariants_boot(struct vf_state *state)
{
    if (is_on())
        state->invariants = calloc(BUCKETS, sizeof(state->invariants[0]));
    return is_on() && state->invariants == NULL ? -1 : 0;
}

void vf_invariants_shutdown(struct vf_state *state)
{
    for (size_t i = 0; state->invariants != NULL && i < BUCKETS; i++) {
        for (struct vf_invariant *entry = state->invariants[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    free(state->invariants);
}
