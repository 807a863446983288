/* SPDX-License-Identifier: MIT */
/* Call stacks, each kept once: most events of a run come from a few places. */

#include "verifier/verifier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_BUCKETS = 4096 };

static uint32_t hash_pcs(const uintptr_t *pcs, size_t n)
{
    uint64_t hash = n;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ pcs[i]) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(hash >> 32);
}

static bool is_same(const struct vf_stack *stack, uint32_t hash, const uintptr_t *pcs, size_t n)
{
    return stack->hash == hash && stack->n == n && memcmp(stack->pcs, pcs, n * sizeof(pcs[0])) == 0;
}

static struct vf_stack *new_stack(uint32_t hash, const uintptr_t *pcs, size_t n)
{
    struct vf_stack *stack = calloc(1, sizeof(*stack));

    if (stack == NULL)
        ke_usage("the verifier has no memory left for call stacks; run with verifier=off or more memory");
    stack->hash = hash;
    stack->n = (uint32_t)n;
    memcpy(stack->pcs, pcs, n * sizeof(pcs[0]));
    return stack;
}

static struct vf_stack *find_stack(struct vf_stack *stack, uint32_t hash, const uintptr_t *pcs, size_t n)
{
    while (stack != NULL && !is_same(stack, hash, pcs, n))
        stack = stack->next;
    return stack;
}

/* Another thread may be adding the same stack: whoever comes second finds it. */
static struct vf_stack *add_stack(_Atomic(struct vf_stack *) *bucket, struct vf_stack *stack)
{
    struct vf_stack *head = atomic_load_explicit(bucket, memory_order_acquire);

    do {
        struct vf_stack *same;

        host_takes_over(bucket);
        same = find_stack(head, stack->hash, stack->pcs, stack->n);
        if (same != NULL) {
            free(stack);
            return same;
        }
        stack->next = head;
        host_hands_over(bucket);
    } while (!atomic_compare_exchange_weak_explicit(bucket, &head, stack, memory_order_acq_rel, memory_order_acquire));
    return stack;
}

const struct vf_stack *vf_stack_at(struct machine *machine, struct ke_site site)
{
    struct vf_state *state = machine->verifier;
    uintptr_t pcs[VF_STACK_DEPTH];
    const size_t n = host_stack_walk(site.ip, site.frame, pcs, VF_STACK_DEPTH);
    const uint32_t hash = hash_pcs(pcs, n);
    _Atomic(struct vf_stack *) *bucket = &state->stack_buckets[hash % STACK_BUCKETS];
    struct vf_stack *first = atomic_load_explicit(bucket, memory_order_acquire), *known;

    host_takes_over(bucket);
    known = find_stack(first, hash, pcs, n);
    return known != NULL ? known : add_stack(bucket, new_stack(hash, pcs, n));
}

int vf_stacks_boot(struct vf_state *state)
{
    host_stack_boot();
    state->stack_buckets = calloc(STACK_BUCKETS, sizeof(state->stack_buckets[0]));
    return state->stack_buckets == NULL ? -ENOMEM : 0;
}

void vf_stack_print(const struct vf_stack *stack, size_t first)
{
    char name[256];

    for (size_t i = first; i < stack->n; i++) {
        ke_print_name(stack->pcs[i], name, sizeof(name));
        ke_print("        #%zu %s\n", i - first, name);
    }
}

void vf_stacks_free(struct vf_state *state)
{
    for (size_t i = 0; i < STACK_BUCKETS; i++) {
        for (struct vf_stack *stack = atomic_load(&state->stack_buckets[i]), *next; stack != NULL; stack = next) {
            next = stack->next;
            free(stack);
        }
    }
    free((void *)state->stack_buckets);
    state->stack_buckets = NULL;
}
