/* SPDX-License-Identifier: MIT */
/*
 * IoBuildPartialMdl: what stops a driver that names a range outside the source or a target too small, that locks or
 * unlocks a part, or that goes on with an MDL whose time is over.
 */

#include "harness.h"
#include <wdm.h>

#include "io_stack.h"
#include "partial.h"

#include <string.h>

/* ---- Range and target ------------------------------------------------------------------------------------------ */

/* Ranges that are not inside the source: at, start and length; relative to the source's start, or absolute. */
struct bad_range {
    const char *name;
    LONG64 at;
    ULONG bytes;
};

static const struct bad_range bad_ranges[] = {
    {"one byte before the source", -1, 1},
    {"starts a byte before the source", -1, 2},
    {"starts a page before the source", -PAGE_SIZE, 1},
    {"ends a byte past the source", 0, SOURCE_BYTES + 1},
    {"last byte and the next", SOURCE_BYTES - 1, 2},
    {"first byte behind the source", SOURCE_BYTES, 1},
    {"rest of the page behind the source", SOURCE_BYTES, 0},
    {"the rest, from past the end", SOURCE_BYTES + 1, 0},
    {"far behind the source", SOURCE_BYTES + 100 * PAGE_SIZE, PAGE_SIZE},
    {"inside, but as long as can be", 1, MAXULONG},
    {"as long as the source, a byte late", 1, SOURCE_BYTES},
};

/* What the child shares with the test: the arguments, and a target in memory that both see. */
struct bad_build {
    const struct bad_range *range;
    uint64_t *words;
};

enum { WORD_SOURCE, WORD_TARGET, WORD_VA, WORD_LENGTH, WORD_COPY = 16, WORD_MDL = 64, WORDS_OF_MDL = 32 };

/* An MDL in the shared page with room for 20 page numbers, filled with something to be recognised. */
static PMDL shared_target(uint64_t *words)
{
    const PMDL target = (PMDL)(words + WORD_MDL);

    for (int i = 0; i < WORDS_OF_MDL; i++)
        words[WORD_MDL + i] = 0x5151515151515151 + (uint64_t)i;
    target->Process = NULL;
    target->MappedSystemVa = NULL;
    MmInitializeMdl(target, NULL, 20 * PAGE_SIZE);
    memcpy(words + WORD_COPY, target, WORDS_OF_MDL * sizeof(uint64_t));
    return target;
}

static void build_bad_range(void *context)
{
    const struct bad_build *const bad = context;
    const struct source source = make_source();
    UCHAR *const va = source.va + bad->range->at;
    const PMDL target = shared_target(bad->words);

    bad->words[WORD_SOURCE] = (uintptr_t)source.mdl;
    bad->words[WORD_TARGET] = (uintptr_t)target;
    bad->words[WORD_VA] = (uintptr_t)va;
    bad->words[WORD_LENGTH] = bad->range->bytes;
    IoBuildPartialMdl(source.mdl, target, va, bad->range->bytes);
}

/* IoBuildPartialMdl-13, IoBuildPartialMdl-44: a range that is not inside the source, by a byte or by far, or that is
   "the rest" from its end on (ruling 10), stops with the four arguments, before anything is written (ruling 11). */
TEST_UNTIDY(io_build_partial_mdl_refused, build__range_outside_the_source__stops)
{
    uint64_t *const words = shared_words();

    C_ASSERT(WORD_COPY + WORDS_OF_MDL <= WORD_MDL);
    for (SIZE_T i = 0; i < ARRAYSIZE(bad_ranges); i++) {
        struct bad_build bad = {&bad_ranges[i], words};
        const struct stop stop = run_until_stop(build_bad_range, &bad);

        if (!stop.stopped || stop.code != 0x12E)
            harness_fail(HARNESS_HERE, "a range that is %s does not stop with 0x12E: %s", bad_ranges[i].name,
                         stop.stderr_text);
        EXPECT_EQ(stop.p[0], words[WORD_SOURCE]);
        EXPECT_EQ(stop.p[1], words[WORD_TARGET]);
        EXPECT_EQ(stop.p[2], words[WORD_VA]);
        EXPECT_EQ(stop.p[3], words[WORD_LENGTH]);
        EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
    }
}

