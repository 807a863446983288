/* SPDX-License-Identifier: MIT */
/*
 * The Interlocked routines, over the compiler's __atomic builtins: full barriers, any IRQL. The names with a
 * leading underscore are macros, because clang declares some of them itself under -fms-extensions.
 */
#ifndef PINION_WDK_WDM_INTERLOCKED_H
#define PINION_WDK_WDM_INTERLOCKED_H

#include "../ntdef.h"

/* All loads and stores before it come before all after it. A macro, as drivers' own headers expect. Any IRQL. */
#define KeMemoryBarrier() __atomic_thread_fence(__ATOMIC_SEQ_CST)

#define PINION_INTERLOCKED(name, type, builtin)                \
    static inline type name(type volatile *Target, type Value) \
    {                                                          \
        return builtin(Target, Value, __ATOMIC_SEQ_CST);       \
    }

#define PINION_INTERLOCKED_STEP(name, type, builtin)       \
    static inline type name(type volatile *Addend)         \
    {                                                      \
        return builtin(Addend, (type)1, __ATOMIC_SEQ_CST); \
    }

#define PINION_INTERLOCKED_COMPARE(name, type)                                              \
    static inline type name(type volatile *Destination, type Exchange, type Comparand)      \
    {                                                                                       \
        __atomic_compare_exchange_n(Destination, &Comparand, Exchange, 0, __ATOMIC_SEQ_CST, \
                                    __ATOMIC_SEQ_CST);                                      \
        return Comparand;                                                                   \
    }

/* Add or subtract 1; the value after. Doc: wdm/nf-wdm-interlockedincrement, wdm/nf-wdm-interlockeddecrement */
PINION_INTERLOCKED_STEP(InterlockedIncrement16, SHORT, __atomic_add_fetch)
PINION_INTERLOCKED_STEP(InterlockedIncrement, LONG, __atomic_add_fetch)
PINION_INTERLOCKED_STEP(InterlockedIncrement64, LONG64, __atomic_add_fetch)
PINION_INTERLOCKED_STEP(InterlockedDecrement16, SHORT, __atomic_sub_fetch)
PINION_INTERLOCKED_STEP(InterlockedDecrement, LONG, __atomic_sub_fetch)
PINION_INTERLOCKED_STEP(InterlockedDecrement64, LONG64, __atomic_sub_fetch)

/* Add; the value after. Doc: wdm/nf-wdm-interlockedadd */
PINION_INTERLOCKED(InterlockedAdd, LONG, __atomic_add_fetch)
PINION_INTERLOCKED(InterlockedAdd64, LONG64, __atomic_add_fetch)

/* Add; the value before. Doc: wdm/nf-wdm-interlockedexchangeadd */
PINION_INTERLOCKED(InterlockedExchangeAdd8, char, __atomic_fetch_add)
PINION_INTERLOCKED(InterlockedExchangeAdd16, SHORT, __atomic_fetch_add)
PINION_INTERLOCKED(InterlockedExchangeAdd, LONG, __atomic_fetch_add)
PINION_INTERLOCKED(InterlockedExchangeAdd64, LONG64, __atomic_fetch_add)

/* Exchange; the value before. Doc: wdm/nf-wdm-interlockedexchange, wdm/nf-wdm-interlockedexchangepointer */
PINION_INTERLOCKED(InterlockedExchange8, char, __atomic_exchange_n)
PINION_INTERLOCKED(InterlockedExchange16, SHORT, __atomic_exchange_n)
PINION_INTERLOCKED(InterlockedExchange, LONG, __atomic_exchange_n)
PINION_INTERLOCKED(InterlockedExchange64, LONG64, __atomic_exchange_n)
PINION_INTERLOCKED(InterlockedExchangePointer, PVOID, __atomic_exchange_n)

