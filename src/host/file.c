/* SPDX-License-Identifier: MIT */
/*
 * The file or block device behind a disk: opened once, its size taken once. What can neither be sought nor
 * measured (a directory, a pipe, a terminal) is refused here, so that no request has to be.
 */

#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int measure(int fd, uint64_t *bytes)
{
    struct stat about;

    if (fstat(fd, &about) != 0)
        return -errno;
    if (S_ISDIR(about.st_mode))
        return -EISDIR;
    if (S_ISREG(about.st_mode)) {
        *bytes = (uint64_t)about.st_size;
        return 0;
    }
    if (!S_ISBLK(about.st_mode))
        return -ENOTBLK;
    return ioctl(fd, BLKGETSIZE64, bytes) == 0 ? 0 : -errno;
}

/* io_uring answers EAGAIN instead of waiting for a file that is marked non-blocking. */
static int make_blocking(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 ? 0 : -errno;
}

/* O_NONBLOCK: opening a pipe would wait for its other end, only to be refused. */
int host_file_open(struct host_file *file, const char *path, bool writable)
{
    const int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int error;

    if (fd < 0)
        return -errno;
    *file = (struct host_file){.fd = fd, .writable = writable};
    error = measure(fd, &file->bytes);
    if (error == 0)
        error = make_blocking(fd);
    if (error != 0)
        host_file_close(file);
    return error;
}

void host_file_close(struct host_file *file)
{
    close(file->fd);
    file->fd = -1;
}

int host_file_read(const struct host_file *file, uint64_t off, void *buffer, size_t bytes)
{
    uint8_t *at = buffer;

    while (bytes > 0) {
        const ssize_t got = pread(file->fd, at, bytes, (off_t)off);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return -ENODATA;
        at += got;
        off += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}
