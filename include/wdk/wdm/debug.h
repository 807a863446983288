/* SPDX-License-Identifier: MIT */
/*
 * Debug output, assertions and bug checks. Assertions exist in checked builds (-DDBG=1) only; one that fails
 * raises STATUS_ASSERTION_FAILURE, which ends in a bug check unless somebody catches it.
 */
#ifndef PINION_WDK_WDM_DEBUG_H
#define PINION_WDK_WDM_DEBUG_H

#include "../bugcodes.h"
#include "../ntdef.h"
#include "../ntstatus.h"

#define DPFLTR_SYSTEM_ID       0
#define DPFLTR_IHVDRIVER_ID    77
#define DPFLTR_IHVVIDEO_ID     78
#define DPFLTR_IHVAUDIO_ID     79
#define DPFLTR_IHVNETWORK_ID   80
#define DPFLTR_IHVSTREAMING_ID 81
#define DPFLTR_IHVBUS_ID       82
#define DPFLTR_DEFAULT_ID      101

#define DPFLTR_ERROR_LEVEL     0
#define DPFLTR_WARNING_LEVEL   1
#define DPFLTR_TRACE_LEVEL     2
#define DPFLTR_INFO_LEVEL      3
#define DPFLTR_MASK            0x80000000U

EXTERN_C_START

/* Print to the debugger, in Windows' format language. IRQL <= DIRQL. Doc: wdm/nf-wdm-dbgprint */
NTSYSAPI ULONG __cdecl DbgPrint(PCSTR Format, ...);

#if NTDDI_VERSION >= NTDDI_WINXP
/* Print to the debugger if component and level are enabled. IRQL <= DIRQL. Doc: wdm/nf-wdm-dbgprintex */
NTSYSAPI ULONG __cdecl DbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, ...);

/* DbgPrintEx with an argument list. IRQL <= DIRQL. Doc: wdm/nf-wdm-vdbgprintex */
NTSYSAPI ULONG vDbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, va_list arglist);
#endif

/* Break into the debugger; without one, raise STATUS_BREAKPOINT. Any IRQL. Doc: wdm/nf-wdm-dbgbreakpoint */
NTSYSAPI VOID DbgBreakPoint(VOID);

/* DbgBreakPoint with a value for whoever looks. Any IRQL. Doc: wdm/nf-wdm-dbgbreakpointwithstatus */
NTSYSAPI VOID DbgBreakPointWithStatus(ULONG Status);

/* Stop the machine. Any IRQL. Doc: wdm/nf-wdm-kebugcheck */
NTKERNELAPI DECLSPEC_NORETURN VOID KeBugCheck(ULONG BugCheckCode);

/* Stop the machine, with the four parameters of the code. Any IRQL. Doc: wdm/nf-wdm-kebugcheckex */
NTKERNELAPI DECLSPEC_NORETURN VOID KeBugCheckEx(ULONG BugCheckCode, ULONG_PTR BugCheckParameter1,
                                                ULONG_PTR BugCheckParameter2, ULONG_PTR BugCheckParameter3,
                                                ULONG_PTR BugCheckParameter4);

/* Raise an exception with a status. IRQL <= DISPATCH_LEVEL. Doc: ntddk/nf-ntddk-exraisestatus */
NTKERNELAPI DECLSPEC_NORETURN VOID ExRaiseStatus(NTSTATUS Status);

EXTERN_C_END

#if DBG

static inline VOID PinionAssert(BOOLEAN Holds, PCSTR Expression, PCSTR File, ULONG Line)
{
    if (Holds)
        return;
    DbgPrint("*** Assertion failed: %s\n***   Source File: %s, line %u\n", Expression, File, Line);
    ExRaiseStatus(STATUS_ASSERTION_FAILURE);
}

/* Print in checked builds: KdPrint(("format", ...)). Doc: wdm/nf-wdm-kdprint, wdm/nf-wdm-kdprintex */
#define KdPrint(_x_)            DbgPrint _x_
#define KdPrintEx(_x_)          DbgPrintEx _x_
/* Break in checked builds. Doc: wdm/nf-wdm-kdbreakpoint, wdm/nf-wdm-kdbreakpointwithstatus */
#define KdBreakPoint()          DbgBreakPoint()
#define KdBreakPointWithStatus(s) DbgBreakPointWithStatus(s)
#define ASSERTMSG(msg, expression) PinionAssert((expression) ? TRUE : FALSE, msg, __FILE__, (ULONG)__LINE__)
#define ASSERT(expression)      ASSERTMSG(#expression, expression)
#define RTL_VERIFY(expression)  ASSERT(expression)

#else

#define KdPrint(_x_)               ((void)0)
#define KdPrintEx(_x_)             ((void)0)
#define KdBreakPoint()             ((void)0)
#define KdBreakPointWithStatus(s)  ((void)0)
#define ASSERT(expression)         ((void)0)
#define ASSERTMSG(msg, expression) ((void)0)
#define RTL_VERIFY(expression)     ((void)(expression))

#endif

#define NT_ASSERT(expression)       ASSERT(expression)
#define NT_ASSERT_ASSUME(expression) ASSERT(expression)
#define NT_ASSERTMSG(msg, expression) ASSERTMSG(msg, expression)
#define NT_VERIFY(expression)       RTL_VERIFY(expression)
#define RTL_ASSERT(expression)      ASSERT(expression)

#endif /* PINION_WDK_WDM_DEBUG_H */
