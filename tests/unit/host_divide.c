/* SPDX-License-Identifier: MIT */
/*
 * Divisions that fault, in each form that the instruction has: a divisor of zero and a quotient that is too large are told apart, and bytes
 * beside the divisor do not count.
 */

#include "harness.h"
#include <wdm.h>
#include <pinion/pinion.h>

#if defined(__x86_64__)

static uint64_t divisor __asm__("host_divide_divisor") __attribute__((used));

/*
 * The divisor is in RCX and R9, in memory at RSI, R12, R13, at 3 * 4 above R8, 0x1000 above R10, on the stack, and in a static. The dividend
 * is too large for whatever it is divided by.
 */
#define DIVISION(name, instruction)                                                                          \
    static void name(void *context)                                                                          \
    {                                                                                                        \
        UNREFERENCED_PARAMETER(context);                                                                     \
        __asm__ volatile("lea host_divide_divisor(%%rip), %%rsi\n\t"                                         \
                         "mov (%%rsi), %%rcx\n\t"                                                            \
                         "mov %%rcx, %%r9\n\t"                                                               \
                         "mov %%rsi, %%r12\n\t"                                                              \
                         "mov %%rsi, %%r13\n\t"                                                              \
                         "lea -12(%%rsi), %%r8\n\t"                                                          \
                         "lea -0x1000(%%rsi), %%r10\n\t"                                                     \
                         "mov $3, %%edi\n\t"                                                                 \
                         "movabs $0x7FFF7FFF7FFF7FFF, %%rax\n\t"                                             \
                         "mov %%rax, %%rdx\n\t"                                                              \
                         "push %%rcx\n\t" instruction "\n\tpop %%rcx"                                        \
                         ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r12", "r13", "memory", "cc");  \
    }

DIVISION(register_32, "idivl %%ecx")
DIVISION(register_32_unsigned, "divl %%ecx")
DIVISION(register_32_new, "idivl %%r9d")
DIVISION(register_64, "idivq %%rcx")
DIVISION(register_64_new, "divq %%r9")
DIVISION(register_16, "idivw %%cx")
DIVISION(register_8, "idivb %%cl")
DIVISION(register_8_new, "idivb %%r9b")
DIVISION(register_8_high, "idivb %%ch")
DIVISION(memory_32, "idivl (%%rsi)")
DIVISION(memory_64, "idivq (%%rsi)")
DIVISION(memory_16, "idivw (%%rsi)")
DIVISION(memory_8, "divb (%%rsi)")
DIVISION(base_r12, "idivl (%%r12)")
DIVISION(base_r13, "idivl (%%r13)")
DIVISION(base_and_byte, "idivl 12(%%r8)")
DIVISION(base_and_long, "idivq 0x1000(%%r10)")
DIVISION(base_and_index, "idivl (%%r8,%%rdi,4)")
DIVISION(base_index_and_byte, "idivl -12(%%rsi,%%rdi,4)")
DIVISION(index_alone, "idivl (,%%rsi,1)")
DIVISION(index_r12_alone, "idivl (,%%r12,1)")
DIVISION(next_instruction, "idivl host_divide_divisor(%%rip)")
DIVISION(stack, "idivl (%%rsp)")
DIVISION(segment_that_means_nothing, ".byte 0x3E; idivl (%%rsi)")

#define NONE_IS_ZERO 0x0101010101010101u

static const struct {
    void   (*body)(void *);
    uint64_t divisor;                   /* what of the eight bytes it is */
} forms[] = {
    {register_32, 0xFFFFFFFF}, {register_32_unsigned, 0xFFFFFFFF}, {register_32_new, 0xFFFFFFFF}, {register_64, UINT64_MAX},
    {register_64_new, UINT64_MAX}, {register_16, 0xFFFF}, {register_8, 0xFF}, {register_8_new, 0xFF}, {register_8_high, 0xFF00},
    {memory_32, 0xFFFFFFFF}, {memory_64, UINT64_MAX}, {memory_16, 0xFFFF}, {memory_8, 0xFF}, {base_r12, 0xFFFFFFFF},
    {base_r13, 0xFFFFFFFF}, {base_and_byte, 0xFFFFFFFF}, {base_and_long, UINT64_MAX}, {base_and_index, 0xFFFFFFFF},
    {base_index_and_byte, 0xFFFFFFFF}, {index_alone, 0xFFFFFFFF}, {index_r12_alone, 0xFFFFFFFF}, {next_instruction, 0xFFFFFFFF}, {stack, 0xFFFFFFFF},
    {segment_that_means_nothing, 0xFFFFFFFF},
};

TEST(host_divide, divisor_of_zero__in_each_form__is_division_by_zero)
{
    pinion_boot("ram=16M");
    for (SIZE_T i = 0; i < ARRAYSIZE(forms); i++) {
        divisor = NONE_IS_ZERO & ~forms[i].divisor;
        EXPECT_EQ(pinion_try(forms[i].body, NULL), STATUS_INTEGER_DIVIDE_BY_ZERO);
    }
}

TEST(host_divide, quotient_too_large__in_each_form__is_overflow)
{
    pinion_boot("ram=16M");
    for (SIZE_T i = 0; i < ARRAYSIZE(forms); i++) {
        divisor = NONE_IS_ZERO;
        EXPECT_EQ(pinion_try(forms[i].body, NULL), STATUS_INTEGER_OVERFLOW);
        divisor = NONE_IS_ZERO & forms[i].divisor;
        EXPECT_EQ(pinion_try(forms[i].body, NULL), STATUS_INTEGER_OVERFLOW);
    }
}

#endif
