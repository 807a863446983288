/* SPDX-License-Identifier: MIT */
/* Must not compile: a __try without what belongs to it. */
#include <ntddk.h>

void no_handler(void)
{
    __try {
        KeBugCheck(0);
    }
}
