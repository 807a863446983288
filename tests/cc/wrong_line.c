/* SPDX-License-Identifier: MIT */
/* Must not compile, and the compiler must name the line of the mistake, below a __finally block that is written three times. */
#include <ntddk.h>

int wrong_line(int x)
{
    __try {
        if (x)
            return 1;
    } __finally {
        x = 2;
    }
    return mistake;
}
