/* SPDX-License-Identifier: MIT */
#include "plain_part.h"

int plain_part(int x)
{
    __try {
        ExRaiseStatus(x);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return GetExceptionCode();
    }
}
