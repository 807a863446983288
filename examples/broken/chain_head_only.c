/* SPDX-License-Identifier: MIT */
/*
 * A chain of which only the head is freed.
 *
 * Caught: 0xC4/0x62
 */

#include "filter.h"

NTSTATUS BrokenRead(PDEVICE_OBJECT Lower, PIRP Irp)
{
    PMDL head = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);

    if (head == NULL)
        return PassDown(Lower, Irp);
    head->Next = IoAllocateMdl(NULL, PAGE_SIZE, FALSE, FALSE, NULL);
    IoFreeMdl(head);                                        /* and head->Next? */
    return PassDown(Lower, Irp);
}
