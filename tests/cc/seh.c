/* SPDX-License-Identifier: MIT */
/*
 * __try, __except, __finally and __leave as drivers write them, compiled by `pinion cc`. Each case gives the order in which its
 * blocks ran, a letter each; main compares it with what Windows gives. Built with gcc and clang, optimised and not.
 */

#include <ntddk.h>
#include <pinion/pinion.h>

#include <stdio.h>
#include <string.h>

static char trace[64];

static void mark(char letter)
{
    const size_t n = strlen(trace);

    trace[n] = letter;
    trace[n + 1] = '\0';
}

static NTSTATUS raise(NTSTATUS status)
{
    ExRaiseStatus(status);
    return STATUS_SUCCESS;
}

static long filter(char letter, long disposition)
{
    mark(letter);
    return disposition;
}

/* ---- __except ---- */

static NTSTATUS no_exception(void)
{
    __try {
        mark('a');
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('x');
    }
    mark('b');
    return STATUS_SUCCESS;
}

static NTSTATUS code_in_handler(void)
{
    NTSTATUS status = STATUS_SUCCESS;

    __try {
        raise(STATUS_INSUFFICIENT_RESOURCES);
        mark('x');
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        status = GetExceptionCode();
        mark('a');
    }
    return status;
}

/* What a filter does not take is the next one's. */
static NTSTATUS goes_to_the_outer_one(void)
{
    __try {
        __try {
            raise(STATUS_ACCESS_VIOLATION);
        } __except (GetExceptionCode() == STATUS_DATATYPE_MISALIGNMENT ? EXCEPTION_EXECUTE_HANDLER : filter('a', EXCEPTION_CONTINUE_SEARCH)) {
            mark('x');
        }
        mark('y');
    } __except (filter('b', EXCEPTION_EXECUTE_HANDLER)) {
        mark('c');
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

/* An exception in a handler is not its own __try's any more. */
static NTSTATUS raise_in_handler(void)
{
    __try {
        __try {
            raise(STATUS_ACCESS_VIOLATION);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            mark('a');
            raise(STATUS_CANCELLED);
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('b');
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

static long look(PEXCEPTION_POINTERS pointers, ULONG_PTR va)
{
    const EXCEPTION_RECORD *record = pointers->ExceptionRecord;

    mark(record->NumberParameters == 2 && record->ExceptionInformation[0] == 1 && record->ExceptionInformation[1] == va ? 'a' : 'x');
    return EXCEPTION_EXECUTE_HANDLER;
}

static NTSTATUS information_of_a_store(void)
{
    volatile char *const nowhere = (volatile char *)0x7007;

    __try {
        *nowhere = 1;
    } __except (look(GetExceptionInformation(), 0x7007)) {
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

static NTSTATUS continued_execution(void)
{
    __try {
        __try {
            raise(STATUS_CANCELLED);
        } __except (EXCEPTION_CONTINUE_EXECUTION) {
            mark('x');
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('a');
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

/* What the body stored in locals and parameters is there in the handler. */
static NTSTATUS locals_are_kept(int parameter)
{
    BOOLEAN locked = FALSE;
    int steps = 0;

    __try {
        locked = TRUE;
        steps = 11;
        parameter++;
        raise(STATUS_CANCELLED);
        steps = 0;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark(locked ? 'a' : 'x');
        mark(steps == 11 ? 'b' : 'x');
        mark(parameter == 5 ? 'c' : 'x');
    }
    return STATUS_SUCCESS;
}

static NTSTATUS leaves(int x)
{
    __try {
        mark('a');
        for (;;) {
            if (x == 1)
                __leave;
            mark('x');
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('y');
    }
    mark('b');
    return STATUS_SUCCESS;
}

/* Jumps out of a body take its frame off: what is raised behind it goes past it. */
static NTSTATUS jumps_out_of_except(void)
{
    __try {
        for (int i = 0; i < 3; i++) {
            __try {
                if (i == 0)
                    continue;
                if (i == 1)
                    break;
                mark('x');
            } __except (EXCEPTION_EXECUTE_HANDLER) {
                mark('y');
            }
        }
        mark('a');
        __try {
            goto out;
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            mark('z');
        }
    out:
        mark('b');
        raise(STATUS_CANCELLED);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('c');
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

static int returns_from_body(void)
{
    __try {
        return 1;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return 2;
    }
}

static NTSTATUS frame_is_gone_after_return(void)
{
    __try {
        mark(returns_from_body() == 1 ? 'a' : 'x');
        raise(STATUS_CANCELLED);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

/* ---- __finally ---- */

static NTSTATUS finally_runs_at_the_end(void)
{
    __try {
        mark('a');
    } __finally {
        mark(AbnormalTermination() ? 'x' : 'b');
    }
    mark('c');
    return STATUS_SUCCESS;
}

static NTSTATUS finally_runs_on_the_way_out(void)
{
    __try {
        __try {
            __try {
                raise(STATUS_CANCELLED);
            } __finally {
                mark(AbnormalTermination() ? 'a' : 'x');
            }
            mark('x');
        } __finally {
            mark('b');
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('c');
        return GetExceptionCode();
    }
    return STATUS_SUCCESS;
}

static NTSTATUS evaluated(NTSTATUS status)
{
    mark('a');
    return status;
}

/* The value is computed first, then the blocks run, from the inside out. */
static NTSTATUS returns_through_finally(void)
{
    __try {
        __try {
            return evaluated(STATUS_PENDING);
        } __finally {
            mark(AbnormalTermination() ? 'b' : 'x');
        }
    } __finally {
        mark(AbnormalTermination() ? 'c' : 'x');
    }
}

static VOID returns_nothing(void)
{
    __try {
        mark('a');
        return;
    } __finally {
        mark('b');
    }
}

static NTSTATUS void_function(void)
{
    returns_nothing();
    return STATUS_SUCCESS;
}

static PVOID null_pointer(void)
{
    __try {
        return 0;
    } __finally {
        mark('a');
    }
}

static const char *text(void)
{
    __try {
        return "text";
    } __finally {
        mark('b');
    }
}

struct bits {
    ULONG low : 3, high : 29;
};

static ULONG bit_field(struct bits *bits)
{
    __try {
        return bits->low;
    } __finally {
        bits->low = 0;
    }
}

static struct bits whole_structure(struct bits *bits)
{
    __try {
        return *bits;
    } __finally {
        bits->high = 0;
    }
}

static NTSTATUS values_of_every_kind(void)
{
    struct bits bits = {5, 7};

    mark(whole_structure(&bits).high == 7 ? 'c' : 'x');
    mark(bit_field(&bits) == 5 ? 'd' : 'x');
    mark(null_pointer() == NULL ? '0' : 'x');
    mark(strcmp(text(), "text") == 0 ? '1' : 'x');
    return STATUS_SUCCESS;
}

static NTSTATUS leave_is_no_abnormal_end(void)
{
    __try {
        __leave;
    } __finally {
        mark(AbnormalTermination() ? 'x' : 'a');
    }
    return STATUS_SUCCESS;
}

/* Inside the body a loop's own break is the loop's; one of the loop around it runs the block. */
static NTSTATUS breaks_through_finally(void)
{
    for (int i = 0; i < 4; i++) {
        __try {
            for (;;)
                break;
            switch (i) {
            case 0:
                break;
            case 1:
                continue;
            default:
                mark('e');
                break;
            }
            if (i == 2) break; else mark('a');
        } __finally {
            mark((char)('b' + i));
        }
    }
    mark('f');
    return STATUS_SUCCESS;
}

static NTSTATUS gotos_through_finally(void)
{
    int times = 0;

    __try {
        __try {
            if (times == 0)
                goto within;
            mark('x');
        within:
            times++;
            mark('a');
            goto out;
        } __finally {
            mark('b');
            if (times == 1)
                goto own;
            mark('x');
        own:
            mark('c');
        }
    } __finally {
        mark('d');
    }
    mark('x');
out:
    mark('e');
    return STATUS_SUCCESS;
}

/* A __finally block that returns ends the exception there. */
static NTSTATUS finally_returns(void)
{
    __try {
        raise(STATUS_CANCELLED);
    } __finally {
        mark('a');
        return STATUS_MORE_PROCESSING_REQUIRED;
    }
}

static NTSTATUS raise_in_finally(void)
{
    __try {
        __try {
            mark('a');
            return STATUS_SUCCESS;
        } __finally {
            raise(STATUS_CANCELLED);
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        mark('b');
        return GetExceptionCode();
    }
}

/* __try in a handler, in a __finally block, and as the statement of an if. */
static NTSTATUS nests_everywhere(int x)
{
    if (x)
        __try {
            raise(STATUS_CANCELLED);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            __try {
                mark('a');
                if (x == 1)
                    __leave;
                mark('x');
            } __finally {
                __try {
                    mark('b');
                    raise(STATUS_ACCESS_VIOLATION);
                } __except (EXCEPTION_EXECUTE_HANDLER) {
                    mark('c');
                }
            }
            return GetExceptionCode();
        }
    else
        mark('x');
    return STATUS_SUCCESS;
}

/* The names of the headers of old. */
static NTSTATUS lower_case(void)
{
    int leave = 0;

    try {
        try {
            leave++;
            raise(STATUS_CANCELLED);
        } finally {
            mark(abnormal_termination() ? 'a' : 'x');
        }
    } except (exception_code() == STATUS_CANCELLED) {
        mark(leave == 1 ? 'b' : 'x');
        return exception_code();
    }
    return STATUS_SUCCESS;
}

#define LOCK_OR_LEAVE(mdl, status) \
    do { \
        __try { \
            MmProbeAndLockPages(mdl, UserMode, IoWriteAccess); \
        } __except (EXCEPTION_EXECUTE_HANDLER) { \
            (status) = GetExceptionCode(); \
        } \
        if (!NT_SUCCESS(status)) \
            __leave; \
    } while (0)

/* As in every driver that locks a caller's buffer. */
static NTSTATUS locks_a_bad_buffer(void)
{
    PVOID buffer = pinion_user_alloc(PAGE_SIZE, PAGE_READONLY);
    PMDL mdl = IoAllocateMdl(buffer, PAGE_SIZE, FALSE, FALSE, NULL);
    NTSTATUS status = STATUS_SUCCESS;

    __try {
        LOCK_OR_LEAVE(mdl, status);
        mark('x');
        MmUnlockPages(mdl);
    } __finally {
        mark(({ int normal = !AbnormalTermination(); normal ? 'a' : 'x'; }));
        IoFreeMdl(mdl);
    }
    pinion_user_free(buffer);
    return status;
}

static const struct {
    const char *name;
    NTSTATUS  (*run)(void);
    const char *trace;
    NTSTATUS    status;
} cases[] = {
#define CASE(run, trace, status) {#run, run, trace, status}
    CASE(no_exception, "ab", STATUS_SUCCESS),
    CASE(code_in_handler, "a", STATUS_INSUFFICIENT_RESOURCES),
    CASE(goes_to_the_outer_one, "abc", STATUS_ACCESS_VIOLATION),
    CASE(raise_in_handler, "ab", STATUS_CANCELLED),
    CASE(information_of_a_store, "a", STATUS_ACCESS_VIOLATION),
    CASE(continued_execution, "a", STATUS_NONCONTINUABLE_EXCEPTION),
    CASE(jumps_out_of_except, "abc", STATUS_CANCELLED),
    CASE(frame_is_gone_after_return, "a", STATUS_CANCELLED),
    CASE(finally_runs_at_the_end, "abc", STATUS_SUCCESS),
    CASE(finally_runs_on_the_way_out, "abc", STATUS_CANCELLED),
    CASE(returns_through_finally, "abc", STATUS_PENDING),
    CASE(void_function, "ab", STATUS_SUCCESS),
    CASE(values_of_every_kind, "cda0b1", STATUS_SUCCESS),
    CASE(leave_is_no_abnormal_end, "a", STATUS_SUCCESS),
    CASE(breaks_through_finally, "abcedf", STATUS_SUCCESS),
    CASE(gotos_through_finally, "abcde", STATUS_SUCCESS),
    CASE(finally_returns, "a", STATUS_MORE_PROCESSING_REQUIRED),
    CASE(raise_in_finally, "ab", STATUS_CANCELLED),
    CASE(lower_case, "ab", STATUS_CANCELLED),
    CASE(locks_a_bad_buffer, "a", STATUS_ACCESS_VIOLATION),
};

static int wrong;

static void compare(const char *name, const char *expected, NTSTATUS status, NTSTATUS expected_status)
{
    if (strcmp(trace, expected) != 0 || status != expected_status) {
        printf("%s: ran '%s' with 0x%08X, expected '%s' with 0x%08X\n", name, trace, (unsigned)status, expected, (unsigned)expected_status);
        wrong++;
    }
    trace[0] = '\0';
}

/* The line of this function is asked for by the test: rewriting must not move it. */
static int line_below_a_try(void)
{
    __try {
        if (wrong < 0)
            return 0;
    } __finally {
        wrong += 0;
    }
    return __LINE__ - 1;
}

int main(void)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        compare(cases[i].name, cases[i].trace, cases[i].run(), cases[i].status);
    compare("locals_are_kept", "abc", (locals_are_kept(4), STATUS_SUCCESS), STATUS_SUCCESS);
    compare("leaves", "ab", leaves(1), STATUS_SUCCESS);
    compare("nests_everywhere", "abc", nests_everywhere(1), STATUS_CANCELLED);
    printf("line %d\n", line_below_a_try());
    wrong += pinion_shutdown() != 0;
    return wrong != 0;
}
