/* SPDX-License-Identifier: MIT */
/*
 * Where reports and printers write: the one place that all their lines go through.
 *
 * A report is told on stderr. What a printer says goes where its caller's thread wants it: to stderr, to a stream, or into a text that a
 * debugger reads. A debugger stops threads anywhere, inside malloc as well: for one, nothing is printed that takes memory or a lock of the
 * C library, and a place in the code is its address in angle brackets, to which the debugger knows the name.
 */

#include "ke/ke.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1024, TEXT_BYTES = 1 << 18 };

static _Thread_local struct {
    unsigned depth;                     /* printers that this thread is in */
    bool     bare;                      /* addresses for names */
    bool     to_debugger;
    FILE    *stream;                    /* NULL: stderr */
} out;

static char   debugger_text[TEXT_BYTES];
static size_t debugger_used;

/* Room is kept for the note that the text goes on. */
static void append(const char *text, size_t n)
{
    static const char cut[] = "\n(cut here)\n";
    const size_t most = sizeof(debugger_text) - sizeof(cut);
    const size_t taken = n < most - debugger_used ? n : most - debugger_used;

    memcpy(debugger_text + debugger_used, text, taken);
    debugger_used += taken;
    memcpy(debugger_text + debugger_used, taken < n ? cut : "", taken < n ? sizeof(cut) : 1);
}

static void put(const char *text, size_t n)
{
    if (out.depth == 0)
        fwrite(text, 1, n, stderr);
    else if (out.to_debugger)
        append(text, n);
    else if (out.stream != NULL)
        fwrite(text, 1, n, out.stream);
    else
        host_write_error(text, n);
}

void ke_print(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    put(line, n < LINE_BYTES ? (size_t)n : LINE_BYTES - 1);
}

void ke_print_name(uintptr_t pc, char *text, size_t bytes)
{
    if (out.depth != 0 && out.bare)
        snprintf(text, bytes, "<0x%lx>", (unsigned long)pc - 1);
    else
        host_symbol(pc, text, bytes);
}

int64_t ke_patience_ns(void)
{
    return out.depth != 0 ? 250000000 : 10000000000;
}

void ke_printer_enter(void)
{
    if (out.depth++ != 0)
        return;
    out.bare = out.to_debugger || host_is_traced();
    if (!out.bare)
        host_symbols_begin();
}

/* A printer that a debugger interrupted for another one is in none any more. */
void ke_printer_leave(void)
{
    if (out.depth != 0 && --out.depth == 0 && !out.bare)
        host_symbols_end();
}

/* Whatever printer this thread stands in is abandoned. */
void ke_printers_off(void)
{
    out.depth = 0;
}

void pinion_print_to(FILE *stream)
{
    out.stream = stream;
}

const char *pinion_print_to_debugger(int on)
{
    ke_printers_off();
    out.to_debugger = on != 0;
    if (on) {
        debugger_used = 0;
        debugger_text[0] = '\0';
    }
    return debugger_text;
}

void ke_tag_text(ULONG tag, char text[KE_TAG_TEXT])
{
    for (unsigned i = 0; i < 4; i++) {
        const char c = (char)(tag >> (8 * i));

        text[i] = c >= 0x20 && c < 0x7F ? c : '.';
    }
    text[4] = '\0';
}
