/* SPDX-License-Identifier: MIT */
/* What a printer of pinion/debug.h prints, as a text, and questions about it. */

#pragma once

#include "stories.h"

#include <pinion/debug.h>

#include <stdarg.h>
#include <stdlib.h>

__attribute__((noinline, unused)) static char *printed(void (*printer)(void *argument), void *argument)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *const stream = open_memstream(&text, &bytes);

    pinion_print_to(stream);
    printer(argument);
    pinion_print_to(NULL);
    fclose(stream);
    return text;
}

static HARNESS_UNUSED void print_mdl(void *mdl)
{
    pinion_print_mdl(mdl);
}

static HARNESS_UNUSED void print_irp(void *irp)
{
    pinion_print_irp(irp);
}

static HARNESS_UNUSED void print_adapter(void *adapter)
{
    pinion_print_adapter(adapter);
}

static HARNESS_UNUSED void print_locked_pages(void *unused HARNESS_UNUSED)
{
    pinion_print_locked_pages();
}

static HARNESS_UNUSED void print_system_ptes(void *unused HARNESS_UNUSED)
{
    pinion_print_system_ptes();
}

static HARNESS_UNUSED void print_verifier(void *unused HARNESS_UNUSED)
{
    pinion_print_verifier();
}

/* Does the text have this among its lines, from their beginning? */
static HARNESS_UNUSED bool has_line(const char *text, const char *start)
{
    const size_t length = strlen(start);

    for (; text != NULL; text = strchr(text, '\n')) {
        text += *text == '\n';
        if (strncmp(text, start, length) == 0)
            return true;
    }
    return false;
}

/* The text must have a line that starts so. */
static HARNESS_UNUSED __attribute__((format(printf, 2, 3))) void expect_line(const char *text, const char *format, ...)
{
    char start[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(start, sizeof(start), format, arguments);
    va_end(arguments);
    harness_expectations++;
    if (!has_line(text, start))
        harness_fail(HARNESS_HERE, "no line starts with '%s' in:\n%s", start, text);
}

/* Addresses of each kind at which no object is. */
static HARNESS_UNUSED size_t bad_addresses(void *addresses[8])
{
    static ULONG_PTR junk[64] = {0xDEADBEEFDEADBEEF, ~(ULONG_PTR)0, 1, 2, 3};
    UCHAR *const user = user_pages(1, PAGE_READWRITE), *const forbidden = user_pages(1, PAGE_NOACCESS);
    size_t n = 0;

    addresses[n++] = NULL;
    addresses[n++] = (void *)8;
    addresses[n++] = MM_BAD_POINTER;
    addresses[n++] = (void *)~(ULONG_PTR)0;
    addresses[n++] = junk;
    addresses[n++] = forbidden;
    addresses[n++] = forbidden - 8;
    addresses[n++] = memset(user, 0xA5, PAGE_SIZE);
    return n;
}
