/* SPDX-License-Identifier: MIT */
/* Names of addresses in a process, by libdw; and where the threads of another process are. */

#include "host/dwarf_impl.h"

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
