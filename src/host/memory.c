/* SPDX-License-Identifier: MIT */
/*
 * Address space and the file that is RAM. Every change to a mapping goes through here and is counted, so that a test
 * can say "this made no system call", whoever looks on.
 */

#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic uint64_t calls;

static int counted(int result)
{
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return result == 0 ? 0 : -errno;
}

uint64_t host_calls(void)
{
    return atomic_load_explicit(&calls, memory_order_relaxed);
}

int host_ram_create(struct host_ram *ram, size_t bytes)
{
    ram->bytes = bytes;
    ram->fd = memfd_create("pinion-ram", MFD_CLOEXEC);
    if (ram->fd < 0)
        return -errno;
    if (ftruncate(ram->fd, (off_t)bytes) != 0) {
        const int error = -errno;

        close(ram->fd);
        return error;
    }
    return 0;
}

void host_ram_destroy(struct host_ram *ram)
{
    close(ram->fd);
    ram->fd = -1;
}

int host_ram_discard(const struct host_ram *ram, size_t off, size_t bytes)
{
    return counted(fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)bytes));
}

static int map_anonymous(size_t bytes, int protection, void **base)
{
    void *at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return counted(-1);
    *base = at;
    return counted(0);
}

/* Exactly as host_revoke maps, so that the kernel joins a range that is revoked with its neighbours. */
int host_reserve(size_t bytes, void **base)
{
    return map_anonymous(bytes, PROT_NONE, base);
}

int host_table(size_t bytes, void **base)
{
    return map_anonymous(bytes, PROT_READ | PROT_WRITE, base);
}

void host_table_clear(void *base, size_t bytes)
{
    if (counted(madvise(base, bytes, MADV_DONTNEED)) != 0)
        memset(base, 0, bytes);
}

void host_release(void *base, size_t bytes)
{
    if (base != NULL)
        counted(munmap(base, bytes));
}

static int protection_of(unsigned access)
{
    int protection = PROT_NONE;

    if (access & HOST_READ)
        protection |= PROT_READ;
    if (access & HOST_WRITE)
        protection |= PROT_READ | PROT_WRITE;
    if (access & HOST_EXEC)
        protection |= PROT_EXEC;
    return protection;
}

int host_map(const struct host_ram *ram, size_t off, void *at, size_t bytes, unsigned access)
{
    const int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;

    return counted(mmap(at, bytes, protection_of(access), flags, ram->fd, (off_t)off) == MAP_FAILED ? -1 : 0);
}

int host_revoke(void *at, size_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

    return counted(mmap(at, bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED ? -1 : 0);
}

int host_protect(void *at, size_t bytes, unsigned access)
{
    return counted(mprotect(at, bytes, protection_of(access)));
}

int host_fence(void *at, size_t bytes, bool shut)
{
    return mprotect(at, bytes, protection_of(shut ? HOST_NONE : HOST_READ | HOST_WRITE)) == 0 ? 0 : -errno;
}

/* Reading it from the outside, as a debugger would, reports what a load would fault on. Where that is forbidden, mincore knows less. */
bool host_is_readable(const void *va)
{
    unsigned char resident;
    char byte;
    const struct iovec to = {&byte, 1}, from = {(void *)(uintptr_t)va, 1};

    if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1)
        return true;
    if (errno == EFAULT)
        return false;
    return mincore((void *)((uintptr_t)va & ~(uintptr_t)(HOST_PAGE_SIZE - 1)), 1, &resident) == 0;
}
