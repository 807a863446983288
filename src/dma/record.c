/* SPDX-License-Identifier: MIT */
/*
 * The record of a transfer: which bytes of which pages it has. It is made from the MDLs when the transfer is asked for, and from then
 * on the MDLs are not asked again: drivers shorten, advance and relink them while a device is at work.
 *
 *     parts     one for each MDL                    the verifier's, and those of BuildMdlFromScatterGatherList
 *     pieces    one for each page of each MDL       what is copied, back too, or mapped in a domain
 *
 * A transfer of which nothing is copied or remapped needs neither; the verifier wants its parts all the same.
 */

#include "dma/dma.h"

#include <stdlib.h>

static size_t parts_bytes(const struct dma_mapping *mapping)
{
    const bool wanted = !mapping->direct || ke_the_machine.options.verifier != 0;

    return wanted ? mapping->nparts * sizeof(struct dma_part) : 0;
}

static size_t pieces_bytes(const struct dma_mapping *mapping)
{
    return mapping->direct ? 0 : mapping->npieces * sizeof(struct dma_piece);
}

size_t dma_record_bytes(const struct dma_mapping *mapping)
{
    return parts_bytes(mapping) + pieces_bytes(mapping);
}

uint32_t dma_count_parts(const struct dma_buffer *buffer)
{
    struct dma_stretch stretch;
    struct dma_cursor cursor;
    uint32_t n = 0;

    for (dma_walk(&cursor, buffer); dma_next_stretch(&cursor, &stretch); n++)
        ;
    return n;
}

static void record_parts(struct dma_mapping *mapping, struct dma_part *parts)
{
    struct dma_stretch stretch;
    struct dma_cursor cursor;
    uint32_t n = 0;

    for (dma_walk(&cursor, &mapping->buffer); n < mapping->nparts && dma_next_stretch(&cursor, &stretch); n++)
        parts[n] = (struct dma_part){stretch.mdl, stretch.va, stretch.bytes};
    mapping->parts = parts;
    mapping->nparts = n;
}

static void record_pieces(struct dma_mapping *mapping, struct dma_piece *pieces)
{
    struct dma_cursor cursor;
    uint32_t n = 0;

    for (dma_walk(&cursor, &mapping->buffer); n < mapping->npieces && dma_next_piece(&cursor, &pieces[n]); n++)
        ;
    mapping->pieces = pieces;
    mapping->npieces = n;
}

void dma_record(struct dma_mapping *mapping, void *room)
{
    const size_t before_pieces = parts_bytes(mapping), piece_bytes = pieces_bytes(mapping);

    if (before_pieces != 0)
        record_parts(mapping, room);
    if (piece_bytes != 0)
        record_pieces(mapping, (struct dma_piece *)(void *)((uint8_t *)room + before_pieces));
}

bool dma_record_new(struct dma_mapping *mapping)
{
    const size_t bytes = dma_record_bytes(mapping);
    void *room = bytes == 0 ? NULL : malloc(bytes);

    if (room != NULL)
        dma_record(mapping, room);
    return bytes == 0 || room != NULL;
}

/* Where there is a record, there are parts at its start. */
void dma_record_free(const struct dma_mapping *mapping)
{
    free((void *)(uintptr_t)mapping->parts);
}

void dma_walk_mapping(struct dma_pieces *walk, const struct dma_mapping *mapping)
{
    walk->mapping = mapping;
    walk->next = 0;
    if (mapping->pieces == NULL)
        dma_walk(&walk->cursor, &mapping->buffer);
}

bool dma_next_of_mapping(struct dma_pieces *walk, struct dma_piece *piece)
{
    if (walk->mapping->pieces == NULL)
        return dma_next_piece(&walk->cursor, piece);
    if (walk->next == walk->mapping->npieces)
        return false;
    *piece = walk->mapping->pieces[walk->next++];
    return true;
}
