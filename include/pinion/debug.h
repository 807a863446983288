/* SPDX-License-Identifier: MIT */
/*
 * Printers: what a developer asks of the machine from a debugger or from a test that has failed, in the shapes of the kernel debugger's
 * extensions.
 *
 * They may be called at any time, from a debugger too: on a thread that stands anywhere, inside a stop, while other threads are held. None
 * changes anything, waits for longer than a moment (what somebody else keeps locked is said to be busy), or minds an address where nothing is.
 * In gdb, use the commands `pinion mdl ADDRESS` and so on, which docs/testing.md shows.
 */
#ifndef PINION_DEBUG_H
#define PINION_DEBUG_H

#include "pinion/pinion.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct _MDL *PMDL;
typedef struct _IRP *PIRP;

/* One MDL: its fields, its pages, its chain, and who did what to it. */
PINION_API void pinion_print_mdl(PMDL mdl);

/* One IRP and its stack locations, as !irp. */
PINION_API void pinion_print_irp(PIRP irp);

/* One DMA adapter and what is out, as !dma; NULL: all adapters, a line each. */
PINION_API void pinion_print_adapter(PDMA_ADAPTER adapter);

/* Locked pages by process, and the MDLs that lock them. */
PINION_API void pinion_print_locked_pages(void);

/* What is mapped into system space, as !sysptes 4. */
PINION_API void pinion_print_system_ptes(void);

/* The verifier's settings, what it has counted, and the MDLs that are alive, as !verifier 3. */
PINION_API void pinion_print_verifier(void);

/* Where the printers of the calling thread write from now on; NULL: to stderr. */
PINION_API void pinion_print_to(FILE *stream);

/*
 * For debuggers: from 1 to 0, the printers of the calling thread write into the text that this returns, and a place in the code is its
 * address in angle brackets. Neither memory nor a lock of the C library is taken.
 */
PINION_API const char *pinion_print_to_debugger(int on);

#ifdef __cplusplus
}
#endif

#endif
