/* SPDX-License-Identifier: MIT */
/*
 * How a device sees a buffer, page by page or for the buffer as a whole:
 *
 *     direct          no address of the buffer can be out of reach: the physical ones, in runs (runs.c), nothing looked at page by page
 *     in reach        the physical address as it is
 *     copied          through the map register with the piece's number, at the same offset in its page
 *     packed          device without scatter/gather: if the pieces do not follow each other by themselves, all of them are
 *                     copied into one stretch of registers, which starts at the offset of the first piece
 *     remapped        through the domain: piece i has logical page la_first + i; nothing is copied but what must be packed
 *
 * A direct element and a copied one are never joined, even if they happen to touch: how many elements a list has must not
 * depend on which registers were free.
 */

#include "dma/dma.h"

#include <string.h>

/* ---- addresses ---- */

static bool is_remapped(const struct dma_mapping *mapping)
{
    return mapping->adapter->domain != NULL;
}

static uint64_t address_of(PFN_NUMBER page, uint32_t off)
{
    return ((uint64_t)page << SPAN_PAGE_SHIFT) + off;
}

static PFN_NUMBER register_pfn(const struct dma_mapping *mapping, uint32_t ordinal)
{
    return mapping->adapter->registers.first_pfn + mapping->first_register + ordinal;
}

static bool is_copied(const struct dma_mapping *mapping, const struct dma_piece *piece)
{
    return mapping->packed || !dma_reaches(mapping->adapter, piece->pfn);
}

static uint64_t piece_la(const struct dma_mapping *mapping, const struct dma_piece *piece, uint32_t ordinal)
{
    if (is_remapped(mapping))
        return address_of((PFN_NUMBER)mapping->la_first + ordinal, piece->off);
    if (is_copied(mapping, piece))
        return address_of(register_pfn(mapping, ordinal), piece->off);
    return address_of(piece->pfn, piece->off);
}

/* ---- elements ---- */

struct dma_element {
    uint64_t la;
    uint64_t bytes;
    bool     copied;
};

struct dma_elements {
    struct dma_pieces pieces;
    struct dma_piece  piece;            /* the next one, not yet in an element */
    uint32_t          ordinal;          /* its number */
    bool              more;
};

static void step(struct dma_elements *walk)
{
    walk->ordinal++;
    walk->more = dma_next_of_mapping(&walk->pieces, &walk->piece);
}

static void start_elements(struct dma_elements *walk, const struct dma_mapping *mapping)
{
    dma_walk_mapping(&walk->pieces, mapping);
    walk->ordinal = 0;
    walk->more = dma_next_of_mapping(&walk->pieces, &walk->piece);
}

/* Everything in one element, wherever its copy starts. */
static void packed_element(struct dma_elements *walk, const struct dma_mapping *mapping, struct dma_element *element)
{
    *element = (struct dma_element){piece_la(mapping, &walk->piece, 0), mapping->buffer.bytes, true};
    walk->more = false;
}

static bool next_element(struct dma_elements *walk, const struct dma_mapping *mapping, struct dma_element *element)
{
    if (!walk->more)
        return false;
    if (mapping->packed) {
        packed_element(walk, mapping, element);
        return true;
    }
    *element = (struct dma_element){piece_la(mapping, &walk->piece, walk->ordinal), 0, is_copied(mapping, &walk->piece)};
    do {
        element->bytes += walk->piece.bytes;
        step(walk);
    } while (walk->more && is_copied(mapping, &walk->piece) == element->copied
             && piece_la(mapping, &walk->piece, walk->ordinal) == element->la + element->bytes);
    return true;
}

uint32_t dma_store_elements(const struct dma_mapping *mapping, SCATTER_GATHER_ELEMENT *elements, uint32_t room)
{
    struct dma_elements walk;
    struct dma_element element;
    uint32_t n = 0;

    if (mapping->direct)
        return dma_store_runs(&mapping->buffer, elements, room);
    start_elements(&walk, mapping);
    while (n < room && next_element(&walk, mapping, &element))
        elements[n++] = (SCATTER_GATHER_ELEMENT){.Address.QuadPart = (LONGLONG)element.la, .Length = (ULONG)element.bytes};
    return n;
}

/* ---- the plan ---- */

/* A device for which no buffer can need a copy or a logical page. */
static bool sees_all(const struct dma_adapter *adapter)
{
    return adapter->scatter_gather && adapter->domain == NULL && dma_reach(adapter) == MM_NO_PFN;
}

static bool plan_direct(struct dma_mapping *mapping)
{
    const struct dma_runs runs = dma_count_runs(&mapping->buffer);

    mapping->npieces = mapping->npages = runs.npages;
    mapping->nparts = dma_count_parts(&mapping->buffer);
    mapping->nelements = runs.nruns;
    return true;
}

/* A run takes as many pages as it spans, however many pieces it is gathered from. */
static uint32_t pages_of_run(const struct dma_mapping *mapping)
{
    return (uint32_t)span_pages(dma_first_offset(&mapping->buffer), mapping->buffer.bytes);
}

static void count_elements(struct dma_mapping *mapping)
{
    struct dma_elements walk;
    struct dma_element element;

    mapping->nelements = 0;
    for (start_elements(&walk, mapping); next_element(&walk, mapping, &element); mapping->nelements++)
        mapping->copied |= element.copied;
}

