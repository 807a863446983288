/* SPDX-License-Identifier: MIT */
/* What fault.c asks divide.c. */
#ifndef PINION_HOST_DIVIDE_IMPL_H
#define PINION_HOST_DIVIDE_IMPL_H

#include "host/host.h"

/* Of the instruction that a fault of a division stands at: is its divisor zero, rather than its quotient too large? */
bool host_divides_by_zero(const struct host_registers *registers);

#endif