/* IoBuildPartialMdl-13: without the verifier the same ranges leave the target as it was (ruling 11). */
TEST(io_build_partial_mdl_refused, build__range_outside_the_source_without_the_verifier__changes_nothing)
{
    static uint64_t words[WORD_MDL + WORDS_OF_MDL];

    boot("verifier=off");
    const struct source source = make_source();
    const PMDL target = shared_target(words);
    const struct pinion_counters before = counters_now();
    for (SIZE_T i = 0; i < ARRAYSIZE(bad_ranges); i++) {
        IoBuildPartialMdl(source.mdl, target, source.va + bad_ranges[i].at, bad_ranges[i].bytes);
        EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
    }
    EXPECT_SAME_COUNTERS(before);
    release_source(&source);
}

static void build_from_mapped_address(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    UCHAR *const system = system_address(source.mdl);

    words[0] = (uintptr_t)system + 100;
    IoBuildPartialMdl(source.mdl, mdl_over(system + 100, 10), system + 100, 10);
}

/* IoBuildPartialMdl-09, IoBuildPartialMdl-44: the mapped address of the source is not the one that its ranges are
   counted from. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__range_named_by_the_mapped_address__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(build_from_mapped_address, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x12E);
    EXPECT_EQ(stop.p[2], words[0]);
    EXPECT_EQ(stop.p[3], 10);
}

static void build_into_small_target(HARNESS_UNUSED void *context)
{
    const struct source source = make_source();

    IoBuildPartialMdl(source.mdl, mdl_over(NULL, PAGE_SIZE), source.base + PAGE_SIZE - 1, 2);
}

/* IoBuildPartialMdl-07, IoBuildPartialMdl-43: a target that was allocated for the length, and not for where in its page
   the range starts, is a page too small: it stops, with no parameters. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__target_a_page_too_small__stops)
{
    const struct stop stop = run_until_stop(build_into_small_target, NULL);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x40);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(stop.p[i], 0);
}

static void build_into_small_target_of_mine(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL target = shared_target(words);

    target->Size = sizeof(MDL) + 2 * sizeof(PFN_NUMBER);
    ((PMDL)(words + WORD_COPY))->Size = target->Size;
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE - 1, PAGE_SIZE + 2);
}

/* IoBuildPartialMdl-43: the same holds for a target that the driver made itself, whose Size says what it holds; nothing
   is written into it. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__target_of_the_drivers_own_too_small__stops_and_writes_nothing)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(build_into_small_target_of_mine, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x40);
    EXPECT_MEM_EQ(words + WORD_MDL, words + WORD_COPY, WORDS_OF_MDL * sizeof(uint64_t));
}

/* IoBuildPartialMdl-07: without the verifier a target too small is left as it was (ruling 11). */
TEST(io_build_partial_mdl_refused, build__target_too_small_without_the_verifier__changes_nothing)
{
    struct {
        MDL header;
        PFN_NUMBER page;
    } before;

    boot("verifier=off");
    const struct source source = make_source();
    const PMDL target = mdl_over(NULL, PAGE_SIZE);
    memcpy(&before, target, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE - 1, 2);
    EXPECT_MEM_EQ(target, &before, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.va, 0);
    EXPECT_MEM_EQ(target, &before, sizeof(before));
    IoBuildPartialMdl(source.mdl, target, source.base + PAGE_SIZE, PAGE_SIZE);
    expect_part(source.mdl, target, source.base + PAGE_SIZE, PAGE_SIZE);
    IoFreeMdl(target);
    release_source(&source);
}

/* The Size of an MDL has 16 bits: from 4090 pages on it is negative, from 8186 on it starts again. */
static const SIZE_T page_counts_around_size[] = {4089, 4090, 4091, 8185, 8186, 8187, 8192};

/* IoBuildPartialMdl-07: the room of an allocated target is what it was allocated for, also where its 16-bit Size cannot
   say so. */
