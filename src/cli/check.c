/* SPDX-License-Identifier: MIT */
/*
 * What came back, and what should have: every byte of every request is compared with the truth, and the bytes in front
 * of and behind a buffer are looked at too.
 *
 *     | guard | buffer of the request | guard |
 *
 * Of a file that is only read, the file itself is the truth, read a second time without the driver. Of a file that is
 * written, each sector's contents follow from the seed, the sector's number and the write that filled it, so they need
 * not be kept anywhere.
 */

#include "cli/cli.h"

#include "rtl/mix.h"

#include <string.h>

enum { MOST_COMPLAINTS = 5, CHUNK_SECTORS = 2048, GUARD_BYTE = 0xA5 };

/* ---- random numbers: a counter, scrambled ---- */

uint64_t random_next(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15ull;
    return rtl_mix(*state);
}

uint64_t random_seeded(uint64_t seed, uint64_t a, uint64_t b)
{
    return rtl_mix(rtl_mix(rtl_mix(seed + 1) ^ a) + b);
}

void truth_of_write(uint64_t seed, uint64_t sector, uint32_t generation, unsigned char out[SECTOR_BYTES])
{
    uint64_t state = random_seeded(seed, sector, generation);

    for (unsigned i = 0; i < SECTOR_BYTES; i += sizeof(uint64_t)) {
        const uint64_t word = random_next(&state);

        memcpy(out + i, &word, sizeof(word));
    }
}

/* ---- guards ---- */

void guards_set(const struct pinion_request *request)
{
    unsigned char *buffer = request->buffer;

    memset(buffer - GUARD_BYTES, GUARD_BYTE, GUARD_BYTES);
    memset(buffer + request->bytes, GUARD_BYTE, GUARD_BYTES);
}

bool guards_hold(const struct pinion_request *request)
{
    const unsigned char *buffer = request->buffer;

    for (int i = 0; i < GUARD_BYTES; i++)
        if (buffer[i - GUARD_BYTES] != GUARD_BYTE || buffer[request->bytes + (unsigned)i] != GUARD_BYTE)
            return false;
    return true;
}

/* ---- comparing ---- */

/* A driver that is wrong is usually wrong each time; the first few times tell enough. */
static bool may_complain(struct load *load)
{
    return atomic_fetch_add(&load->complaints, 1) < MOST_COMPLAINTS;
}

static const char *verb(const struct pinion_request *request)
{
    return request->operation == PINION_READ ? "read" : "write";
}

static void complain_of_request(struct load *load, const struct pinion_request *request, const char *what)
{
    if (may_complain(load))
        cli_complain(0, "a %s of %u bytes at offset %llu %s", verb(request), request->bytes,
                     (unsigned long long)request->offset, what);
}

/* Compare bytes that stand at this offset of the file. */
static void compare(struct load *load, struct tally *tally, uint64_t off, const unsigned char *got,
                    const unsigned char *expected, size_t bytes)
{
    size_t first = bytes, wrong = 0;

    tally->verified_bytes += bytes;
    if (memcmp(got, expected, bytes) == 0)
        return;
    for (size_t i = bytes; i-- > 0;) {
        if (got[i] != expected[i]) {
            first = i;
            wrong++;
        }
    }
    tally->wrong_bytes += wrong;
    if (may_complain(load))
        cli_complain(0, "wrong data: byte %llu of the file is 0x%02X, the driver made it 0x%02X "
                     "(%zu of %zu bytes from offset %llu differ)", (unsigned long long)(off + first), expected[first],
                     got[first], wrong, bytes, (unsigned long long)off);
}

static void fill_written(const struct load *load, uint64_t off, unsigned char *expected, uint64_t nsectors)
{
    const uint64_t first = off / SECTOR_BYTES;

    for (uint64_t i = 0; i < nsectors; i++)
        truth_of_write(load->options->seed, first + i, load->generations[first + i], expected + i * SECTOR_BYTES);
}

static void compare_read(struct slot *slot, size_t bytes)
{
    struct worker *worker = slot->worker;
    struct load *load = worker->load;
    const struct pinion_request *request = &slot->request;

    if (load->generations != NULL)
        fill_written(load, request->offset, worker->expected, bytes / SECTOR_BYTES);
    else if (host_file_read(load->file, request->offset, worker->expected, bytes) != 0) {
        worker->tally.failed++;
        complain_of_request(load, request, "cannot be checked: the file cannot be read without the driver either");
        return;
    }
    compare(load, &worker->tally, request->offset, request->buffer, worker->expected, bytes);
}

