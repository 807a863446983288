/* SPDX-License-Identifier: MIT */
/*
 * Failures by call stack. A call of a fallible routine is told apart by the frames of the driver that led to it:
 *
 *     IoAllocateMdl    AllocatePiece    ReadWrite    IofCallDriver   pinion_submit   main
 *     '- Pinion -'     '----- driver: the call -----'   '----- Pinion, and the host program -----'
 *
 * Each frame counts by the name of its module and its place therein, so that a call has the same id in every process.
 *
 * Rules: what is armed stands behind one lock, which is held for no call out of this file but to the loader.
 */

#include "ke/state.h"
#include "rtl/mix.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64, FIRST_ROOM = 256 };

/* Keys that were seen, and what belongs to each. Open addressing; a key is never 0, which is an empty place. */
struct seen {
    struct seen_key {
        uint64_t key, value;
    }     *keys;
    size_t n, room;                     /* a power of two, at most half full */
};

static struct host_mutex lock = {PTHREAD_MUTEX_INITIALIZER};

static struct {
    pinion_met *met;
    void       *context;
} watcher;                              /* set by the program before its threads call anything */

static _Atomic bool armed;

/* Under the lock. */
static struct {
    bool        each_once;              /* the verifier's systematic low resources: each call fails the first time */
    uint64_t    fail[PINION_MOST_CALLS];
    unsigned    nfail;
    struct seen stacks;                 /* a hash of all of a stack: the id of its call, which takes longer to work out */
    struct seen calls;                  /* the ids */
} calls;

/* The frames of one call, from the routine's caller outwards. */
struct call {
    const void *frames[DEPTH];
    unsigned    nframes;
    uint64_t    id;
    bool        first;                  /* this machine had not seen it */
};

/* ---- hashes ---- */

static uint64_t hash_of_text(const char *text)
{
    uint64_t hash = 0;

    while (*text != '\0')
        hash = rtl_mix(hash + (unsigned char)*text++);
    return hash;
}

static struct seen_key *place_of(struct seen_key *keys, size_t room, uint64_t key)
{
    size_t i = key & (room - 1);

    while (keys[i].key != 0 && keys[i].key != key)
        i = (i + 1) & (room - 1);
    return &keys[i];
}

static void make_room(struct seen *seen)
{
    const size_t room = seen->room == 0 ? FIRST_ROOM : seen->room * 2;
    struct seen_key *keys;

    if (seen->n * 2 < seen->room)
        return;
    keys = calloc(room, sizeof(*keys));
    if (keys == NULL)
        ke_usage("no memory is left to remember which calls were made; run without failures by call stack");
    for (size_t i = 0; i < seen->room; i++)
        if (seen->keys[i].key != 0)
            *place_of(keys, room, seen->keys[i].key) = seen->keys[i];
    free(seen->keys);
    seen->keys = keys;
    seen->room = room;
}

/* Where the value of this key is kept; *added tells whether the key is new, and its value 0. */
static uint64_t *seen_value(struct seen *seen, uint64_t key, bool *added)
{
    struct seen_key *place;

    make_room(seen);
    place = place_of(seen->keys, seen->room, key);
    *added = place->key == 0;
    seen->n += *added;
    place->key = key;
    return &place->value;
}

static void forget(struct seen *seen)
{
    free(seen->keys);
    *seen = (struct seen){0};
}

/* ---- a stack, and the driver's part of it ---- */

static const char *module_of(uintptr_t pc, uint64_t *offset)
{
    struct host_place place;

    if (!host_module_of(pc, &place))
        return NULL;
    *offset = place.offset;
    return place.module;
}

static bool is_own(uintptr_t pc, const char *own)
{
    uint64_t offset;
    const char *module = module_of(pc, &offset);

    return module == own || (module != NULL && own != NULL && strcmp(module, own) == 0);
}

