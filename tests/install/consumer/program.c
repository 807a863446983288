/* SPDX-License-Identifier: MIT */
/*
 * The smallest program of a driver author, built from outside the tree: both wrappers that must be found before the
 * headers they wrap, a wide literal, an MDL over a host address.
 */

#include <limits.h>
#include <wchar.h>
#include <wdm.h>
#include <pinion/pinion.h>

_Static_assert(ULONG_MAX == 0xFFFFFFFF, "limits.h is the wdk's");
_Static_assert(sizeof(L"ab") == 6, "wide characters have 16 bits");

static char buffer[3 * PAGE_SIZE];

int main(void)
{
    const PMDL mdl = IoAllocateMdl(buffer + 100, 2 * PAGE_SIZE, FALSE, FALSE, NULL);

    if (!mdl || MmGetMdlByteCount(mdl) != 2 * PAGE_SIZE)
        return 1;
    MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
    return pinion_shutdown() == 0 ? 0 : 1;
}