SILENT_TEST(io_build_partial_mdl_refused, build__target_larger_than_its_size_can_say__is_large_enough)
{
    UCHAR *const base = user_pages(8193, PAGE_READWRITE);
    const PMDL source = locked_mdl(base, 8193 * PAGE_SIZE);

    for (SIZE_T i = 0; i < ARRAYSIZE(page_counts_around_size); i++) {
        const ULONG bytes = (ULONG)page_counts_around_size[i] * PAGE_SIZE;
        const PMDL part = part_of(source, base + PAGE_SIZE, bytes);

        expect_part(source, part, base + PAGE_SIZE, bytes);
        IoFreeMdl(part);
    }
    unlock_and_free(source);
    pinion_user_free(base);
}

static void build_into_small_large_target(void *context)
{
    const ULONG bytes = (ULONG)(*(const SIZE_T *)context * PAGE_SIZE);
    UCHAR *const base = user_pages(8193, PAGE_READWRITE);

    IoBuildPartialMdl(locked_mdl(base, 8193 * PAGE_SIZE), mdl_over(base, bytes), base + 1, bytes);
}

/* IoBuildPartialMdl-43: and it is too small by a page where it is, however large. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__target_larger_than_its_size_can_say__may_be_too_small)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(page_counts_around_size); i++) {
        const struct stop stop = run_until_stop(build_into_small_large_target, (void *)&page_counts_around_size[i]);

        EXPECT(stop.stopped);
        EXPECT_EQ(stop.code, 0x40);
    }
}

/* ---- Locks ----------------------------------------------------------------------------------------------------- */

static void lock_part(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, 100);

    words[0] = (uintptr_t)part;
    words[1] = mdl_flags(part);
    MmProbeAndLockPages(part, UserMode, IoReadAccess);
}

/* IoBuildPartialMdl-42: a part describes pages that are locked already and must not be locked itself. */
TEST_UNTIDY(io_build_partial_mdl_refused, lock__part__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(lock_part, words, 0xC4, 0xB0);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT(stop.p[3] & MDL_PARTIAL);
}

static void unlock_part(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, 100);

    words[0] = (uintptr_t)part;
    words[1] = mdl_flags(part);
    MmUnlockPages(part);
}

/* IoBuildPartialMdl-42: nor unlocked: the lock is the source's. */
TEST_UNTIDY(io_build_partial_mdl_refused, unlock__part__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = expect_stop(unlock_part, words, 0xC4, 0xB4);

    EXPECT_EQ(stop.p[1], words[0]);
    EXPECT_EQ(stop.p[2], words[1]);
    EXPECT_EQ(stop.p[3], MDL_PARTIAL);
}

/* IoBuildPartialMdl-42: a part takes no lock and gives none back: the pages are locked once, before and after. */
SILENT_TEST(io_build_partial_mdl_refused, build__part__holds_no_lock)
{
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.va, SOURCE_BYTES);

    EXPECT_EQ(counters_now().locked_pages, PAGES);
    MmUnlockPages(source.mdl);
    EXPECT_EQ(counters_now().locked_pages, 0);
    EXPECT_EQ(pinion_trim(), PAGES);
    IoFreeMdl(part);
    IoFreeMdl(source.mdl);
    pinion_user_free(source.base);
}

static void build_over_locked(HARNESS_UNUSED void *context)
{
    const struct source source = make_source();
    const struct source target = make_source();

    IoBuildPartialMdl(source.mdl, target.mdl, source.va, 100);
}

/* A target that holds a lock of its own loses its hold on it: that is reported there and then. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__target_holds_a_lock__is_reported)
{
    const struct stop stop = run_until_stop(build_over_locked, NULL);

    EXPECT_EQ(stop.exit_status, 0);
    EXPECT_EQ(stop_warnings(&stop, "partial-over-locked-mdl"), 1);
}

/* ---- Parts that outlive what they rest on ---------------------------------------------------------------------- */

static void touch_shared_mapping_of_unlocked(void *context)
{
    volatile UCHAR **const address = context;
    const struct source source = make_source();

    system_address(source.mdl);
    const PMDL part = part_of(source.mdl, source.va + 10, 10);
    *address = system_address(part);
    MmUnlockPages(source.mdl);
    (void)**address;
}

