/* SPDX-License-Identifier: MIT */
/*
 * What `pinion cc` turns a driver's __try, __except, __finally and __leave into: a frame for each __try, on the stack of
 * the function that has it, and calls of the routines below. Nobody else needs this header; a test that wants to know
 * what a call raises has pinion_try.
 *
 *     __try { A } __except (F) { B }       { frame; enter; if (mark == 0) { A leave } else { filter(F); B } }
 *     __try { A } __finally { B }          { frame; enter; if (mark == 0) { A leave; B } else { B resume } }
 *
 * Before a jump out of A stands `abandon`, and B where that is a __finally block. This header includes nothing, for it stands in
 * front of sources that may say what the headers of the system are to declare.
 */
#ifndef PINION_SEH_H
#define PINION_SEH_H

/*
 * A function with __try keeps its locals in memory: what A stored must be there in B, and a compiler that optimises holds
 * it in registers that the way back restores. The functions that it calls are optimised like all others.
 */
#if defined(__clang__)
#define PINION_SEH_FUNCTION __attribute__((__optnone__, __noinline__))
#else
#define PINION_SEH_FUNCTION __attribute__((__optimize__("O0"), __noinline__))
#endif

/* Never defined: each function with __try is given what stands in front of this one, for the macro is gone by then. */
PINION_SEH_FUNCTION void pinion_seh_pattern(void);

#define PINION_SEH_API __attribute__((__visibility__("default")))

/* One __try that is being executed; its contents are the library's. */
struct pinion_seh {
    void *words[64];
};

PINION_SEH_API void pinion_seh_enter(struct pinion_seh *frame);

/* Where an exception comes back to: 0 at first, 1 then. It is the C library's, which needs no words of its own to be declared. */
int pinion_seh_mark(struct pinion_seh *frame, int saves_mask) __asm__("__sigsetjmp") __attribute__((__returns_twice__, __nothrow__));

/* The body has ended: exceptions are for the __try around it again. */
PINION_SEH_API void pinion_seh_leave(struct pinion_seh *frame);

/* The same for a body that is jumped out of: the __finally block that runs next is told so. */
PINION_SEH_API void pinion_seh_abandon(struct pinion_seh *frame);

/* The value of a filter expression: returns where the handler is to run, and goes on to the __try around it where not. */
PINION_SEH_API void pinion_seh_filter(struct pinion_seh *frame, long disposition);

/* Behind a __finally block that an exception led to: on to the __try around it. */
PINION_SEH_API void pinion_seh_resume(struct pinion_seh *frame) __attribute__((__noreturn__));

/* GetExceptionCode, GetExceptionInformation, AbnormalTermination. */
PINION_SEH_API int   pinion_seh_code(struct pinion_seh *frame);
PINION_SEH_API void *pinion_seh_information(struct pinion_seh *frame);
PINION_SEH_API int   pinion_seh_abnormal(struct pinion_seh *frame);

#endif
