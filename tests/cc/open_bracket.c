/* SPDX-License-Identifier: MIT */
/* Must not compile: the function does not end. */
#include <ntddk.h>

void open_bracket(void)
{
    __try {
        KeBugCheck(0);