/* IoBuildPartialMdl-33: a shared mapping ends with the source's: touching it afterwards stops (ruling 12). */
TEST_UNTIDY(io_build_partial_mdl_refused, touch__shared_mapping_after_the_source_was_unlocked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_shared_mapping_of_unlocked, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0x50);
    EXPECT_EQ(stop.p[0], words[0]);
    EXPECT_EQ(stop.p[1], 0);
}

static void touch_mapping_of_prepared_part(void *context)
{
    volatile UCHAR **const address = context;
    const struct source source = make_source();
    const PMDL child = part_of(source.mdl, source.va, PAGE_SIZE);

    system_address(child);
    const PMDL grandchild = part_of(child, source.va + 10, 10);
    MmPrepareMdlForReuse(child);
    *address = system_address(grandchild);
    (void)**address;
}

/* IoBuildPartialMdl-33: nor may a part of a part use the mapping after the part between released it (ruling 7). */
TEST_UNTIDY(io_build_partial_mdl_refused, touch__mapping_that_the_part_between_released__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(touch_mapping_of_prepared_part, words);

    EXPECT(stop.stopped);
    EXPECT(stop.code == 0x50 || stop.code == 0xC4);
}

static void map_part_of_unlocked(void *context)
{
    uint64_t *const words = context;
    const struct source source = make_source();
    const PMDL part = part_of(source.mdl, source.base + PAGE_SIZE, 2 * PAGE_SIZE);

    words[0] = (uintptr_t)part;
    MmUnlockPages(source.mdl);
    MmGetSystemAddressForMdlSafe(part, NORMAL_NX);
}

/* IoBuildPartialMdl-19, IoBuildPartialMdl-27: a part cannot be mapped once its source was unlocked: its pages are not
   locked any more. */
TEST_UNTIDY(io_build_partial_mdl_refused, map__part_of_a_source_that_was_unlocked__stops)
{
    uint64_t *const words = shared_words();
    const struct stop stop = run_until_stop(map_part_of_unlocked, words);

    EXPECT(stop.stopped);
    EXPECT_EQ(stop.code, 0xC4);
    EXPECT(stop.p[0] == 0x85 || stop.p[0] == 0xB3);
    EXPECT_EQ(stop.p[1], words[0]);
}

/* ---- The MDL of a request -------------------------------------------------------------------------------------- */

/* Which argument the MDL of a request is that was completed before. */
enum late_argument { LATE_SOURCE, LATE_TARGET };

/* How the request came to the driver. */
enum request_kind { REQUEST_READ, REQUEST_WRITE, REQUEST_IOCTL, REQUEST_INTERNAL_IOCTL, REQUEST_KINDS };

struct late_use {
    enum request_kind kind;
    enum late_argument argument;
    uint64_t *words;
};

#define IOCTL_DIRECT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_OUT_DIRECT, FILE_ANY_ACCESS)

static const struct late_use *late_use;
static PMDL other_mdl;      /* of the driver's own, locked */
static PVOID other_va;

/* A driver that completes the request first and looks at its MDL afterwards. */
static NTSTATUS complete_and_build(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    PVOID const va = MmGetMdlVirtualAddress(mdl);

    late_use->words[0] = (uintptr_t)mdl;
    layer_complete(irp, STATUS_SUCCESS, MmGetMdlByteCount(mdl));
    if (late_use->argument == LATE_SOURCE)
        IoBuildPartialMdl(mdl, other_mdl, va, 10);
    else
        IoBuildPartialMdl(other_mdl, mdl, other_va, 10);
    return STATUS_SUCCESS;
}

/* The same work in the right order. */
static NTSTATUS build_and_complete(HARNESS_UNUSED struct layer *layer, PIRP irp)
{
    const PMDL mdl = irp->MdlAddress;
    const ULONG bytes = MmGetMdlByteCount(mdl);
    const PMDL part = part_of(mdl, (PUCHAR)MmGetMdlVirtualAddress(mdl) + 10, 10);

    EXPECT_PATTERN_AT(system_address(part), 10, SEED, 10);
    IoFreeMdl(part);
    return layer_complete(irp, STATUS_SUCCESS, bytes);
}

