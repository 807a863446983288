/* SPDX-License-Identifier: MIT */
/* Debug output by an argument list, as a driver's own print routine makes it. Include it after <wdm.h> or what brings it. */

#pragma once

#include <stdarg.h>

static inline ULONG print_by_list(PCSTR format, ...)
{
    va_list arguments;
    ULONG status;

    va_start(arguments, format);
    status = vDbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_ERROR_LEVEL, format, arguments);
    va_end(arguments);
    return status;
}
