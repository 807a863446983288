/* SPDX-License-Identifier: MIT */
/* Must not compile: the code of an exception where there is none. */
#include <ntddk.h>

NTSTATUS outside(void)
{
    __try {
        return GetExceptionCode();
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return STATUS_SUCCESS;
    }
}
