/* SPDX-License-Identifier: MIT */
/*
 * Call stacks: walked by frame pointer, named by libdw only when they are printed.
 *
 *      frame -> [ caller's frame ][ return address ]      addresses grow upwards, and so do frames
 *
 * A frame outside the thread's stack, or not above the one before it, ends the walk: code built without frame
 * pointers shortens a stack and never breaks it.
 *
 * That walk is for every event. At a fault, where time does not matter, the innermost frames come from unwind information: a
 * routine of the C library that was given a bad address has no frame of its own, and by frame pointer its caller would be missing.
 */

#include "host/dwarf_impl.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <unwind.h>

/* A stack has room for a frame here. */
static bool is_frame_between(uintptr_t low, uintptr_t high, uintptr_t frame)
{
    return frame % sizeof(uintptr_t) == 0 && frame >= low && frame < high - 2 * sizeof(uintptr_t);
}

static bool is_frame(uintptr_t frame)
{
    uintptr_t low, high;

    host_stack_bounds(&low, &high);
    return is_frame_between(low, high, frame);
}

__attribute__((no_sanitize("address", "thread")))
size_t host_stack_walk(uintptr_t ip, uintptr_t frame, uintptr_t *pcs, size_t max)
{
    uintptr_t low, high;
    size_t n = 0;

    host_stack_bounds(&low, &high);
    if (max > 0)
        pcs[n++] = ip;
    while (n < max && is_frame_between(low, high, frame)) {
        const uintptr_t *link = (const uintptr_t *)frame;
        const uintptr_t outer = link[0];

        if (link[1] == 0)
            break;
        pcs[n++] = link[1];
        if (outer <= frame)
            break;
        frame = outer;
    }
    return n;
}

static const void *module_of(uintptr_t pc)
{
    Dl_info info;

    return dladdr((const void *)pc, &info) == 0 ? NULL : info.dli_fbase;
}

/* Where a signal handler returns to: the kernel's way back, by the instructions that the C library has for it. */
static bool is_signal_return(uintptr_t pc)
{
#if defined(__x86_64__)
    static const unsigned char code[] = {0x48, 0xC7, 0xC0, 0x0F, 0x00, 0x00, 0x00, 0x0F, 0x05};

    return module_of(pc) != NULL && memcmp((const void *)pc, code, sizeof(code)) == 0;
#else
    (void)pc;
    return false;
#endif
}

/* ---- where a fault was ---- */

enum { DEEPEST_OWN = 64 };

__attribute__((no_sanitize("address", "thread")))
static bool read_word(uintptr_t va, uint64_t *word)
{
    if (!is_frame(va))
        return false;
    *word = *(const uintptr_t *)va;
    return true;
}

/* Does a call instruction end in front of this address? */
static bool is_behind_call(uintptr_t pc)
{
#if defined(__x86_64__)
    enum { LONGEST = 7, NEAR = 5, NEAR_CALL = 0xE8, GROUP = 0xFF, CALL_IN_GROUP = 2 };
    uint8_t code[LONGEST];

    if (module_of(pc) == NULL || !host_peek((const void *)(pc - LONGEST), code, LONGEST))
        return false;
    if (code[LONGEST - NEAR] == NEAR_CALL)
        return true;
    for (int i = 0; i < LONGEST - 1; i++)
        if (code[i] == GROUP && (code[i + 1] >> 3 & 7) == CALL_IN_GROUP)
            return true;
#endif
    (void)pc;
    return false;
}

/* After a call of what is no code: nothing was pushed since. */
static bool return_to_caller(struct host_registers *registers)
{
    uint64_t pc;

    if (!read_word(registers->sp, &pc) || !is_behind_call((uintptr_t)pc))
        return false;
    registers->pc = (uintptr_t)pc;
    registers->sp += sizeof(pc);
#if defined(__x86_64__)
    registers->numbered[7] = registers->sp;
    registers->numbered[16] = pc;
#endif
    return true;
}

