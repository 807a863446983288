/* SPDX-License-Identifier: MIT */
/*
 * What the broken drivers share: a filter that passes every request down. Each of them brings the treatment of reads, with one
 * mistake in it that real drivers have made; filter.c is right.
 */

#pragma once

#include <wdm.h>

#define BROKEN_TAG 'nkrB'

/* The driver's own: treat a read, with the mistake, and pass it down. */
NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp);

/* Hand the request to the device below, as it is. */
NTSTATUS PassDown(PDEVICE_OBJECT Lower, PIRP Irp);
