/* SPDX-License-Identifier: MIT */
/* Bug checks and warnings: the two ways in which a driver's mistake is told. */

#include "ke/ke.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    ULONG       code;
    const char *name;
} names[] = {
#define NAME(code) {code, #code}
    NAME(APC_INDEX_MISMATCH), NAME(DEVICE_QUEUE_NOT_BUSY), NAME(INVALID_DATA_ACCESS_TRAP),
    NAME(INVALID_PROCESS_ATTACH_ATTEMPT), NAME(INVALID_PROCESS_DETACH_ATTEMPT),
    NAME(INVALID_SOFTWARE_INTERRUPT), NAME(IRQL_NOT_DISPATCH_LEVEL), NAME(IRQL_NOT_GREATER_OR_EQUAL),
    NAME(IRQL_NOT_LESS_OR_EQUAL), NAME(NO_EXCEPTION_HANDLING_SUPPORT), NAME(MAXIMUM_WAIT_OBJECTS_EXCEEDED),
    NAME(SPIN_LOCK_ALREADY_OWNED), NAME(SPIN_LOCK_NOT_OWNED), NAME(BAD_POOL_HEADER), NAME(MEMORY_MANAGEMENT),
    NAME(KMODE_EXCEPTION_NOT_HANDLED), NAME(NO_MORE_IRP_STACK_LOCATIONS),
    NAME(DEVICE_REFERENCE_COUNT_NOT_ZERO), NAME(SYSTEM_SERVICE_EXCEPTION), NAME(NO_MORE_SYSTEM_PTES),
    NAME(TARGET_MDL_TOO_SMALL), NAME(MUST_SUCCEED_POOL_EMPTY), NAME(MULTIPLE_IRP_COMPLETE_REQUESTS),
    NAME(INSUFFICIENT_SYSTEM_MAP_REGS), NAME(CANCEL_STATE_IN_COMPLETED_IRP),
    NAME(IRQL_GT_ZERO_AT_SYSTEM_SERVICE), NAME(NO_PAGES_AVAILABLE), NAME(PFN_LIST_CORRUPT),
    NAME(PAGE_FAULT_IN_NONPAGED_AREA), NAME(PROCESS_HAS_LOCKED_PAGES), NAME(BUGCODE_NDIS_DRIVER),
    NAME(SYSTEM_THREAD_EXCEPTION_NOT_HANDLED), NAME(UNEXPECTED_KERNEL_MODE_TRAP),
    NAME(KERNEL_MODE_EXCEPTION_NOT_HANDLED), NAME(INVALID_REGION_OR_SEGMENT), NAME(INTERNAL_POWER_ERROR),
    NAME(ATTEMPTED_SWITCH_FROM_DPC), NAME(ATTEMPTED_WRITE_TO_READONLY_MEMORY),
    NAME(SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION), NAME(BAD_POOL_CALLER),
    NAME(DRIVER_VERIFIER_DETECTED_VIOLATION), NAME(DRIVER_CORRUPTED_EXPOOL),
    NAME(DRIVER_CAUGHT_MODIFYING_FREED_POOL), NAME(TIMER_OR_DPC_INVALID), NAME(IRQL_UNEXPECTED_VALUE),
    NAME(DRIVER_VERIFIER_IOMANAGER_VIOLATION), NAME(PNP_DETECTED_FATAL_ERROR),
    NAME(DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS), NAME(PAGE_FAULT_IN_FREED_SPECIAL_POOL),
    NAME(PAGE_FAULT_BEYOND_END_OF_ALLOCATION), NAME(DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS),
    NAME(DRIVER_CORRUPTED_MMPOOL), NAME(DRIVER_IRQL_NOT_LESS_OR_EQUAL),
    NAME(DRIVER_PAGE_FAULT_IN_FREED_SPECIAL_POOL), NAME(DRIVER_PAGE_FAULT_BEYOND_END_OF_ALLOCATION),
    NAME(DRIVER_UNMAPPING_INVALID_VIEW), NAME(DRIVER_USED_EXCESSIVE_PTES),
    NAME(LOCKED_PAGES_TRACKER_CORRUPTION), NAME(SYSTEM_PTE_MISUSE), NAME(WORKER_THREAD_RETURNED_AT_BAD_IRQL), NAME(MANUALLY_INITIATED_CRASH),
    NAME(DRIVER_VERIFIER_DMA_VIOLATION), NAME(INVALID_MDL_RANGE), NAME(DPC_WATCHDOG_VIOLATION),
    NAME(KERNEL_SECURITY_CHECK_FAILURE), NAME(BUGCODE_USB3_DRIVER), NAME(DMA_COMMON_BUFFER_VECTOR_ERROR),
#undef NAME
};

