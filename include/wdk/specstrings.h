/* SPDX-License-Identifier: MIT */
/* The older name under which driver sources include the annotations. */
#ifndef PINION_WDK_SPECSTRINGS_H
#define PINION_WDK_SPECSTRINGS_H

#include "driverspecs.h"
#include "sal.h"

#endif /* PINION_WDK_SPECSTRINGS_H */