static NTSTATUS free_mdl_and_irp(HARNESS_UNUSED PDEVICE_OBJECT device, PIRP irp, HARNESS_UNUSED PVOID context)
{
    unlock_and_free(irp->MdlAddress);
    irp->MdlAddress = NULL;
    IoFreeIrp(irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* A request that another driver makes, and whose MDL that driver frees when it is back. */
static void send_internal_ioctl(PDEVICE_OBJECT device, PVOID buffer, ULONG bytes)
{
    const PIRP irp = IoAllocateIrp(device->StackSize, FALSE);

    irp->MdlAddress = locked_mdl(buffer, bytes);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    IoSetCompletionRoutine(irp, free_mdl_and_irp, NULL, TRUE, TRUE, TRUE);
    IoCallDriver(device, irp);
}

static void send_request(PFILE_OBJECT file, PDEVICE_OBJECT device, enum request_kind kind, PVOID buffer, ULONG bytes)
{
    struct pinion_request request = {.operation = PINION_READ, .buffer = buffer, .bytes = bytes};
    uint64_t information;

    switch (kind) {
    case REQUEST_WRITE:
        request.operation = PINION_WRITE;
        /* fall through */
    case REQUEST_READ:
        EXPECT_STATUS(pinion_transfer(file, &request), STATUS_SUCCESS);
        break;
    case REQUEST_IOCTL:
        EXPECT_STATUS(pinion_control(file, IOCTL_DIRECT, NULL, 0, buffer, bytes, &information), STATUS_SUCCESS);
        break;
    default:
        send_internal_ioctl(device, buffer, bytes);
    }
}

/* One request of each kind to a direct-I/O device with this dispatch routine. */
static void run_requests(NTSTATUS (*dispatch)(struct layer *, PIRP), enum request_kind first, enum request_kind last)
{
    UCHAR *const buffer = user_pattern(2, SEED);
    struct layer layer;
    PFILE_OBJECT file;

    layer_create(&layer, DO_DIRECT_IO, dispatch);
    EXPECT_STATUS(pinion_open(layer.device, &file), STATUS_SUCCESS);
    for (enum request_kind kind = first; kind <= last; kind++)
        send_request(file, layer.device, kind, buffer, 2 * PAGE_SIZE);
    pinion_close(file);
    layer_destroy(&layer);
    pinion_user_free(buffer);
}

static void use_mdl_of_completed_request(void *context)
{
    late_use = context;
    other_va = user_pattern(1, SEED);
    other_mdl = late_use->argument == LATE_SOURCE ? mdl_over(other_va, 100 * PAGE_SIZE) : locked_mdl(other_va, 100);
    run_requests(complete_and_build, late_use->kind, late_use->kind);
}

/* IoBuildPartialMdl-38, IoBuildPartialMdl-45: once a read, a write or a device control has been completed its MDL is
   gone: a driver that kept it and passes it, as the source or as the target, is stopped, and the MDL named. */
TEST_UNTIDY(io_build_partial_mdl_refused, build__mdl_of_a_completed_request__stops)
{
    static const char *const kinds[] = {"read", "write", "device control", "internal device control"};
    uint64_t *const words = shared_words();

    for (enum request_kind kind = 0; kind < REQUEST_KINDS; kind++) {
        for (enum late_argument argument = LATE_SOURCE; argument <= LATE_TARGET; argument++) {
            struct late_use late = {kind, argument, words};

            words[0] = 0;
            const struct stop stop = run_until_stop(use_mdl_of_completed_request, &late);
            if (!stop.stopped || stop.code != 0xCC)
                harness_fail(HARNESS_HERE, "%s, argument %d: no stop 0xCC, but: %s", kinds[kind], argument + 1,
                             stop.stderr_text);
            EXPECT_EQ(stop.p[0], words[0]);
        }
    }
}

/* IoBuildPartialMdl-38, IoBuildPartialMdl-45: before the request is completed, its MDL is a source like any other. */
SILENT_TEST(io_build_partial_mdl_refused, build__mdl_of_a_request_in_progress__is_legal)
{
    run_requests(build_and_complete, 0, REQUEST_KINDS - 1);
}
