/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target for the splitter. An input is a call that fails, and up to four reads that are under way together:
 *
 *     routine, nth     offset, bytes (3 bytes each)     offset, bytes     ...
 *
 * Whatever is asked for, what is returned must be the disk's bytes or the documented failure, nothing may be left behind, and the
 * verifier must have nothing to say.
 */

#include <ntddk.h>
#include <pinion/pinion.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(condition) ((condition) ? (void)0 : (fprintf(stderr, "expected %s\n", #condition), abort()))

enum { DISK_BYTES = 1000000, MOST_BYTES = 256 * 1024, READS = 4, HEAD_BYTES = 2, READ_BYTES = 6 };

static const char *const routines[] = {NULL, "IoAllocateIrp", "IoAllocateMdl", "ExAllocatePool2", "MmProbeAndLockPages"};

static UCHAR disk_bytes[DISK_BYTES];
static PDEVICE_OBJECT disk;
static PDRIVER_OBJECT driver;
static PFILE_OBJECT file;

static struct read {
    struct pinion_request request;
    UCHAR *buffer;
    BOOLEAN ended;
} reads[READS];

DRIVER_INITIALIZE DriverEntry;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static NTSTATUS enter(PDRIVER_OBJECT object, void *registry_path)
{
    return DriverEntry(object, registry_path);
}

static void on_finding(const struct pinion_finding *finding, void *context)
{
    (void)finding, (void)context;
    abort();                            /* it has been printed */
}

static FILE *make_disk_file(void)
{
    FILE *made = tmpfile();

    for (int i = 0; i < DISK_BYTES; i++)
        disk_bytes[i] = (UCHAR)(i * 7 + (i >> 8) * 17 + (i >> 16) * 29);
    REQUIRE(made != NULL && fwrite(disk_bytes, 1, DISK_BYTES, made) == DISK_BYTES && fflush(made) == 0);
    return made;
}

/* Each input has a machine of its own, and requests end in an order that is the same each time: so a crash can be repeated. */
static void start(void)
{
    static FILE *disk_file;
    char path[64];

    if (disk_file == NULL)
        disk_file = make_disk_file();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(disk_file));
    REQUIRE(pinion_boot("ram=64M:disk=turns") == 0);
    pinion_watch_findings(on_finding, NULL);
    REQUIRE(pinion_disk_create(path, 0, &disk) == 0);
    REQUIRE(NT_SUCCESS(pinion_driver_load("splitter", enter, &driver)) && NT_SUCCESS(pinion_driver_start(driver, disk)));
    REQUIRE(NT_SUCCESS(pinion_open(disk, &file)));
    for (int i = 0; i < READS; i++)
        REQUIRE((reads[i].buffer = pinion_user_alloc(MOST_BYTES, PAGE_READWRITE)) != NULL);
}

/* The driver must have left nothing behind. */
static void stop(void)
{
    pinion_close(file);
    REQUIRE(NT_SUCCESS(pinion_driver_remove(disk)));
    pinion_driver_unload(driver);
    pinion_disk_delete(disk);
    for (int i = 0; i < READS; i++)
        pinion_user_free(reads[i].buffer);
    REQUIRE(pinion_shutdown() == 0);
}

static void on_end(struct pinion_request *request)
{
    ((struct read *)request->context)->ended = TRUE;
}

/* The buffer starts anywhere in a page, as the disk offset does. */
static void submit(struct read *read, const uint8_t *data)
{
    const ULONG offset = (data[0] | data[1] << 8 | data[2] << 16) % (DISK_BYTES + PAGE_SIZE);
    const ULONG bytes = (data[3] | data[4] << 8 | data[5] << 16) % (MOST_BYTES - PAGE_SIZE);
    NTSTATUS status;

    read->ended = FALSE;
    read->request = (struct pinion_request){
        .operation = PINION_READ, .buffer = read->buffer + BYTE_OFFSET(offset), .bytes = bytes, .offset = offset, .done = on_end, .context = read};
    status = pinion_submit(file, &read->request);
    if (!read->request.sent)
        read->request.status = status;
}

/* TRUE: it read what it was to read. */
static BOOLEAN check(struct read *read)
{
    const struct pinion_request *request = &read->request;
    const uint64_t there = request->offset < DISK_BYTES ? DISK_BYTES - request->offset : 0;
    const uint64_t expected = request->bytes < there ? request->bytes : there;

    REQUIRE(read->ended == request->sent);      /* else it is lost: pinion_report_lost(file) tells who had it */
    if (request->status == STATUS_INSUFFICIENT_RESOURCES)
        return FALSE;
    REQUIRE(request->status == (expected == 0 && request->bytes != 0 ? STATUS_END_OF_FILE : STATUS_SUCCESS));
    REQUIRE(request->information == expected);
    REQUIRE(expected == 0 || memcmp(request->buffer, disk_bytes + request->offset, expected) == 0);
    return TRUE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *routine = size < HEAD_BYTES ? NULL : routines[data[0] % ARRAYSIZE(routines)];
    int n = 0, failed = 0;

    start();
    if (routine != NULL)
        pinion_fail(routine, 1 + data[1] % 8);
    while (n < READS && HEAD_BYTES + (n + 1u) * READ_BYTES <= size) {
        submit(&reads[n], data + HEAD_BYTES + n * READ_BYTES);
        n++;
    }
    while (pinion_poll() != 0)
        continue;
    if (routine != NULL)
        pinion_fail(routine, 0);
    for (int i = 0; i < n; i++)
        failed += !check(&reads[i]);
    REQUIRE(failed <= (routine != NULL));       /* one failing call, one failing request */
    stop();
    return 0;
}
