/* SPDX-License-Identifier: MIT */
/*
 * Exceptions: a chain of pinion_try frames per thread; a raise leaves for the innermost one.
 *
 * The frame lives in pinion_try and not in its caller, so no local of a caller is ever between sigsetjmp and its
 * return: the body is a function of its own and cannot lose variables to a register.
 */

#include "ke/ke.h"

NTSTATUS pinion_try(void (*body)(void *context), void *context)
{
    struct ke_thread *self = ke_self();
    struct ke_exception frame = {.outer = self->exceptions, .driver = self->driver, .status = STATUS_SUCCESS};

    ke_machine();                       /* a bad access is an exception only while the machine runs */
    self->exceptions = &frame;
    if (sigsetjmp(frame.resume, 0) == 0)
        body(context);
    self->exceptions = frame.outer;
    self->driver = frame.driver;
    return frame.status;
}

_Noreturn void ke_raise(NTSTATUS status, uintptr_t ip, uintptr_t parameter)
{
    struct ke_thread *self = ke_self();

    if (self->exceptions == NULL)
        ke_bug_check(KMODE_EXCEPTION_NOT_HANDLED, (uint64_t)(int64_t)status, ip, 0, parameter);
    self->exceptions->status = status;
    siglongjmp(self->exceptions->resume, 1);
}

VOID ExRaiseStatus(NTSTATUS Status)
{
    ke_raise(Status, (uintptr_t)__builtin_return_address(0), 0);
}

VOID ExRaiseAccessViolation(VOID)
{
    ke_raise(STATUS_ACCESS_VIOLATION, (uintptr_t)__builtin_return_address(0), 0);
}

VOID ExRaiseDatatypeMisalignment(VOID)
{
    ke_raise(STATUS_DATATYPE_MISALIGNMENT, (uintptr_t)__builtin_return_address(0), 0);
}
