/* SPDX-License-Identifier: MIT */
/* The file behind a disk: what is accepted, what is refused, and its size. */

#include "harness.h"

#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch {
    char path[64];
};

static struct scratch scratch_file(size_t bytes)
{
    struct scratch scratch = {"/tmp/pinion-file-XXXXXX"};
    const int fd = mkstemp(scratch.path);

    EXPECT(fd >= 0);
    EXPECT_EQ(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
    return scratch;
}

/* A regular file opens with its exact size, which need not be a multiple of anything. */
TEST(host_file, open__regular_file__has_its_exact_size)
{
    const struct scratch scratch = scratch_file(12345);
    struct host_file file;

    EXPECT_EQ(host_file_open(&file, scratch.path, false), 0);
    EXPECT_EQ(file.bytes, 12345);
    EXPECT(!file.writable);
    EXPECT_EQ(fcntl(file.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    EXPECT_EQ(fcntl(file.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    host_file_close(&file);
    unlink(scratch.path);
}

/* What is not there, cannot be measured or may not be opened is refused with the error that says so. */
TEST(host_file, open__what_is_no_disk__is_refused)
{
    char folder[] = "/tmp/pinion-fifo-XXXXXX";
    char fifo[64];
    struct host_file file;

    EXPECT_EQ(host_file_open(&file, "/tmp/pinion/there/is/no/such/file", false), -ENOENT);
    EXPECT_EQ(host_file_open(&file, "/tmp", false), -EISDIR);
    EXPECT_EQ(host_file_open(&file, "/tmp", true), -EISDIR);
    EXPECT_EQ(host_file_open(&file, "/dev/null", false), -ENOTBLK);
    EXPECT(mkdtemp(folder) != NULL);
    snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    EXPECT_EQ(mkfifo(fifo, 0600), 0);
    EXPECT_EQ(host_file_open(&file, fifo, false), -ENOTBLK);
    unlink(fifo);
    rmdir(folder);
}

/* host_file_read moves all of the bytes or says that they are not there. */
TEST(host_file, read__whole_or_nothing)
{
    const struct scratch scratch = scratch_file(0);
    struct host_file file;
    char text[8] = {0};
    FILE *stream = fopen(scratch.path, "w");

    EXPECT(stream != NULL);
    fputs("0123456789", stream);
    fclose(stream);
    EXPECT_EQ(host_file_open(&file, scratch.path, false), 0);
    EXPECT_EQ(host_file_read(&file, 3, text, 5), 0);
    EXPECT_MEM_EQ(text, "34567", 5);
    EXPECT_EQ(host_file_read(&file, 6, text, 5), -ENODATA);
    host_file_close(&file);
    unlink(scratch.path);
}
