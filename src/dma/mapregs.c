/* SPDX-License-Identifier: MIT */
/*
 * Map registers: for a device that does not reach all memory, one run of contiguous pages that it reaches. A register is
 * one of these pages; a request takes a run of them, so that a copy of its buffer is contiguous for the device.
 *
 * For a device that reaches everything a register is only a number that bounds the size of a transfer.
 *
 * DEVIATION: kernel/map-registers: an adapter has map registers of its own, as many as one transfer may use; adapters on
 * Windows share those of their bus. A driver that waits for a second list before it gives the first one back may wait here.
 */

#include "dma/dma.h"

#include <stdlib.h>
#include <string.h>

/* FILLED: free, and filled with a pattern when it was given back, so that a late write to it shows. */
enum { REGISTER_FREE, REGISTER_USED, REGISTER_FILLED };
enum { FILL_BYTE = 0x0F };

bool dma_frames_take(struct machine *machine, const struct mm_frame_want *want, uint32_t *first)
{
    struct mm_frame_want elsewhere = *want;

    elsewhere.node = MM_ANY_NODE;
    if (want->low > want->high
        || (!mm_frames_take_contiguous(machine, want, first) && !mm_frames_take_contiguous(machine, &elsewhere, first)))
        return false;
    for (uint32_t i = 0; i < want->npages; i++)
        mm_frame(machine, *first + i)->owner_page = 0;
    mm_frames_mark(machine, *first, want->npages, MM_FRAME_CONTIGUOUS);
    return true;
}

static bool take_memory(struct machine *machine, struct dma_registers *registers, uint32_t count, PFN_NUMBER reach)
{
    const struct mm_frame_want want = {.npages = count, .high = reach - 1};

    if (!dma_frames_take(machine, &want, &registers->first_page))
        return false;
    registers->first_pfn = mm_pfn_of_page(machine, registers->first_page);
    registers->count = registers->nfree = count;
    return true;
}

bool dma_registers_new(struct machine *machine, struct dma_registers *registers, uint32_t wanted, PFN_NUMBER reach)
{
    *registers = (struct dma_registers){0};
    while (wanted > 0 && !take_memory(machine, registers, wanted, reach))
        wanted /= 2;
    if (wanted == 0)
        return false;
    registers->state = ke_internal_fails() ? NULL : calloc(wanted, sizeof(registers->state[0]));
    if (registers->state == NULL)
        mm_frames_give(machine, registers->first_page, wanted);
    return registers->state != NULL;
}

void dma_registers_end(struct machine *machine, struct dma_registers *registers)
{
    if (registers->state == NULL)
        return;
    mm_frames_give(machine, registers->first_page, registers->count);
    free(registers->state);
    registers->state = NULL;
}

/* ---- free registers under the verifier ---- */

static uint8_t *register_va(const struct dma_registers *registers, uint32_t i)
{
    return mm_window_va(&ke_the_machine, registers->first_page + i);
}

static void fill(struct dma_registers *registers, uint32_t i)
{
    memset(register_va(registers, i), FILL_BYTE, HOST_PAGE_SIZE);
    registers->state[i] = REGISTER_FILLED;
}

/* The first byte that is not as it was left, or the end of the page. */
static void check_filled(const struct dma_registers *registers, uint32_t i)
{
    const uint8_t *va = register_va(registers, i), *end = va + HOST_PAGE_SIZE;

    while (va < end && *va == FILL_BYTE)
        va++;
    if (va < end)
        ke_the_machine.hooks.dma_overwritten((uintptr_t)va);
}

/* ---- take and give ---- */

static uint32_t take_run(struct dma_registers *registers, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        if (registers->state[i] == REGISTER_FILLED && ke_the_machine.hooks.dma_overwritten != NULL)
            check_filled(registers, i);
        registers->state[i] = REGISTER_USED;
    }
    registers->nfree -= n;
    return first;
}

uint32_t dma_registers_take(struct dma_registers *registers, uint32_t n)
{
    uint32_t run = 0;

    if (n > registers->nfree)
        return DMA_NO_REGISTER;
    for (uint32_t i = 0; i < registers->count; i++) {
        run = registers->state[i] == REGISTER_USED ? 0 : run + 1;
        if (run == n)
            return take_run(registers, i + 1 - n, n);
    }
    return DMA_NO_REGISTER;
}

void dma_registers_give(struct dma_registers *registers, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        VERIFY(registers->state[i] == REGISTER_USED);
        registers->state[i] = REGISTER_FREE;
        if (ke_the_machine.hooks.dma_overwritten != NULL)
            fill(registers, i);
    }
    registers->nfree += n;
}
