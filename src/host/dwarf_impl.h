/* SPDX-License-Identifier: MIT */
/* What stack.c and dwarf.c share. */
#ifndef PINION_HOST_DWARF_IMPL_H
#define PINION_HOST_DWARF_IMPL_H

#include "host/program.h"

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

Dwfl *host_dwarf_open(int pid);              /* NULL: it could not be read */

/* The function, file and line of an instruction, as far as they are known. */
void  host_dwarf_place(Dwfl *dwfl, uintptr_t pc, struct host_place *place);

/* Reads a word of this thread's stack; false: the address lies elsewhere. */
typedef bool host_read_word_fn(uintptr_t va, uint64_t *word);

/* The callers of the code that these registers of this thread stand in, innermost first, by its unwind information; 0: it has none. */
size_t host_dwarf_unwind(const struct host_registers *registers, host_read_word_fn *read, uintptr_t *pcs, size_t max);

#endif
