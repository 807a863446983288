/* SPDX-License-Identifier: MIT */
/*
 * What the debugger looks at: a program that holds one of everything, and stops where a printer has the hardest time.
 *
 * Its memory allocator has a lock of its own: a printer that asked for memory while a thread stands in the allocator would never return.
 */

#include <wdm.h>
#include <pinion/pinion.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile bool armed;

#define APART __attribute__((noinline))

APART static void inside_malloc(void)
{
    __asm__ volatile("");
}

void *malloc(size_t bytes)
{
    void *block;

    pthread_mutex_lock(&lock);
    if (armed)
        inside_malloc();
    block = __libc_malloc(bytes);
    pthread_mutex_unlock(&lock);
    return block;
}

void *calloc(size_t n, size_t bytes)
{
    void *block;

    pthread_mutex_lock(&lock);
    block = __libc_calloc(n, bytes);
    pthread_mutex_unlock(&lock);
    return block;
}

void *realloc(void *block, size_t bytes)
{
    pthread_mutex_lock(&lock);
    block = __libc_realloc(block, bytes);
    pthread_mutex_unlock(&lock);
    return block;
}

APART static void all_is_set_up(PMDL mdl, PIRP irp, PDMA_ADAPTER adapter)
{
    __asm__ volatile("" ::"r"(mdl), "r"(irp), "r"(adapter));
}

APART static PMDL lock_it(void *va)
{
    const PMDL mdl = IoAllocateMdl(va, 2 * PAGE_SIZE, FALSE, FALSE, NULL);

    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    return mdl;
}

int main(void)
{
    const PMDL mdl = lock_it(pinion_user_alloc(2 * PAGE_SIZE, PAGE_READWRITE));
    const PIRP irp = IoAllocateIrp(1, FALSE);
    DEVICE_DESCRIPTION description = {
        .Version = DEVICE_DESCRIPTION_VERSION2, .Master = TRUE, .Dma64BitAddresses = TRUE, .MaximumLength = PAGE_SIZE};
    void *volatile block;
    ULONG registers;
    const PDMA_ADAPTER adapter = IoGetDmaAdapter(pinion_device_create("device"), &description, &registers);

    (void)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute);
    irp->MdlAddress = mdl;
    all_is_set_up(mdl, irp, adapter);
    armed = true;
    block = malloc(1);
    armed = false;
    free(block);
    MmUnlockPages(mdl);
    MmUnlockPages(mdl);
}
