/* SPDX-License-Identifier: MIT */
/*
 * Which of two mistakes a division that faulted was. x86-64 has one fault, and Linux one code, for a divisor of zero and for a quotient
 * that does not fit (INT_MIN by -1); Windows has an exception for each. So the divisor is read again, where the instruction has it:
 *
 *     prefixes | REX | F6 or F7 /6, /7 | ModRM | SIB | displacement
 *
 * Compilers make no others. A divisor relative to FS or GS, or one whose address has 32 bits, is taken for zero.
 */

#include "host/divide_impl.h"

#if defined(__x86_64__)

/* A DIV or IDIV; its ModRM byte says where the divisor is. */
struct division {
    const struct host_registers *registers;
    const uint8_t *modrm;
    unsigned       bytes;               /* of the divisor */
    uint8_t        rex;                 /* 0: no such prefix */
};

enum { REX_B = 1, REX_X = 2, REX_W = 8 };
enum { IN_REGISTER = 3, HAS_SIB = 4, NO_INDEX = 4, NO_BASE = 5 };

/* By the number that instructions have for it; DWARF's differ. */
static uint64_t register_of(const struct division *division, unsigned number)
{
    static const uint8_t dwarf[] = {0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};

    return division->registers->numbered[dwarf[number]];
}

/* Those that change nothing but the size of the operand: its own, repetition, and segments that mean nothing any more. */
static bool is_plain_prefix(uint8_t byte)
{
    return byte == 0x66 || byte == 0xF2 || byte == 0xF3 || (byte & 0xE7) == 0x26;
}

static bool find_division(const struct host_registers *registers, struct division *division)
{
    const uint8_t *at = (const uint8_t *)registers->pc;
    bool is_word = false;

    *division = (struct division){.registers = registers};
    while (is_plain_prefix(*at))
        is_word |= *at++ == 0x66;
    if ((*at & 0xF0) == 0x40)
        division->rex = *at++;
    division->bytes = *at == 0xF6 ? 1 : division->rex & REX_W ? 8 : is_word ? 2 : 4;
    division->modrm = at + 1;
    return (at[0] & 0xFE) == 0xF6 && (at[1] & 0x30) == 0x30;
}

/* A displacement of 8 or of 32 bits. */
static uintptr_t displacement(const uint8_t *at, unsigned bytes)
{
    int32_t value = (int8_t)at[0];

    if (bytes != 1)
        __builtin_memcpy(&value, at, sizeof(value));
    return (uintptr_t)value;
}

static uintptr_t address_of_divisor(const struct division *division)
{
    const unsigned mode = *division->modrm >> 6, rm = *division->modrm & 7;
    const uint8_t *at = division->modrm + 1;
    unsigned base = rm;
    uintptr_t va = 0;

    if (rm == HAS_SIB) {
        const unsigned index = (*at >> 3 & 7) | (division->rex & REX_X ? 8 : 0);

        va = index == NO_INDEX ? 0 : register_of(division, index) << (*at >> 6);
        base = *at++ & 7;
    }
    if (mode == 0 && base == NO_BASE)       /* without SIB, from the next instruction */
        return va + displacement(at, 4) + (rm == HAS_SIB ? 0 : (uintptr_t)at + 4);
    va += register_of(division, base | (division->rex & REX_B ? 8 : 0));
    return mode == 0 ? va : va + displacement(at, mode == 1 ? 1 : 4);
}

static uint64_t divisor_in_register(const struct division *division)
{
    const unsigned rm = *division->modrm & 7;

    if (division->bytes == 1 && division->rex == 0 && rm >= 4)
        return register_of(division, rm - 4) >> 8;          /* AH, CH, DH, BH */
    return register_of(division, rm | (division->rex & REX_B ? 8 : 0));
}

bool host_divides_by_zero(const struct host_registers *registers)
{
    struct division division;
    uint64_t in_register;
    const volatile uint8_t *divisor;
    uint8_t any = 0;

    if (!find_division(registers, &division))
        return true;
    in_register = divisor_in_register(&division);
    if (*division.modrm >> 6 == IN_REGISTER)
        divisor = (const volatile uint8_t *)&in_register;
    else
        divisor = (const volatile uint8_t *)address_of_divisor(&division);
    for (unsigned i = 0; i < division.bytes; i++)
        any |= divisor[i];
    return any == 0;
}

#else

/* Other processors give a quotient of some kind, and no fault. */
bool host_divides_by_zero(const struct host_registers *registers)
{
    (void)registers;
    return true;
}

#endif
