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

#endif
