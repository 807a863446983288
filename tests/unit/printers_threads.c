/* SPDX-License-Identifier: MIT */
/*
 * Printers among threads: while locks are held, by another thread or their own, they wait a moment, say what they could not look at, and
 * leave every lock as it was; while others work, they disturb nobody.
 */

#include "harness.h"

#include "dma/dma.h"
#include "mdl/mdl.h"
#include "pinion/debug.h"
#include "verifier/verifier.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *printed(void (*printer)(void))
{
    const char *const text = pinion_print_to_debugger(1);
    char *copy;

    printer();
    copy = strdup(text);
    pinion_print_to_debugger(0);
    return copy;
}

static PMDL mdl;

static void print_mdl(void)
{
    pinion_print_mdl(mdl);
}

static void print_all_adapters(void)
{
    pinion_print_adapter(NULL);
}

static struct host_mutex *of_record(struct machine *machine)
{
    return &machine->verifier->lock;
}

static struct host_mutex *of_system_ptes(struct machine *machine)
{
    return &machine->mm->system_ptes->lock;
}

static struct host_mutex *of_spaces(struct machine *machine)
{
    return &machine->mm->spaces_lock;
}

static struct host_mutex *of_process(struct machine *machine)
{
    return &machine->mm->initial_process->space->lock;
}

static struct host_mutex *of_adapters(struct machine *machine)
{
    return &machine->dma->lock;
}

static const struct busy_case {
    struct host_mutex *(*lock)(struct machine *machine);
    void             (*printer)(void);
    const char        *says;
} cases[] = {
    {of_record, print_mdl, "   The record is busy\n"},
    {of_record, pinion_print_verifier, "\nThe record is busy: "},
    {of_record, pinion_print_locked_pages, "\nThe record is busy: "},
    {of_record, pinion_print_system_ptes, "  (the record is busy)\n"},
    {of_system_ptes, pinion_print_system_ptes, "The system PTEs are busy.\n"},
    {of_spaces, pinion_print_locked_pages, "The machine is busy: "},
    {of_process, pinion_print_locked_pages, " busy\n"},
    {of_adapters, print_all_adapters, "The list of adapters is busy.\n"},
};

/* The lock is held: the printer says so within a few moments, and leaves it as it is. */
static void expect_busy(const struct busy_case *busy)
{
    struct host_mutex *const lock = busy->lock(ke_machine());
    const uint64_t start = host_now_ns();
    char *text;

    text = printed(busy->printer);
    if (strstr(text, busy->says) == NULL)
        harness_fail(HARNESS_HERE, "expected '%s' in:\n%s", busy->says, text);
    free(text);
    EXPECT(host_now_ns() - start < 5000000000);
    EXPECT(!host_mutex_try_lock(lock));
}

static void set_up(void)
{
    void *const va = pinion_user_alloc(PAGE_SIZE, PAGE_READWRITE);

    mdl = IoAllocateMdl(va, PAGE_SIZE, FALSE, FALSE, NULL);
    MmProbeAndLockPages(mdl, UserMode, IoWriteAccess);
    EXPECT(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute) != NULL);
}

static void tear_down(void)
{
    MmUnlockPages(mdl);
    IoFreeMdl(mdl);
}

/* A thread that stands inside a lock of the machine, as one under a debugger may, can call each printer. */
TEST(printers_threads, own_lock__each_printer__says_busy_and_returns)
{
    set_up();
    for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
        host_mutex_lock(cases[i].lock(ke_machine()));
        expect_busy(&cases[i]);
        host_mutex_unlock(cases[i].lock(ke_machine()));
        free(printed(cases[i].printer));
    }
    tear_down();
}

static struct host_gate held, done;

static void hold(void *lock)
{
    host_mutex_lock(lock);
    host_gate_open(&held);
    host_gate_wait(&done, HOST_FOREVER);
    host_mutex_unlock(lock);
}

/* So can any thread while another one is kept there. */
TEST(printers_threads, lock_of_another_thread__each_printer__says_busy_and_returns)
{
    set_up();
    host_gate_init(&held);
    host_gate_init(&done);
    for (size_t i = 0; i < ARRAYSIZE(cases); i++) {
        struct host_thread thread;

        EXPECT_EQ(host_thread_start(&thread, hold, cases[i].lock(ke_machine())), 0);
        host_gate_wait(&held, HOST_FOREVER);
        expect_busy(&cases[i]);
        host_gate_open(&done);
        host_thread_join(&thread);
    }
    tear_down();
}