/* From the first frame outside Pinion to the last before it begins again; all frames where Pinion is linked into the driver's program. */
static void cut_stack(const uintptr_t *pcs, size_t n, struct call *call)
{
    uint64_t offset;
    const char *own = module_of((uintptr_t)cut_stack, &offset);
    size_t first = 0;

    while (first < n && is_own(pcs[first], own))
        first++;
    if (first == n)
        own = NULL;
    for (size_t i = first % n; i < n && (own == NULL || !is_own(pcs[i], own)); i++)
        call->frames[call->nframes++] = (const void *)pcs[i];
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

static uint64_t id_of(const char *routine, const struct call *call)
{
    uint64_t hash = hash_of_text(routine), offset;

    for (unsigned i = 0; i < call->nframes; i++) {
        const char *module = module_of((uintptr_t)call->frames[i], &offset);

        hash = rtl_mix(hash ^ (module == NULL ? 0 : hash_of_text(base_name(module)) + offset));
    }
    return hash == 0 ? 1 : hash;
}

static uint64_t hash_of_stack(const char *routine, const uintptr_t *pcs, size_t n)
{
    uint64_t hash = rtl_mix((uintptr_t)routine);

    for (size_t i = 0; i < n; i++)
        hash = rtl_mix(hash + pcs[i]);
    return hash == 0 ? 1 : hash;
}

static void identify_locked(const char *routine, const uintptr_t *pcs, size_t n, struct call *call)
{
    uint64_t *id;
    bool added;

    id = seen_value(&calls.stacks, hash_of_stack(routine, pcs, n), &added);
    if (added) {
        cut_stack(pcs, n, call);
        *id = id_of(routine, call);
        seen_value(&calls.calls, *id, &call->first);
    }
    call->id = *id;
}

/* ---- what fails ---- */

static bool is_to_fail_locked(const struct call *call)
{
    if (calls.each_once && call->first)
        return true;
    for (unsigned i = 0; i < calls.nfail; i++) {
        if (calls.fail[i] == call->id) {
            calls.fail[i] = calls.fail[--calls.nfail];
            return true;
        }
    }
    return false;
}

static void tell(const char *routine, const struct call *call)
{
    const struct pinion_call told = {
        .id = call->id, .routine = routine, .stack = {.title = "called at", .frames = call->frames, .nframes = call->nframes}};

    host_symbols_begin();
    watcher.met(&told, watcher.context);
    host_symbols_end();
}

bool ke_call_fails(const char *name, uintptr_t ip, uintptr_t frame)
{
    struct call call = {.nframes = 0};
    uintptr_t pcs[DEPTH];
    const size_t n = host_stack_walk(ip, frame, pcs, DEPTH);
    bool fails;

    host_mutex_lock(&lock);
    identify_locked(name, pcs, n, &call);
    fails = is_to_fail_locked(&call);
    host_mutex_unlock(&lock);
    if (call.first && watcher.met != NULL)
        tell(name, &call);
    return fails;
}

bool ke_calls_armed(void)
{
    return atomic_load_explicit(&armed, memory_order_relaxed);
}

static void settle_locked(void)
{
    atomic_store(&armed, calls.each_once || calls.nfail > 0 || watcher.met != NULL);
}

void ke_calls_boot(const struct ke_options *options)
{
    host_mutex_lock(&lock);
    forget(&calls.stacks);
    forget(&calls.calls);
    calls.nfail = 0;
    calls.each_once = (options->verifier & KE_VERIFIER_SYSTEMATIC) != 0;
    settle_locked();
    host_mutex_unlock(&lock);
}

void pinion_watch_calls(pinion_met *met, void *context)
{
    watcher.met = met;
    watcher.context = context;
    host_mutex_lock(&lock);
    settle_locked();
    host_mutex_unlock(&lock);
    ke_failures_count_armed();
}

void pinion_fail_calls(const uint64_t *ids, unsigned nids)
{
    if (nids > PINION_MOST_CALLS)
        ke_usage("pinion_fail_calls: %u calls are too many; name at most %u", nids, (unsigned)PINION_MOST_CALLS);
    ke_machine();
    host_mutex_lock(&lock);
    for (unsigned i = 0; i < nids; i++)
        calls.fail[i] = ids[i];
    calls.nfail = nids;
    settle_locked();
    host_mutex_unlock(&lock);
    ke_failures_count_armed();
}
