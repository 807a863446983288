/* SPDX-License-Identifier: MIT */
/*
 * How much memory does it take? Bytes of an MDL, of a frame's entry, of an object on the verifier's record: by how much the
 * process's resident memory grows with many of them, in a child that boots for this one question.
 */

#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES = 262144, OBJECTS = 500000 };

/* Of a limit: what caches, lists of free blocks and the ends of pages add to a measurement of many. */
#define ALLOWANCE 1.02

#define MDL_BYTES ((size_t)64 << 20)    /* of page numbers, about, in the MDLs of one question */

/* Without the RAM of the machine itself, which is a shared file. */
static double resident_bytes(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    double kib = NAN;

    while (status != NULL && fgets(line, sizeof(line), status) != NULL)
        if (sscanf(line, "RssAnon: %lf kB", &kib) == 1)
            break;
    if (status != NULL)
        fclose(status);
    return kib * 1024;
}

/* ---- MDLs ---- */

struct mdls {
    const char *options;
    size_t      npages;
    size_t      count;
    bool        filled;                 /* store the page numbers: all of the MDL becomes resident */
};

static PMDL *alive;

static void fill(PMDL mdl, const struct mdls *mdls)
{
    if (mdl == NULL)
        abort();
    if (mdls->filled)
        memset(MmGetMdlPfnArray(mdl), 1, mdls->npages * sizeof(PFN_NUMBER));
}

static double bytes_of_mdl(const void *context)
{
    const struct mdls *mdls = context;
    double before;

    pinion_boot(mdls->options);
    alive = malloc(mdls->count * sizeof(*alive));
    memset(alive, 1, mdls->count * sizeof(*alive));
    IoFreeMdl(IoAllocateMdl((PVOID)0x10000, PAGE_SIZE, FALSE, FALSE, NULL));
    before = resident_bytes();
    for (size_t i = 0; i < mdls->count; i++)
        fill(alive[i] = IoAllocateMdl((PVOID)0x10000, (ULONG)(mdls->npages * PAGE_SIZE), FALSE, FALSE, NULL), mdls);
    return (resident_bytes() - before) / (double)mdls->count;
}

/* ---- frames ---- */

/* Pages of which nothing but their entries in the table is touched. */
static double bytes_of_frame(const void *context)
{
    const PHYSICAL_ADDRESS low = {.QuadPart = 0}, high = {.QuadPart = -1}, skip = {.QuadPart = 0};
    double before;
    PMDL mdl;

    pinion_boot(context);
    before = resident_bytes();
    mdl = MmAllocatePagesForMdlEx(low, high, skip, (SIZE_T)FRAMES * PAGE_SIZE, MmCached, MM_DONT_ZERO_ALLOCATION);
    if (mdl == NULL || MmGetMdlByteCount(mdl) != FRAMES * (SIZE_T)PAGE_SIZE)
        return NAN;
    return (resident_bytes() - before) / FRAMES;
}

/* ---- in a child ---- */

static double in_child(double (*measure)(const void *context), const void *context)
{
    double value = NAN;
    int ends[2];

    if (pipe(ends) != 0)
        return NAN;
    if (fork() == 0) {
        value = measure(context);
        _exit(write(ends[1], &value, sizeof(value)) == sizeof(value) ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &value, sizeof(value)) != sizeof(value))
        value = NAN;
    close(ends[0]);
    return value;
}

static double measure_mdl(const void *context)
{
    return in_child(bytes_of_mdl, context);
}

static double measure_frame(const void *context)
{
    return in_child(bytes_of_frame, context);
}

/*
 * What an MDL takes with the verifier, beyond what it takes without; without special pool, which is not the record, and of which there is
 * only so much.
 */
static double measure_record(const void *context)
{
    static const struct mdls without = {"verifier=off", 1, OBJECTS, false};

    return in_child(bytes_of_mdl, context) - in_child(bytes_of_mdl, &without);
}

static size_t count_for(size_t npages)
{
    return MDL_BYTES / (64 + npages * sizeof(PFN_NUMBER));
}

int main(int argc, char **argv)
{
    const struct mdls one = {"verifier=off", 1, count_for(1), true}, sixteen = {"verifier=off", 16, count_for(16), true},
                      large = {"verifier=off", 256, count_for(256), true}, huge = {"verifier=off", 16384, count_for(16384), true},
                      recorded = {"verifier=0x9B8", 1, OBJECTS, false};
    const struct bench_value values[] = {
        {"16", "memory of an MDL, 1 page", "bytes", 128 * ALLOWANCE, measure_mdl, &one},
        {"16", "memory of an MDL, 16 pages", "bytes", (64 + 8 * 16) * ALLOWANCE, measure_mdl, &sixteen},
        {"16", "memory of an MDL, 256 pages", "bytes", (64 + 8 * 256) * ALLOWANCE, measure_mdl, &large},
        {"16", "memory of an MDL, 16384 pages", "bytes", (64 + 8 * 16384) * ALLOWANCE, measure_mdl, &huge},
        {"16", "memory of a frame's entry", "bytes", 16 * ALLOWANCE, measure_frame, "verifier=off:ram=4G"},
        {"16", "memory of an MDL on the verifier's record", "bytes", 256 * ALLOWANCE, measure_record, &recorded},
    };

    return bench_run_values(argc, argv, values, sizeof(values) / sizeof(values[0]));
}
