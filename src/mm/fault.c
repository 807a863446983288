/* SPDX-License-Identifier: MIT */
/*
 * Page faults. What an access to an address that is not mapped so means:
 *
 *     process memory, paged pool   trimmed: brought back, or bug check 0xD1 at DISPATCH_LEVEL and above
 *     process memory               guarded: STATUS_GUARD_PAGE_VIOLATION, once; else STATUS_ACCESS_VIOLATION
 *     special pool                 freed, or beside a block or an MDL: bug check 0xCC or 0xCD, 0xD5 or 0xD6 in a driver
 *     system space                 a store to a read-only mapping: bug check 0xBE; else 0x50. No handler sees these
 *     above all user addresses     bug check 0x50: MM_BAD_POINTER is there
 *     host memory                  STATUS_ACCESS_VIOLATION, or the host's own handler
 *
 * Where an exception is said, it is bug check 0xD1 at DISPATCH_LEVEL and above.
 *
 * A division that has no quotient, an instruction that does not exist and a breakpoint are exceptions as well, at any IRQL.
 */

#include "mm/state.h"

enum { FREED_PTE = 0x0 };               /* parameter 4 of bug check 0x50: all of system space has page tables */

/* What was tried, as exceptions and bug checks 0xA and 0xD1 say it, and 0x50 before Windows 10. */
static uint64_t access_code(const struct host_fault *fault)
{
    return fault->access == HOST_EXEC ? 8 : fault->access == HOST_WRITE ? 1 : 0;
}

/* As 0x50 says it since. */
static uint64_t newer_access_code(const struct host_fault *fault)
{
    return fault->access == HOST_EXEC ? 0x10 : fault->access == HOST_WRITE ? 2 : 0;
}

static _Noreturn void stop_in_system_space(const struct host_fault *fault, uint8_t attributes)
{
    if (fault->access == HOST_WRITE && (attributes & MM_READ))
        ke_bug_check(ATTEMPTED_WRITE_TO_READONLY_MEMORY, fault->va, attributes, fault->frame, 0);
    ke_bug_check(PAGE_FAULT_IN_NONPAGED_AREA, fault->va,
                 ke_the_machine.options.windows >= KE_WINDOWS_10 ? newer_access_code(fault) : access_code(fault), fault->ip,
                 FREED_PTE);
}

/* Is the access one that the page permits, so that another thread has mended its cause meanwhile? */
static bool permits(uint8_t attributes, unsigned access)
{
    return (attributes & MM_RESIDENT) && !(attributes & (MM_GUARD | MM_ZOMBIE)) && (attributes & access);
}

/* At DISPATCH_LEVEL and above no fault can be served, and none becomes an exception. */
static void require_low_irql(const struct host_fault *fault)
{
    const KIRQL irql = ke_self()->irql;

    if (irql < DISPATCH_LEVEL)
        return;
    ke_access_refused(fault->va);
    ke_bug_check(DRIVER_IRQL_NOT_LESS_OR_EQUAL, fault->va, irql, access_code(fault), fault->ip);
}

static void ask_whose(const struct machine *machine, const struct host_fault *fault)
{
    const struct ke_access access = mm_access_of(fault);

    if (machine->hooks.access_met_nothing != NULL)
        machine->hooks.access_met_nothing(&access);
}

static enum host_fault_verdict page_in(struct mm_space *space, uint32_t page, const struct host_fault *fault)
{
    require_low_irql(fault);
    mm_space_page_in(&ke_the_machine, space, page, 1);
    return HOST_FAULT_RETRY;
}

static NTSTATUS spring_guard(struct mm_space *space, uint32_t page)
{
    NTSTATUS status;

    host_mutex_lock(&space->lock);
    status = mm_space_prepare_page_locked(space, page, 0);
    host_mutex_unlock(&space->lock);
    return status;
}

static _Noreturn void raise_in_driver(NTSTATUS status, const struct host_fault *fault)
{
    ke_raise_access(status, fault->ip, access_code(fault), fault->va);
}

static enum host_fault_verdict fault_in_space(struct mm_space *space, const struct host_fault *fault)
{
    const uint32_t page = mm_space_page(space, fault->va);
    const uint8_t attributes = atomic_load(&space->attrs[page]);
    const bool used = (attributes & MM_USED) && !(attributes & MM_ZOMBIE);

    if (used && !(attributes & MM_RESIDENT))
        return page_in(space, page, fault);
    if (permits(attributes, fault->access))
        return HOST_FAULT_RETRY;
    if (space->kind != MM_KIND_PROCESS) {
        mm_pool_on_fault(&ke_the_machine, fault);
        stop_in_system_space(fault, attributes);
    }
    require_low_irql(fault);
    if (used && (attributes & MM_GUARD) && spring_guard(space, page) == STATUS_GUARD_PAGE_VIOLATION)
        raise_in_driver(STATUS_GUARD_PAGE_VIOLATION, fault);
    raise_in_driver(STATUS_ACCESS_VIOLATION, fault);
}

/* While nobody would catch it and the host wants faults, they are the host's. */
static bool is_the_hosts(const struct machine *machine)
{
    return machine->options.faults_to_host && ke_self()->exceptions == NULL;
}

static _Noreturn void raise_of_instruction(const struct host_fault *fault)
{
    static const NTSTATUS statuses[] = {
        [HOST_FAULT_DIVIDE] = STATUS_INTEGER_DIVIDE_BY_ZERO,
        [HOST_FAULT_OVERFLOW] = STATUS_INTEGER_OVERFLOW,
        [HOST_FAULT_ILLEGAL] = STATUS_ILLEGAL_INSTRUCTION,
        [HOST_FAULT_BREAKPOINT] = STATUS_BREAKPOINT,
    };

    ke_raise(statuses[fault->kind], fault->ip);
}

enum host_fault_verdict mm_on_fault(const struct host_fault *fault)
{
    struct machine *machine = &ke_the_machine;
    struct mm_space *space;
    uint32_t page;

    if (atomic_load(&machine->state) != KE_MACHINE_RUNNING)
        return HOST_FAULT_CHAIN;
    if (fault->kind != HOST_FAULT_ACCESS) {
        if (is_the_hosts(machine))
            return HOST_FAULT_CHAIN;
        raise_of_instruction(fault);
    }
    switch (mm_classify(machine, fault->va, &space)) {
    case MM_KIND_WINDOW:
        mm_window_page(machine, fault->va, &page);
        if (fault->access == HOST_EXEC && mm_window_execute(machine, page))
            return HOST_FAULT_RETRY;
        stop_in_system_space(fault, 0);
    case MM_KIND_HOST:
        ask_whose(machine, fault);
        if (fault->va > MM_HIGHEST_USER_ADDRESS)
            stop_in_system_space(fault, 0);
        if (is_the_hosts(machine))
            return HOST_FAULT_CHAIN;
        require_low_irql(fault);
        raise_in_driver(STATUS_ACCESS_VIOLATION, fault);
    default:
        return fault_in_space(space, fault);
    }
}