/* ---- one request ---- */

/* The bytes that it has to move: less than it asks for only at the end of the file. */
static uint64_t due_bytes(const struct slot *slot)
{
    const uint64_t left = slot->worker->load->file->bytes - slot->request.offset;

    return left < slot->request.bytes ? left : slot->request.bytes;
}

static bool ended_well(struct slot *slot, uint64_t due)
{
    struct load *load = slot->worker->load;
    struct tally *tally = &slot->worker->tally;
    const struct pinion_request *request = &slot->request;
    char what[96];

    if (!NT_SUCCESS(request->status)) {
        tally->failed++;
        tally->failed_with = request->status;
        if (load->options->fail_period == 0) {
            snprintf(what, sizeof(what), "failed with %s", cli_status(request->status));
            complain_of_request(load, request, what);
        }
        return false;
    }
    if (request->information != due) {
        tally->cut_short++;
        snprintf(what, sizeof(what), "moved %llu bytes of %llu", (unsigned long long)request->information,
                 (unsigned long long)due);
        complain_of_request(load, request, what);
    }
    return true;
}

static void note_written(struct slot *slot, bool whole)
{
    struct load *load = slot->worker->load;
    const uint64_t first = slot->request.offset / SECTOR_BYTES;

    for (uint64_t i = 0; i < slot->request.bytes / SECTOR_BYTES; i++)
        load->generations[first + i] = whole ? slot->generation : GENERATION_UNKNOWN;
    slot->reads_back = whole && load->checking;
}

void check_request(struct slot *slot)
{
    struct worker *worker = slot->worker;
    const struct pinion_request *request = &slot->request;
    const uint64_t due = due_bytes(slot);
    const bool ended = ended_well(slot, due);
    const uint64_t moved = !ended ? 0 : request->information < due ? request->information : due;

    worker->tally.requests++;
    worker->tally.bytes += moved;
    if (!guards_hold(request)) {
        worker->tally.guards_broken++;
        complain_of_request(worker->load, request, "touched memory beside its buffer");
    }
    if (request->operation == PINION_WRITE)
        note_written(slot, moved == request->bytes);
    else if (moved > 0 && worker->load->checking)
        compare_read(slot, (size_t)moved);
}

/* ---- the whole file, after writes ---- */

/* Put the truth about one sector into `expected`, which holds the original if there is one. False: it is not known. */
static bool know_sector(const struct load *load, uint64_t sector, bool original, unsigned char *expected)
{
    const uint32_t generation = load->generations[sector];

    if (generation == GENERATION_UNKNOWN)
        return false;
    if (generation == 0)
        return original;
    truth_of_write(load->options->seed, sector, generation, expected);
    return true;
}

static void check_chunk(struct load *load, struct tally *sum, uint64_t off, size_t bytes, bool original,
                        const unsigned char *got, unsigned char *expected)
{
    for (size_t i = 0; i < bytes; i += SECTOR_BYTES) {
        const size_t length = bytes - i < SECTOR_BYTES ? bytes - i : SECTOR_BYTES;

        /* The last sector may be a part of one: no write has been there. */
        if (length < SECTOR_BYTES ? original : know_sector(load, (off + i) / SECTOR_BYTES, original, expected + i))
            compare(load, sum, off + i, got + i, expected + i, length);
    }
}

bool check_written(struct load *load, const struct host_file *original, struct tally *sum)
{
    static unsigned char got[CHUNK_SECTORS * SECTOR_BYTES], expected[sizeof(got)];
    const uint64_t end = load->file->bytes, start_ns = host_now_ns();

    for (uint64_t off = 0; off < end && !host_interrupted(); off += sizeof(got)) {
        const size_t bytes = end - off < sizeof(got) ? (size_t)(end - off) : sizeof(got);

        if (host_file_read(load->file, off, got, bytes) != 0 ||
            (original != NULL && host_file_read(original, off, expected, bytes) != 0))
            return cli_complain(false, "the file cannot be read back at offset %llu", (unsigned long long)off);
        check_chunk(load, sum, off, bytes, original != NULL, got, expected);
        progress_show("comparing", (double)(off + bytes) / (double)end, off + bytes, host_now_ns() - start_ns);
    }
    progress_clear();
    return true;
}
