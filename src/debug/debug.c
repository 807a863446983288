/* SPDX-License-Identifier: MIT */
/* What the printers share: begin and end, names, flags, cut tables. */

#include "debug/debug.h"

#include <stdio.h>

static const char *why_not(void)
{
    switch ((enum ke_machine_state)atomic_load(&ke_the_machine.state)) {
    case KE_MACHINE_FORKED:
        return "This is a forked child: the machine runs in its parent";
    case KE_MACHINE_BOOTING:
        return "The machine boots or shuts down";
    default:
        return "No machine is running";
    }
}

struct machine *debug_begin(void)
{
    ke_printer_enter();
    if (ke_is_running())
        return &ke_the_machine;
    ke_print("%s.\n", why_not());
    return NULL;
}

void debug_end(void)
{
    ke_printer_leave();
}

void debug_print_bits(const struct debug_bit *bits, uint32_t value)
{
    const char *between = " ";

    for (; bits->name != NULL; bits++) {
        if (!(value & bits->bit))
            continue;
        ke_print("%s%s", between, bits->name);
        value &= ~bits->bit;
        between = " | ";
    }
    if (value != 0)
        ke_print("%s0x%x", between, value);
}

const char *debug_place(uintptr_t pc, char text[DEBUG_PLACE])
{
    ke_print_name(pc, text, DEBUG_PLACE);
    return text;
}

const char *debug_routine(const void *routine, char text[DEBUG_PLACE])
{
    return debug_place((uintptr_t)routine + 1, text);
}

const char *debug_caller(const struct vf_stack *stack, char text[DEBUG_PLACE])
{
    return stack == NULL || stack->n == 0 ? "-" : debug_place(stack->pcs[0], text);
}

void debug_print_more(size_t shown, size_t total)
{
    if (total > shown)
        ke_print("... and %zu more\n", total - shown);
}

/* 16-bit characters above ASCII are shown as '?'. */
static void narrow(const UNICODE_STRING *from, char text[DEBUG_PLACE])
{
    WCHAR wide[DEBUG_PLACE - 1];
    const size_t n = from->Length / sizeof(WCHAR) < DEBUG_PLACE - 1 ? from->Length / sizeof(WCHAR) : DEBUG_PLACE - 1;

    snprintf(text, DEBUG_PLACE, "a driver without a name");
    if (n == 0 || !host_peek(from->Buffer, wide, n * sizeof(WCHAR)))
        return;
    for (size_t i = 0; i < n; i++)
        text[i] = wide[i] >= 0x20 && wide[i] < 0x7F ? (char)wide[i] : '?';
    text[n] = '\0';
}

const char *debug_driver_of(const void *device, char text[DEBUG_PLACE])
{
    DEVICE_OBJECT object;
    DRIVER_OBJECT driver;

    if (!debug_peek(device, &object) || object.Type != IO_TYPE_DEVICE || !debug_peek(object.DriverObject, &driver)
        || driver.Type != IO_TYPE_DRIVER)
        return "no driver";
    narrow(&driver.DriverName, text);
    return text;
}