static size_t position_of(uintptr_t pc, const uintptr_t *pcs, size_t n)
{
    size_t i = 0;

    while (i < n && pcs[i] != pc)
        i++;
    return i;
}

/* By unwind information until it meets the chain of frame pointers, which goes on from there; by that alone where there is none. */
static size_t callers_of(const struct host_registers *registers, uintptr_t *pcs, size_t max)
{
    uintptr_t exact[DEEPEST_OWN], chain[DEEPEST_OWN];
    const size_t nexact = host_dwarf_unwind(registers, read_word, exact, DEEPEST_OWN);
    const size_t nchain = host_stack_walk(registers->pc, registers->frame, chain, DEEPEST_OWN);
    size_t n = 0, met = nexact == 0 ? 1 : nchain;

    for (size_t i = 0; i < nexact && n < max && met == nchain; i++) {
        met = position_of(exact[i], chain + 1, nchain - 1) + 1;
        if (met == nchain)
            pcs[n++] = exact[i];
    }
    while (met < nchain && n < max)
        pcs[n++] = chain[met++];
    return n;
}

/* The instruction that faulted counts as if it were a return address, which names what is before it. */
static size_t stack_of_fault(uintptr_t *pcs, size_t max)
{
    struct host_registers registers = *host_fault_registers();
    size_t n = 0;

    if (max < 2)
        return 0;
    pcs[n++] = registers.pc + 1;
    if (module_of(registers.pc) == NULL && return_to_caller(&registers))
        pcs[n++] = registers.pc;
    return n + callers_of(&registers, pcs + n, max - n);
}

size_t host_stack_of_caller(uintptr_t *pcs, size_t max)
{
    uintptr_t all[DEEPEST_OWN];
    const uintptr_t here = (uintptr_t)__builtin_return_address(0);
    const size_t n = host_stack_walk(here, *(const uintptr_t *)__builtin_frame_address(0), all, DEEPEST_OWN);
    const void *own = module_of(here);
    size_t first = 0, kept = 0;

    while (first < n && !is_signal_return(all[first]) && module_of(all[first]) == own)
        first++;
    if (first < n && is_signal_return(all[first]))
        return stack_of_fault(pcs, max);
    while (kept < max && first < n)
        pcs[kept++] = all[first++];
    return kept;
}

/* ---- frames that variables stand in ---- */

struct search {
    uintptr_t         va;
    struct host_frame found;
};

/* What is called the CFA of a frame here is where its routine's own stack begins: the next one's return address lies below it. */
__attribute__((no_sanitize("address", "thread")))
static _Unwind_Reason_Code look_at_frame(struct _Unwind_Context *context, void *argument)
{
    struct search *search = argument;
    const uintptr_t end = (uintptr_t)_Unwind_GetCFA(context), link = end - sizeof(uintptr_t);

    if (end <= search->va)
        return _URC_NO_REASON;
    if (is_frame(link) && *(const uintptr_t *)link == (uintptr_t)_Unwind_GetIP(context))
        search->found = (struct host_frame){link, *(const uintptr_t *)link};
    return _URC_NORMAL_STOP;
}

/* By unwind information, which knows a frame's bounds also where code has no frame pointers. */
struct host_frame host_frame_of(const void *variable)
{
    const uintptr_t va = (uintptr_t)variable;
    struct search search = {va, {.link = va}};

    if (!is_frame(va & ~(sizeof(uintptr_t) - 1)) || va < (uintptr_t)__builtin_frame_address(0))
        return (struct host_frame){0};
    (void)_Unwind_Backtrace(look_at_frame, &search);
    return search.found;
}

__attribute__((no_sanitize("address", "thread")))
bool host_frame_is_left(const struct host_frame *frame, uintptr_t sp)
{
    if (frame->link == 0 || frame->link < sp)
        return frame->link != 0;
    return frame->returns_to != 0 && *(const volatile uintptr_t *)frame->link != frame->returns_to;
}