const char *ke_bug_check_name(ULONG code)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].code == code)
            return names[i].name;
    return "UNKNOWN";
}

/* Seconds that a report may take: one that was caused inside malloc, say, could wait for a lock for ever. */
enum { REPORT_SECONDS = 20 };

static _Atomic bool stopping;
static _Thread_local bool reporting;

/*
 * The first stop is the one that is told. Another thread's waits for the end of the process, so that the report is
 * whole; one inside the report ends it.
 */
static void enter_report(void)
{
    if (reporting)
        abort();
    reporting = true;
    while (atomic_exchange(&stopping, true))
        host_sleep_ns(INT64_MAX);
    host_abort_after(REPORT_SECONDS);
}

/* Without the verifier's report the call stack is only handed on. */
static void tell_stack(void)
{
    uintptr_t pcs[KE_FINDING_FRAMES];

    ke_finding_stack("done at", pcs, host_stack_of_caller(pcs, KE_FINDING_FRAMES));
}

_Noreturn void ke_bug_check(ULONG code, uint64_t p1, uint64_t p2, uint64_t p3, uint64_t p4)
{
    const uint64_t parameters[4] = {p1, p2, p3, p4};
    const char *name = ke_bug_check_name(code);
    struct ke_finding finding;
    char id[16];

    enter_report();
    ke_printers_off();
    ke_finding_begin_stop(&finding, name, parameters);
    snprintf(id, sizeof(id), "0x%X", code);
    ke_finding_name(id);
    ke_finding_say(name, "");
    fprintf(stderr, "*** STOP: 0x%08X (0x%llX, 0x%llX, 0x%llX, 0x%llX) %s\n", code, (unsigned long long)p1,
            (unsigned long long)p2, (unsigned long long)p3, (unsigned long long)p4, name);
    fflush(stdout);
    if (ke_the_machine.hooks.bug_check_report != NULL)
        ke_the_machine.hooks.bug_check_report(code, parameters);
    else
        tell_stack();
    ke_finding_end(&finding);
    abort();
}

VOID KeBugCheckEx(ULONG BugCheckCode, ULONG_PTR BugCheckParameter1, ULONG_PTR BugCheckParameter2, ULONG_PTR BugCheckParameter3,
                  ULONG_PTR BugCheckParameter4)
{
    ke_bug_check(BugCheckCode, BugCheckParameter1, BugCheckParameter2, BugCheckParameter3, BugCheckParameter4);
}

VOID KeBugCheck(ULONG BugCheckCode)
{
    ke_bug_check(BugCheckCode, 0, 0, 0, 0);
}

void ke_warn(const char *slug, const char *format, ...)
{
    struct ke_finding finding;
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ke_finding_begin(&finding);
    ke_finding_name(slug);
    ke_finding_say(text, ke_the_machine.hooks.advise == NULL ? "" : ke_the_machine.hooks.advise(slug));
    fprintf(stderr, "pinion: warning: %s: %s\n", slug, text);
    atomic_fetch_add(&ke_the_machine.findings, 1);
    ke_finding_end(&finding);
}