/* Counts parts and pieces. False: what must be copied cannot be. */
static bool survey(struct dma_mapping *mapping)
{
    const struct machine *machine = &ke_the_machine;
    struct dma_cursor cursor;
    struct dma_piece piece;
    bool memory = true, reached = true;

    mapping->nparts = dma_count_parts(&mapping->buffer);
    mapping->npieces = 0;
    for (dma_walk(&cursor, &mapping->buffer); dma_next_piece(&cursor, &piece); mapping->npieces++) {
        memory = memory && dma_page_va(machine, piece.pfn) != NULL;
        reached = reached && dma_reaches(mapping->adapter, piece.pfn);
    }
    return memory || (reached && mapping->adapter->scatter_gather);
}

bool dma_plan(struct dma_mapping *mapping)
{
    mapping->packed = mapping->copied = false;
    mapping->first_register = mapping->la_first = 0;
    mapping->direct = sees_all(mapping->adapter);
    if (mapping->direct)
        return plan_direct(mapping);
    if (!survey(mapping))
        return false;
    count_elements(mapping);
    mapping->npages = mapping->adapter->scatter_gather ? mapping->npieces : pages_of_run(mapping);
    if (mapping->adapter->scatter_gather || (mapping->nelements <= 1 && !mapping->copied))
        return true;
    mapping->packed = mapping->copied = true;
    mapping->nelements = mapping->nelements == 0 ? 0 : 1;
    return true;
}

static bool plan_first_run(struct dma_mapping *mapping)
{
    SCATTER_GATHER_ELEMENT run;

    if (dma_store_runs(&mapping->buffer, &run, 1) == 0)
        return false;
    mapping->buffer.bytes = run.Length;
    mapping->copied = false;
    return plan_direct(mapping);
}

bool dma_plan_first(struct dma_mapping *mapping)
{
    struct dma_elements walk;
    struct dma_element element;

    mapping->packed = false;
    mapping->direct = sees_all(mapping->adapter);
    if (mapping->direct)
        return plan_first_run(mapping);
    start_elements(&walk, mapping);
    if (!next_element(&walk, mapping, &element))
        return false;
    mapping->buffer.bytes = element.bytes;
    mapping->copied = element.copied;
    mapping->nelements = 1;
    if (!survey(mapping))
        return false;
    mapping->npages = mapping->npieces;
    return true;
}

uint32_t dma_la_pages_needed(const struct dma_mapping *mapping)
{
    return is_remapped(mapping) ? mapping->npages : 0;
}

/* ---- copies ---- */

/* Where the copy of a piece lies: at `done` bytes into the packed stretch, or in the register of its number. */
static uint8_t *copy_va(const struct dma_mapping *mapping, const struct dma_piece *piece, uint32_t ordinal, uint64_t at)
{
    const uint32_t page = mapping->adapter->registers.first_page + mapping->first_register;

    if (mapping->packed)
        return (uint8_t *)mm_window_va(&ke_the_machine, page) + at;
    return (uint8_t *)mm_window_va(&ke_the_machine, page + ordinal) + piece->off;
}

/* A driver may have changed its MDLs between plan and record: the copy still ends where the registers do. */
static bool has_room(const struct dma_mapping *mapping, const struct dma_piece *piece, uint32_t ordinal, uint64_t at)
{
    return mapping->packed ? at + piece->bytes <= (uint64_t)mapping->npages << SPAN_PAGE_SHIFT : ordinal < mapping->npages;
}

/* How many bytes went that way. */
static uint64_t copy(const struct dma_mapping *mapping, bool to_registers)
{
    struct dma_pieces pieces;
    struct dma_piece piece;
    uint64_t at = 0, bytes = 0;

    dma_walk_mapping(&pieces, mapping);
    for (uint32_t ordinal = 0; dma_next_of_mapping(&pieces, &piece); ordinal++) {
        uint8_t *memory, *shadow;

        if (ordinal == 0)
            at = piece.off;
        if (!has_room(mapping, &piece, ordinal, at))
            break;
        if (is_copied(mapping, &piece)) {
            memory = dma_page_va(&ke_the_machine, piece.pfn) + piece.off;
            shadow = copy_va(mapping, &piece, ordinal, at);
            memcpy(to_registers ? shadow : memory, to_registers ? memory : shadow, piece.bytes);
            bytes += piece.bytes;
        }
        at += piece.bytes;
    }
    return bytes;
}

/* ---- the domain ---- */

static void map_logical(const struct dma_mapping *mapping)
{
    const unsigned access = mapping->write ? DMA_DEVICE_READS : DMA_DEVICE_WRITES | DMA_DEVICE_READS;
    struct dma_pieces pieces;
    struct dma_piece piece;

    dma_walk_mapping(&pieces, mapping);
    for (uint32_t i = 0; !mapping->packed && i < mapping->npages && dma_next_of_mapping(&pieces, &piece); i++)
        dma_domain_map(mapping->adapter->domain, mapping->la_first + i, piece.pfn, access);
    for (uint32_t i = 0; mapping->packed && i < mapping->npages; i++)
        dma_domain_map(mapping->adapter->domain, mapping->la_first + i, register_pfn(mapping, i), access);
}

/* ---- both ---- */

/* A copy is made for reads too: what the device leaves alone must come back as it was, not as an earlier transfer left it. */
void dma_map(struct dma_mapping *mapping)
{
    if (mapping->copied)
        ke_count(KE_BYTES_BOUNCED, (int64_t)copy(mapping, true));
    if (is_remapped(mapping))
        map_logical(mapping);
}

void dma_unmap(struct dma_mapping *mapping)
{
    if (mapping->copied && !mapping->write)
        copy(mapping, false);
}
