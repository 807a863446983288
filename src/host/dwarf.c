/* SPDX-License-Identifier: MIT */
/* Names of addresses in a process, by libdw; and where the threads of another process are. */

#include "host/dwarf_impl.h"

#include <unistd.h>

static char *debuginfo_path;

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .debuginfo_path = &debuginfo_path,
};

Dwfl *host_dwarf_open(int pid)
{
    Dwfl *dwfl = dwfl_begin(&callbacks);

    if (dwfl == NULL)
        return NULL;
    dwfl_report_begin(dwfl);
    if (dwfl_linux_proc_report(dwfl, pid) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

/* By the table of address ranges that gcc writes. */
static const char *line_by_ranges(Dwfl_Module *module, uintptr_t pc, int *number)
{
    Dwfl_Line *line = dwfl_module_getsrc(module, pc);

    return line == NULL ? NULL : dwfl_lineinfo(line, NULL, number, NULL, NULL, NULL);
}

/* clang writes no such table: ask each compilation unit. */
static const char *line_by_units(Dwfl_Module *module, uintptr_t pc, int *number)
{
    Dwarf_Die *unit = NULL;
    Dwarf_Addr bias;

    while ((unit = dwfl_module_nextcu(module, unit, &bias)) != NULL) {
        Dwarf_Line *line = dwarf_haspc(unit, pc - bias) == 1 ? dwarf_getsrc_die(unit, pc - bias) : NULL;

        if (line != NULL && dwarf_lineno(line, number) == 0)
            return dwarf_linesrc(line, NULL, NULL);
    }
    return NULL;
}

void host_dwarf_place(Dwfl *dwfl, uintptr_t pc, struct host_place *place)
{
    Dwfl_Module *module = dwfl_addrmodule(dwfl, pc);
    int number = 0;

    if (module == NULL)
        return;
    place->function = dwfl_module_addrname(module, pc);
    place->file = line_by_ranges(module, pc, &number);
    if (place->file == NULL)
        place->file = line_by_units(module, pc, &number);
    place->line = (unsigned)number;
}

/* ---- this thread, from given registers ---- */

struct unwinding {
    const struct host_registers *registers;
    host_read_word_fn           *read;
    uintptr_t                   *pcs;
    size_t                       n, max;
};

static pid_t next_thread(Dwfl *dwfl, void *context, void **thread)
{
    const bool first = *thread == NULL;

    *thread = context;
    return first ? dwfl_pid(dwfl) : 0;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr va, Dwarf_Word *word, void *context)
{
    (void)dwfl;
    return ((const struct unwinding *)context)->read((uintptr_t)va, word);
}

static bool give_registers(Dwfl_Thread *thread, void *context)
{
    const struct host_registers *registers = ((const struct unwinding *)context)->registers;

    dwfl_thread_state_register_pc(thread, registers->pc);
    return dwfl_thread_state_registers(thread, 0, registers->nnumbered, registers->numbered);
}

static int take_caller(Dwfl_Frame *frame, void *context)
{
    struct unwinding *unwinding = context;
    bool is_innermost;
    Dwarf_Addr pc;

    if (unwinding->n == unwinding->max || !dwfl_frame_pc(frame, &pc, &is_innermost))
        return DWARF_CB_ABORT;
    if (pc != unwinding->registers->pc || unwinding->n > 0)
        unwinding->pcs[unwinding->n++] = (uintptr_t)pc;
    return DWARF_CB_OK;
}

size_t host_dwarf_unwind(const struct host_registers *registers, host_read_word_fn *read, uintptr_t *pcs, size_t max)
{
    static const Dwfl_Thread_Callbacks thread = {
        .next_thread = next_thread, .memory_read = read_word, .set_initial_registers = give_registers};
    struct unwinding unwinding = {.registers = registers, .read = read, .pcs = pcs, .max = max};
    const pid_t self = getpid();
    Dwfl *dwfl = host_dwarf_open(self);

    if (dwfl == NULL)
        return 0;
    if (dwfl_attach_state(dwfl, NULL, self, &thread, &unwinding))
        (void)dwfl_getthread_frames(dwfl, self, take_caller, &unwinding);
    dwfl_end(dwfl);
    return unwinding.n;
}

/* ---- another process ---- */

enum { MOST_FRAMES = 32 };

struct walk {
    Dwfl          *dwfl;
    host_frame_fn *frame;
    void          *context;
    unsigned       thread, nframes;
};

static void place_in_module(Dwfl *dwfl, uintptr_t pc, struct host_place *place)
{
    Dwfl_Module *module = dwfl_addrmodule(dwfl, pc);
    Dwarf_Addr start = 0;

    *place = (struct host_place){0};
    if (module == NULL)
        return;
    place->module = dwfl_module_info(module, NULL, &start, NULL, NULL, NULL, NULL, NULL);
    place->offset = pc - start;
    host_dwarf_place(dwfl, pc, place);
}

static int visit_frame(Dwfl_Frame *frame, void *context)
{
    struct walk *walk = context;
    struct host_place place;
    bool is_innermost;
    Dwarf_Addr pc;

    if (!dwfl_frame_pc(frame, &pc, &is_innermost))
        return DWARF_CB_ABORT;
    place_in_module(walk->dwfl, is_innermost ? pc : pc - 1, &place);
    walk->frame(walk->thread, &place, walk->context);
    return ++walk->nframes < MOST_FRAMES ? DWARF_CB_OK : DWARF_CB_ABORT;
}

static int visit_thread(Dwfl_Thread *thread, void *context)
{
    struct walk *walk = context;

    walk->thread++;
    walk->nframes = 0;
    (void)dwfl_thread_getframes(thread, visit_frame, walk);
    return DWARF_CB_OK;
}

void host_process_stacks(int pid, host_frame_fn *frame, void *context)
{
    struct walk walk = {.dwfl = host_dwarf_open(pid), .frame = frame, .context = context};

    if (walk.dwfl == NULL)
        return;
    if (dwfl_linux_proc_attach(walk.dwfl, pid, false) == 0)
        (void)dwfl_getthreads(walk.dwfl, visit_thread, &walk);
    dwfl_end(walk.dwfl);
}