/* Exchange if the value is Comparand; the value before. Doc: wdm/nf-wdm-interlockedcompareexchange */
PINION_INTERLOCKED_COMPARE(InterlockedCompareExchange8, char)
PINION_INTERLOCKED_COMPARE(InterlockedCompareExchange16, SHORT)
PINION_INTERLOCKED_COMPARE(InterlockedCompareExchange, LONG)
PINION_INTERLOCKED_COMPARE(InterlockedCompareExchange64, LONG64)
PINION_INTERLOCKED_COMPARE(InterlockedCompareExchangePointer, PVOID)

/* Bit by bit; the value before. Doc: wdm/nf-wdm-interlockedor, wdm/nf-wdm-interlockedand, wdm/nf-wdm-interlockedxor */
PINION_INTERLOCKED(InterlockedOr8, char, __atomic_fetch_or)
PINION_INTERLOCKED(InterlockedOr16, SHORT, __atomic_fetch_or)
PINION_INTERLOCKED(InterlockedOr, LONG, __atomic_fetch_or)
PINION_INTERLOCKED(InterlockedOr64, LONG64, __atomic_fetch_or)
PINION_INTERLOCKED(InterlockedAnd8, char, __atomic_fetch_and)
PINION_INTERLOCKED(InterlockedAnd16, SHORT, __atomic_fetch_and)
PINION_INTERLOCKED(InterlockedAnd, LONG, __atomic_fetch_and)
PINION_INTERLOCKED(InterlockedAnd64, LONG64, __atomic_fetch_and)
PINION_INTERLOCKED(InterlockedXor8, char, __atomic_fetch_xor)
PINION_INTERLOCKED(InterlockedXor16, SHORT, __atomic_fetch_xor)
PINION_INTERLOCKED(InterlockedXor, LONG, __atomic_fetch_xor)
PINION_INTERLOCKED(InterlockedXor64, LONG64, __atomic_fetch_xor)

#undef PINION_INTERLOCKED
#undef PINION_INTERLOCKED_STEP
#undef PINION_INTERLOCKED_COMPARE

#define _InterlockedIncrement              InterlockedIncrement
#define _InterlockedIncrement16            InterlockedIncrement16
#define _InterlockedIncrement64            InterlockedIncrement64
#define _InterlockedDecrement              InterlockedDecrement
#define _InterlockedDecrement16            InterlockedDecrement16
#define _InterlockedDecrement64            InterlockedDecrement64
#define _InterlockedAdd                    InterlockedAdd
#define _InterlockedAdd64                  InterlockedAdd64
#define _InterlockedExchange               InterlockedExchange
#define _InterlockedExchange8              InterlockedExchange8
#define _InterlockedExchange16             InterlockedExchange16
#define _InterlockedExchange64             InterlockedExchange64
#define _InterlockedExchangePointer        InterlockedExchangePointer
#define _InterlockedExchangeAdd            InterlockedExchangeAdd
#define _InterlockedExchangeAdd8           InterlockedExchangeAdd8
#define _InterlockedExchangeAdd16          InterlockedExchangeAdd16
#define _InterlockedExchangeAdd64          InterlockedExchangeAdd64
#define _InterlockedCompareExchange        InterlockedCompareExchange
#define _InterlockedCompareExchange8       InterlockedCompareExchange8
#define _InterlockedCompareExchange16      InterlockedCompareExchange16
#define _InterlockedCompareExchange64      InterlockedCompareExchange64
#define _InterlockedCompareExchangePointer InterlockedCompareExchangePointer
#define _InterlockedOr                     InterlockedOr
#define _InterlockedOr8                    InterlockedOr8
#define _InterlockedOr16                   InterlockedOr16
#define _InterlockedOr64                   InterlockedOr64
#define _InterlockedAnd                    InterlockedAnd
#define _InterlockedAnd8                   InterlockedAnd8
#define _InterlockedAnd16                  InterlockedAnd16
#define _InterlockedAnd64                  InterlockedAnd64
#define _InterlockedXor                    InterlockedXor
#define _InterlockedXor8                   InterlockedXor8
#define _InterlockedXor16                  InterlockedXor16
#define _InterlockedXor64                  InterlockedXor64

#endif /* PINION_WDK_WDM_INTERLOCKED_H */