/* ---- whose a frame is ---- */

struct code {
    uintptr_t low, high;                /* none: both 0 */
};

/* Known from boot on, so that a printer under a debugger need not ask the loader. */
static struct {
    struct code own;                    /* the library, where it is a module of its own */
    struct code c_library;
} modules;

static bool is_in_code(const struct code *code, uintptr_t pc)
{
    return pc >= code->low && pc < code->high;
}

static struct code code_of(const struct dl_phdr_info *module)
{
    struct code code = {UINTPTR_MAX, 0};

    for (size_t i = 0; i < module->dlpi_phnum; i++) {
        const uintptr_t low = module->dlpi_addr + module->dlpi_phdr[i].p_vaddr, high = low + module->dlpi_phdr[i].p_memsz;

        if (module->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        code.low = low < code.low ? low : code.low;
        code.high = high > code.high ? high : code.high;
    }
    return code;
}

static int take_module(struct dl_phdr_info *module, size_t bytes, void *context)
{
    const struct code code = code_of(module);
    const bool is_program = module->dlpi_name[0] == '\0';

    (void)bytes;
    (void)context;
    if (!is_program && is_in_code(&code, (uintptr_t)&take_module))
        modules.own = code;
    if (!is_program && is_in_code(&code, (uintptr_t)&dladdr))
        modules.c_library = code;
    return 0;
}

void host_stack_boot(void)
{
    dl_iterate_phdr(take_module, NULL);
}

size_t host_stack_own_frames(const uintptr_t *pcs, size_t n)
{
    for (size_t i = 1; i < n && is_in_code(&modules.own, pcs[0]); i++)
        if (!is_in_code(&modules.own, pcs[i]) && !is_in_code(&modules.c_library, pcs[i]))
            return i;
    return 0;
}

/* ---- names ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

bool host_module_of(uintptr_t pc, struct host_place *place)
{
    Dl_info info;

    *place = (struct host_place){0};
    if (dladdr((const void *)pc, &info) == 0 || info.dli_fname == NULL)
        return false;
    place->module = info.dli_fname;
    place->offset = pc - (uintptr_t)info.dli_fbase;
    return true;
}

static _Thread_local struct {
    unsigned depth;
    bool     read;                      /* when the first name was asked for */
    Dwfl    *dwfl;                      /* NULL: it could not be read */
} symbols;

void host_symbols_begin(void)
{
    symbols.depth++;
}

void host_symbols_end(void)
{
    if (--symbols.depth > 0 || !symbols.read)
        return;
    if (symbols.dwfl != NULL)
        dwfl_end(symbols.dwfl);
    symbols.read = false;
}

static Dwfl *read_symbols(void)
{
    if (!symbols.read)
        symbols.dwfl = host_dwarf_open(getpid());
    symbols.read = true;
    return symbols.dwfl;
}

/* A return address belongs to the call before it, so the byte before it is the one that is named. */
void host_place_of(uintptr_t pc, struct host_place *place)
{
    host_module_of(pc, place);
    host_symbols_begin();
    if (read_symbols() != NULL)
        host_dwarf_place(symbols.dwfl, pc - 1, place);
    host_symbols_end();
}

void host_symbol(uintptr_t pc, char *text, size_t bytes)
{
    struct host_place place;

    host_symbols_begin();
    host_place_of(pc, &place);
    if (place.function != NULL && place.file != NULL)
        snprintf(text, bytes, "%s (%s:%u)", place.function, base_name(place.file), place.line);
    else if (place.function != NULL)
        snprintf(text, bytes, "%s", place.function);
    else if (place.module != NULL)
        snprintf(text, bytes, "%s+0x%lx", base_name(place.module), (unsigned long)place.offset);
    else
        snprintf(text, bytes, "0x%lx", (unsigned long)pc);
    host_symbols_end();
}
