/* SPDX-License-Identifier: MIT */
/*
 * The header of a Windows driver. Written from the published documentation; the parts are in wdm/, a file per
 * domain, and each compiles alone.
 *
 * A routine is declared only if the library implements it as its page says. The comment of each names what it
 * does, the IRQL it may be called at, and the page.
 */
#ifndef PINION_WDK_WDM_H
#define PINION_WDK_WDM_H

#include "ntdef.h"
#include "ntstatus.h"
#include "bugcodes.h"

#include "wdm/debug.h"
#include "wdm/interlocked.h"
#include "wdm/rtl.h"
#include "wdm/ke.h"
#include "wdm/ex.h"
#include "wdm/mm.h"
#include "wdm/parameters.h"
#include "wdm/device.h"
#include "wdm/irp.h"
#include "wdm/io.h"
#include "wdm/dma.h"

#endif /* PINION_WDK_WDM_H */
