/* SPDX-License-Identifier: MIT */
/* How spaces come and go: their tables, their place in the machine's table of spaces, and those that have ended. */

#include "mm/state.h"

#include <stdlib.h>

struct table {
    void   *base;
    size_t  bytes;
};

enum { TABLES = 5 };

/* All of a space's tables; one that it does not have takes no bytes. */
static void list_tables(const struct mm_space *space, struct table tables[TABLES])
{
    const size_t n = space->npages;
    const struct table all[TABLES] = {
        {space->pfns, n * sizeof(space->pfns[0])},
        {(void *)space->attrs, (n + MM_ATTRIBUTE_SLACK) * sizeof(space->attrs[0])},
        {space->region_of, n * sizeof(space->region_of[0])},
        {(void *)space->pins, mm_space_is_of_aliases(space) ? 0 : n * sizeof(space->pins[0])},
        {space->runs, mm_space_is_of_aliases(space) ? 0 : n * sizeof(space->runs[0])},
    };

    for (int i = 0; i < TABLES; i++)
        tables[i] = (struct table){all[i].base, span_bytes_to_pages(all[i].bytes) * HOST_PAGE_SIZE};
}

static int make_tables(struct mm_space *space)
{
    struct table tables[TABLES];
    int error = 0;

    list_tables(space, tables);
    for (int i = 0; i < TABLES && error == 0; i++)
        if (tables[i].bytes != 0)
            error = host_table(tables[i].bytes, &tables[i].base);
    space->pfns = tables[0].base;
    space->attrs = tables[1].base;
    space->region_of = tables[2].base;
    space->pins = tables[3].base;
    space->runs = tables[4].base;
    return error;
}

/* Mappings that were left: who gets their addresses next has nothing to do with them. */
static void unpoison_regions(const struct mm_space *space)
{
    for (uint32_t i = 0; i < space->nregions; i++)
        mm_space_unpoison(space, space->regions[i].first, space->regions[i].npages);
}

static void drop_space(struct mm_space *space)
{
    struct table tables[TABLES];

    unpoison_regions(space);
    list_tables(space, tables);
    for (int i = 0; i < TABLES; i++)
        host_release(tables[i].base, tables[i].bytes);
    host_release((void *)space->base, (size_t)space->npages * HOST_PAGE_SIZE);
    host_mutex_destroy(&space->lock);
    free(space->regions);
    free(space->kept);
    free(space);
}

static bool enter_table(struct machine *machine, struct mm_space *space)
{
    struct mm_state *mm = machine->mm;
    unsigned id = 0;

    host_mutex_lock(&mm->spaces_lock);
    while (id < MM_MAX_SPACES && atomic_load_explicit(&mm->spaces[id], memory_order_relaxed) != NULL)
        id++;
    if (id < MM_MAX_SPACES) {
        space->id = (uint8_t)id;
        if (id >= atomic_load_explicit(&mm->spaces_end, memory_order_relaxed))
            atomic_store_explicit(&mm->spaces_end, id + 1, memory_order_release);
        atomic_store_explicit(&mm->spaces[id], space, memory_order_release);
    }
    host_mutex_unlock(&mm->spaces_lock);
    return id < MM_MAX_SPACES;
}

struct mm_space *mm_space_by_id(const struct machine *machine, uint8_t id)
{
    return atomic_load_explicit(&machine->mm->spaces[id], memory_order_acquire);
}

static struct mm_space *make_space(enum mm_kind kind, size_t npages)
{
    struct mm_space *space = npages > MM_MOST_PAGES ? NULL : calloc(1, sizeof(*space));
    void *base;

    if (space == NULL)
        return NULL;
    *space = (struct mm_space){.kind = kind, .npages = (uint32_t)npages, .cursor = 1, .free_region = MM_NO_REGION};
    if (host_reserve(npages * HOST_PAGE_SIZE, &base) != 0) {
        free(space);
        return NULL;
    }
    space->base = (uintptr_t)base;
    host_mutex_init(&space->lock);
    if (make_tables(space) == 0)
        return space;
    drop_space(space);
    return NULL;
}

/*
 * Spaces that have ended are kept, empty, and used again: another thread may still be looking at one. It has compared an address with
 * its range, or it has dropped the last pin and looks whether the page is a zombie's; both find what an empty space says.
 */
static void keep_ended(struct mm_state *mm, struct mm_space *space)
{
    host_mutex_lock(&mm->spaces_lock);
    space->next_ended = mm->ended;
    mm->ended = space;
    host_mutex_unlock(&mm->spaces_lock);
}

static struct mm_space *take_ended(struct mm_state *mm, enum mm_kind kind, size_t npages)
{
    struct mm_space **link = &mm->ended, *space;

    host_mutex_lock(&mm->spaces_lock);
    while (*link != NULL && ((*link)->kind != kind || (*link)->npages != npages))
        link = &(*link)->next_ended;
    space = *link;
    if (space != NULL)
        *link = space->next_ended;
    host_mutex_unlock(&mm->spaces_lock);
    return space;
}

struct mm_space *mm_space_create(struct machine *machine, enum mm_kind kind, PEPROCESS process, size_t npages)
{
    struct mm_space *space = take_ended(machine->mm, kind, npages);

    if (space == NULL)
        space = make_space(kind, npages);
    if (space == NULL)
        return NULL;
    space->process = process;
    if (enter_table(machine, space))
        return space;
    space->process = NULL;
    keep_ended(machine->mm, space);
    return NULL;
}

static void empty_space(struct mm_space *space)
{
    struct table tables[TABLES];

    unpoison_regions(space);
    mm_space_shut(space, 0, space->npages);
    list_tables(space, tables);
    for (int i = 0; i < TABLES; i++)
        host_table_clear(tables[i].base, tables[i].bytes);
    space->process = NULL;
    space->cursor = 1;
    space->nregions = space->nused = 0;
    space->free_region = MM_NO_REGION;
    atomic_store(&space->crowded, false);
}

static void leave_table(struct mm_state *mm, const struct mm_space *space)
{
    host_mutex_lock(&mm->spaces_lock);
    atomic_store_explicit(&mm->spaces[space->id], NULL, memory_order_release);
    host_mutex_unlock(&mm->spaces_lock);
}

void mm_space_destroy(struct machine *machine, struct mm_space *space)
{
    leave_table(machine->mm, space);
    mm_space_give_memory(machine, space);
    empty_space(space);
    keep_ended(machine->mm, space);
}

void mm_spaces_forget(struct machine *machine)
{
    struct mm_space *space;

    while ((space = machine->mm->ended) != NULL) {
        machine->mm->ended = space->next_ended;
        drop_space(space);
    }
}
