/* SPDX-License-Identifier: MIT */
/*
 * Printers: the machine as a developer sees it from a debugger. The topmost floor beside the command: it reads all others.
 *
 *   printer    a routine of pinion/debug.h; each asks, copies, prints, and keeps nothing
 *   peek       a copy of memory that may be anything: an address from a debugger's prompt is not to be trusted
 *   busy       a lock that was not to be had in a moment; what it guards is left out, and the printer says so
 *   place      an address in the code, printed by name
 *
 * A printer takes no lock while it prints, and no memory but for finding names, which is left to a debugger where one looks on. Tables
 * are cut at a number of rows, and say how many more there are.
 */
#ifndef PINION_DEBUG_IMPL_H
#define PINION_DEBUG_IMPL_H

#include "verifier/verifier.h"

enum { DEBUG_ROWS = 256, DEBUG_PLACE = 256 };

/* Begin a printer: the running machine, or NULL after a line that says why there is none. debug_end ends what it began. */
struct machine *debug_begin(void);
void            debug_end(void);

/* A copy of *va; false: it cannot be read. */
#define debug_peek(va, copy) host_peek((va), (copy), sizeof(*(copy)))

/* A bit and its name; a list of them ends with {0, NULL}. */
struct debug_bit {
    uint32_t    bit;
    const char *name;
};

/* " NAME | NAME", and the rest as a number; nothing for 0. */
void debug_print_bits(const struct debug_bit *bits, uint32_t value);

/* The name of a place that a call returns to, and of a routine's first instruction. */
const char *debug_place(uintptr_t pc, char text[DEBUG_PLACE]);
const char *debug_routine(const void *routine, char text[DEBUG_PLACE]);

/* The innermost place of a stack, "-" for none. */
const char *debug_caller(const struct vf_stack *stack, char text[DEBUG_PLACE]);

/* The line after a table that was cut; nothing when it was not. */
void debug_print_more(size_t shown, size_t total);

/* The driver of a device: "\Driver\NAME", or "no driver" where either is none. */
const char *debug_driver_of(const void *device, char text[DEBUG_PLACE]);

#endif
