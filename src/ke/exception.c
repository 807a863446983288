/* SPDX-License-Identifier: MIT */
/*
 * Exceptions: a chain of frames per thread; a raise takes the innermost one off and jumps to it.
 *
 * A frame is pinion_try's own, or stands in a driver's function, where `pinion cc` has put it for a __try (pinion/seh.h).
 * pinion_try's body is a function of its own, so no local of its caller is between the mark and the jump.
 *
 * A filter runs when its frame is the innermost one left: behind the __finally blocks within, not before them as on Windows,
 * and what it looks at is the record of the exception, not the code that raised it.
 */

#include "ke/ke.h"

#include <pinion/seh.h>

#include <setjmp.h>

struct ke_exception {
    sigjmp_buf           resume;        /* the mark; first, because pinion_seh_mark takes it for the frame */
    struct ke_exception *outer;
    PDRIVER_OBJECT       driver;        /* whose code has the __try, or called pinion_try */
    bool                 abnormal;      /* the body was left by an exception or a jump */
    EXCEPTION_RECORD     record;        /* of the exception that it was left by */
    EXCEPTION_POINTERS   pointers;
};
_Static_assert(sizeof(struct ke_exception) <= sizeof(struct pinion_seh), "a frame has room in what drivers are compiled with");
_Static_assert(offsetof(struct ke_exception, resume) == 0, "the mark stands first");

/* ---- frames ---- */

static struct ke_exception *frame_of(struct pinion_seh *opaque)
{
    return (struct ke_exception *)opaque;
}

static void enter(struct ke_exception *frame)
{
    struct ke_thread *self = ke_self();

    ke_machine();                       /* a bad access is an exception only while the machine runs */
    frame->outer = self->exceptions;
    frame->driver = self->driver;
    frame->abnormal = false;
    frame->record.ExceptionCode = STATUS_SUCCESS;
    self->exceptions = frame;
}

/* With all frames within it. */
static void take_off(struct ke_exception *frame)
{
    struct ke_thread *self = ke_self();

    self->exceptions = frame->outer;
    self->driver = frame->driver;
}

static void leave(struct ke_exception *frame)
{
    if (ke_self()->exceptions == frame)
        take_off(frame);
}

static _Noreturn void deliver(const EXCEPTION_RECORD *record)
{
    struct ke_exception *frame = ke_self()->exceptions;

    if (frame == NULL)
        ke_bug_check(KMODE_EXCEPTION_NOT_HANDLED, (uint64_t)(int64_t)record->ExceptionCode, (uintptr_t)record->ExceptionAddress,
                     record->ExceptionInformation[0], record->ExceptionInformation[1]);
    frame->record = *record;
    frame->abnormal = true;
    take_off(frame);
    siglongjmp(frame->resume, 1);
}

_Noreturn void ke_raise(NTSTATUS status, uintptr_t ip)
{
    const EXCEPTION_RECORD record = {
        .ExceptionCode = status, .ExceptionFlags = EXCEPTION_NONCONTINUABLE, .ExceptionAddress = (PVOID)ip};

    deliver(&record);
}

void ke_access_refused(uintptr_t va)
{
    if (ke_is_running() && ke_the_machine.hooks.access_refused != NULL)
        ke_the_machine.hooks.access_refused(va);
}

_Noreturn void ke_raise_access(NTSTATUS status, uintptr_t ip, ULONG_PTR access, uintptr_t va)
{
    const EXCEPTION_RECORD record = {
        .ExceptionCode = status, .ExceptionAddress = (PVOID)ip, .NumberParameters = 2, .ExceptionInformation = {access, va}};

    ke_access_refused(va);
    deliver(&record);
}

/* ---- the host program's ---- */

NTSTATUS pinion_try(void (*body)(void *context), void *context)
{
    struct ke_exception frame;

    enter(&frame);
    if (sigsetjmp(frame.resume, 0) == 0)
        body(context);
    leave(&frame);
    return frame.record.ExceptionCode;
}

/* ---- a driver's __try ---- */

void pinion_seh_enter(struct pinion_seh *frame)
{
    enter(frame_of(frame));
}

void pinion_seh_leave(struct pinion_seh *frame)
{
    leave(frame_of(frame));
}

void pinion_seh_abandon(struct pinion_seh *frame)
{
    frame_of(frame)->abnormal = true;
    take_off(frame_of(frame));
}

/* No way leads back to the instruction that raised: who asks for it gets the exception that Windows has for that. */
void pinion_seh_filter(struct pinion_seh *frame, long disposition)
{
    const struct ke_exception *own = frame_of(frame);

    if (disposition == EXCEPTION_CONTINUE_SEARCH)
        deliver(&own->record);
    if (disposition < 0)
        ke_raise(STATUS_NONCONTINUABLE_EXCEPTION, (uintptr_t)own->record.ExceptionAddress);
}

void pinion_seh_resume(struct pinion_seh *frame)
{
    deliver(&frame_of(frame)->record);
}

int pinion_seh_code(struct pinion_seh *frame)
{
    return frame_of(frame)->record.ExceptionCode;
}

void *pinion_seh_information(struct pinion_seh *frame)
{
    struct ke_exception *own = frame_of(frame);

    own->pointers = (EXCEPTION_POINTERS){.ExceptionRecord = &own->record};
    return &own->pointers;
}

int pinion_seh_abnormal(struct pinion_seh *frame)
{
    return frame_of(frame)->abnormal;
}

/* ---- the routines ---- */

VOID ExRaiseStatus(NTSTATUS Status)
{
    ke_raise(Status, (uintptr_t)__builtin_return_address(0));
}

VOID ExRaiseAccessViolation(VOID)
{
    ke_raise(STATUS_ACCESS_VIOLATION, (uintptr_t)__builtin_return_address(0));
}

VOID ExRaiseDatatypeMisalignment(VOID)
{
    ke_raise(STATUS_DATATYPE_MISALIGNMENT, (uintptr_t)__builtin_return_address(0));
}

VOID DbgBreakPoint(VOID)
{
    __debugbreak();
}

/* The status stays where a debugger looks for it: in the register of the first argument. */
VOID DbgBreakPointWithStatus(ULONG Status)
{
    UNREFERENCED_PARAMETER(Status);
    __debugbreak();
}