/* ---- while the machine is at work ---- */

enum { ROUNDS = 400 };

static atomic_bool finished;

/* MDLs, locks, mappings, processes, IRPs and lists come and go. */
static void work(void *context)
{
    const PDMA_ADAPTER adapter = context;

    for (int i = 0; i < ROUNDS; i++) {
        const PEPROCESS process = pinion_process_create("worker");
        PIRP irp = IoAllocateIrp(1, FALSE);
        PHYSICAL_ADDRESS la;
        PVOID buffer;
        PMDL own;

        pinion_process_attach(process);
        own = IoAllocateMdl(pinion_user_alloc(3 * PAGE_SIZE, PAGE_READWRITE), 3 * PAGE_SIZE, FALSE, FALSE, NULL);
        MmProbeAndLockPages(own, UserMode, IoWriteAccess);
        EXPECT(MmGetSystemAddressForMdlSafe(own, NormalPagePriority | MdlMappingNoExecute) != NULL);
        buffer = adapter->DmaOperations->AllocateCommonBuffer(adapter, PAGE_SIZE, &la, TRUE);
        EXPECT(buffer != NULL);
        adapter->DmaOperations->FreeCommonBuffer(adapter, PAGE_SIZE, la, buffer, TRUE);
        MmUnlockPages(own);
        IoFreeMdl(own);
        IoFreeIrp(irp);
        pinion_process_exit(process);
    }
    atomic_store(&finished, true);
}

/* Printers may look on meanwhile: what they print is whole, and nobody is disturbed. */
TEST(printers_threads, all__while_another_thread_works__print)
{
    DEVICE_DESCRIPTION description = {
        .Version = DEVICE_DESCRIPTION_VERSION2, .Master = TRUE, .Dma64BitAddresses = TRUE, .MaximumLength = PAGE_SIZE};
    FILE *const nowhere = fopen("/dev/null", "w");
    struct host_thread worker;
    PDMA_ADAPTER adapter;
    ULONG registers;
    unsigned rounds = 0;

    set_up();
    adapter = IoGetDmaAdapter(NULL, &description, &registers);
    pinion_print_to(nowhere);
    EXPECT_EQ(host_thread_start(&worker, work, adapter), 0);
    for (; !atomic_load(&finished); rounds++) {
        pinion_print_mdl(mdl);
        pinion_print_adapter(NULL);
        pinion_print_adapter(adapter);
        pinion_print_locked_pages();
        pinion_print_system_ptes();
        pinion_print_verifier();
    }
    host_thread_join(&worker);
    EXPECT(rounds > 0);
    adapter->DmaOperations->PutDmaAdapter(adapter);
    tear_down();
    fclose(nowhere);
}

/* ---- reading what may not be there ---- */

/* All bytes or none are read: across pages, up to one that cannot be read and past it, at the ends of the address space. */
TEST(printers_threads, peek__any_address__copies_or_refuses)
{
    enum { PAGE = HOST_PAGE_SIZE, BYTES = 4 * PAGE };
    static uint8_t copy[BYTES], expected[BYTES];
    void *base;
    uint8_t *bytes;

    EXPECT_EQ(host_table(BYTES, &base), 0);
    bytes = base;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = expected[i] = (uint8_t)(i * 7 + i / PAGE);
    EXPECT(host_peek(bytes, copy, BYTES));
    EXPECT_MEM_EQ(copy, expected, BYTES);
    EXPECT(host_peek(bytes + 1, copy, 2 * PAGE + 5));
    EXPECT_MEM_EQ(copy, expected + 1, 2 * PAGE + 5);
    EXPECT_EQ(host_protect(bytes + 3 * PAGE, PAGE, HOST_NONE), 0);
    EXPECT(host_peek(bytes, copy, 3 * PAGE));
    EXPECT(!host_peek(bytes, copy, 3 * PAGE + 1));
    EXPECT(!host_peek(bytes + 3 * PAGE, copy, 1));
    EXPECT(!host_peek(NULL, copy, 1));
    EXPECT(!host_peek((void *)(UINTPTR_MAX - 8), copy, 16));
    host_release(base, BYTES);
}
