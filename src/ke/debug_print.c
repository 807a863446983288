/* SPDX-License-Identifier: MIT */
/*
 * DbgPrint: a driver's words go to stderr, where a kernel debugger would show them.
 *
 * Windows' formats are not C's: %wZ and %Z are counted strings, %ws and %S are 16-bit strings, I64 and I32 are lengths,
 * l is 32 bits. Each conversion is taken apart here and only plain ones are handed to the C library.
 */

#include "ke/ke.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One conversion: %[flags][width][.precision][length]type */
struct conversion {
    char plain[32];             /* flags, width and precision, with a leading % */
    bool is_64, is_wide;
    char type;
};

static const char *parse(const char *format, struct conversion *conversion, va_list *arguments)
{
    size_t n = 0;

    *conversion = (struct conversion){.plain = "%"};
    for (n = 1; *format != '\0' && strchr("-+ #0123456789.*", *format) != NULL; format++) {
        if (*format == '*')
            n += (size_t)snprintf(conversion->plain + n, sizeof(conversion->plain) - n, "%d", va_arg(*arguments, int));
        else if (n < sizeof(conversion->plain) - 5)
            conversion->plain[n++] = *format;
    }
    if (strncmp(format, "I64", 3) == 0 || strncmp(format, "I32", 3) == 0) {
        conversion->is_64 = format[1] == '6';
        format += 3;
    }
    for (; *format != '\0' && strchr("hlwILzt", *format) != NULL; format++) {
        conversion->is_64 |= (format[0] == 'l' && format[1] == 'l') || *format == 'I' || *format == 'z' || *format == 't';
        conversion->is_wide |= *format == 'w' || (*format == 'l' && (format[1] == 's' || format[1] == 'c'));
    }
    conversion->type = *format;
    return *format == '\0' ? format : format + 1;
}

/* 16-bit characters above ASCII are shown as '?': the console's encoding is not ours to choose. */
static void print_wide(const WCHAR *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fputc(text[i] < 0x80 ? (int)text[i] : '?', stderr);
}

static size_t wide_length(const WCHAR *text)
{
    size_t n = 0;

    while (text[n] != 0)
        n++;
    return n;
}

static void print_string(struct conversion *conversion, va_list *arguments)
{
    const bool wide = conversion->is_wide || conversion->type == 'S';
    const void *text = va_arg(*arguments, const void *);

    if (text == NULL)
        fputs("(null)", stderr);
    else if (wide)
        print_wide(text, wide_length(text));
    else
        fprintf(stderr, strcat(conversion->plain, "s"), (const char *)text);
}

static void print_counted(const struct conversion *conversion, va_list *arguments)
{
    const UNICODE_STRING *string = va_arg(*arguments, const UNICODE_STRING *);

    if (string == NULL || string->Buffer == NULL)
        fputs("(null)", stderr);
    else if (conversion->is_wide)
        print_wide(string->Buffer, string->Length / sizeof(WCHAR));
    else
        fwrite(string->Buffer, 1, string->Length, stderr);
}

static void print_integer(struct conversion *conversion, va_list *arguments)
{
    const bool is_signed = conversion->type == 'd' || conversion->type == 'i';
    char format[sizeof(conversion->plain) + 4];
    long long value;

    snprintf(format, sizeof(format), "%sll%c", conversion->plain, conversion->type);
    if (conversion->is_64)
        value = va_arg(*arguments, long long);
    else
        value = is_signed ? va_arg(*arguments, int) : (long long)va_arg(*arguments, unsigned);
    fprintf(stderr, format, value);
}

static void print_one(struct conversion *conversion, va_list *arguments)
{
    switch (conversion->type) {
    case 'd': case 'i': case 'u': case 'x': case 'X': case 'o':
        print_integer(conversion, arguments);
        break;
    case 's': case 'S':
        print_string(conversion, arguments);
        break;
    case 'Z':
        print_counted(conversion, arguments);
        break;
    case 'c': case 'C':
        fputc(va_arg(*arguments, int), stderr);
        break;
    case 'p':
        fprintf(stderr, "%016llX", (unsigned long long)(uintptr_t)va_arg(*arguments, void *));
        break;
    case '%':
        fputc('%', stderr);
        break;
    default:
        fprintf(stderr, "%%%c", conversion->type);
    }
}

static void print(const char *format, va_list *arguments)
{
    struct conversion conversion;

    while (*format != '\0') {
        const size_t plain = strcspn(format, "%");

        fwrite(format, 1, plain, stderr);
        format += plain;
        if (*format == '%') {
            format = parse(format + 1, &conversion, arguments);
            print_one(&conversion, arguments);
        }
    }
}

ULONG DbgPrint(PCSTR Format, ...)
{
    va_list arguments;

    va_start(arguments, Format);
    print(Format, &arguments);
    va_end(arguments);
    return STATUS_SUCCESS;
}

ULONG DbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, ...)
{
    va_list arguments;

    UNREFERENCED_PARAMETER(ComponentId);
    UNREFERENCED_PARAMETER(Level);
    va_start(arguments, Format);
    print(Format, &arguments);
    va_end(arguments);
    return STATUS_SUCCESS;
}

ULONG vDbgPrintEx(ULONG ComponentId, ULONG Level, PCSTR Format, va_list arglist)
{
    va_list arguments;

    UNREFERENCED_PARAMETER(ComponentId);
    UNREFERENCED_PARAMETER(Level);
    va_copy(arguments, arglist);
    print(Format, &arguments);
    va_end(arguments);
    return STATUS_SUCCESS;
}
