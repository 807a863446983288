/* SPDX-License-Identifier: MIT */
/* Inline functions as drivers' headers have them: with __try, without a definition elsewhere, declared before. */
#include <ntddk.h>

FORCEINLINE NTSTATUS force_inline(volatile ULONG *at)
{
    __try {
        return (NTSTATUS)*at;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return GetExceptionCode();
    }
}

static inline NTSTATUS static_inline(volatile ULONG *at)
{
    __try {
        return (NTSTATUS)*at;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        return GetExceptionCode();
    }
}

int declared_before(int x);

inline int declared_before(int x)
{
    return x + 1;
}

__inline int plain_inline(int x)
{
    return x + 1;
}

FORCEINLINE int address_taken(int x)
{
    return x + 1;
}

/* No way leads from one case to the next, and no compiler may find one. */
static int falls_nowhere(int x)
{
    switch (x) {
    case 1:
        __try {
            return 1;
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            return 2;
        }
    case 2:
        __try {
            return plain_inline(2);
        } __finally {
            x = 0;
        }
    default:
        return 0;
    }
}

int main(void)
{
    int (*const address)(int) = address_taken;
    const BOOLEAN caught = force_inline((ULONG *)8) == STATUS_ACCESS_VIOLATION && static_inline((ULONG *)8) == STATUS_ACCESS_VIOLATION;

    return caught && declared_before(1) == 2 && address(1) == 2 && falls_nowhere(1) + falls_nowhere(2) == 4 ? 0 : 1;
}
