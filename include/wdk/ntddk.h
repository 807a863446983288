/* SPDX-License-Identifier: MIT */
/* The header of a driver that is not content with <wdm.h>. What it adds on Windows is in wdm/ here, next
   to its kin. */
#ifndef PINION_WDK_NTDDK_H
#define PINION_WDK_NTDDK_H

#include "wdm.h"

#endif /* PINION_WDK_NTDDK_H */
