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

/* What a call prints is collected, so that calls on several threads do not mix: it goes out whole, or in pieces of this size. */
enum { SINK_BYTES = 1024 };

struct sink {
    char   text[SINK_BYTES];
    size_t used;
};

static void flush(struct sink *sink)
{
    fwrite(sink->text, 1, sink->used, stderr);
    sink->used = 0;
}

static void put(struct sink *sink, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (sink->used == SINK_BYTES)
            flush(sink);
        sink->text[sink->used++] = text[i];
    }
}

/* ---- conversions: %[flags][width][.precision][length]type ---- */

enum { LARGEST_WIDTH = 512 };

enum characters { AS_TYPE_SAYS, NARROW, WIDE };

struct conversion {
    char            flags[8];           /* each at most once */
    int             width, precision;   /* precision < 0: none was given */
    int             bytes;              /* of an integer */
    enum characters characters;
    char            type;
};

static bool is_left(const struct conversion *conversion)
{
    return strchr(conversion->flags, '-') != NULL;
}

static void add_flag(struct conversion *conversion, char flag)
{
    if (strchr(conversion->flags, flag) == NULL)
        conversion->flags[strlen(conversion->flags)] = flag;
}

static const char *parse_number(const char *format, int *number, va_list *arguments)
{
    *number = 0;
    if (*format == '*') {
        *number = va_arg(*arguments, int);
        format++;
    }
    for (; *format >= '0' && *format <= '9'; format++)
        *number = *number < LARGEST_WIDTH ? *number * 10 + (*format - '0') : LARGEST_WIDTH;
    return format;
}

static const char *parse_width_and_precision(struct conversion *conversion, const char *format, va_list *arguments)
{
    format = parse_number(format, &conversion->width, arguments);
    if (conversion->width < 0) {
        add_flag(conversion, '-');
        conversion->width = conversion->width > -LARGEST_WIDTH ? -conversion->width : LARGEST_WIDTH;
    }
    if (conversion->width > LARGEST_WIDTH)
        conversion->width = LARGEST_WIDTH;
    conversion->precision = -1;
    return *format == '.' ? parse_number(format + 1, &conversion->precision, arguments) : format;
}

/* The lengths that there are; of two that begin alike the longer one is first. */
static const struct length {
    char            text[4];
    int             bytes;
    enum characters characters;
} lengths[] = {
    {"I64", 8, AS_TYPE_SAYS}, {"I32", 4, AS_TYPE_SAYS}, {"I", 8, AS_TYPE_SAYS}, {"ll", 8, WIDE}, {"l", 4, WIDE},
    {"hh", 1, NARROW}, {"h", 2, NARROW}, {"w", 4, WIDE}, {"z", 8, AS_TYPE_SAYS}, {"t", 8, AS_TYPE_SAYS}, {"j", 8, AS_TYPE_SAYS},
};

static const char *parse_length(struct conversion *conversion, const char *format)
{
    conversion->bytes = 4;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        const size_t n = strlen(lengths[i].text);

        if (strncmp(format, lengths[i].text, n) != 0)
            continue;
        conversion->bytes = lengths[i].bytes;
        conversion->characters = lengths[i].characters;
        return format + n;
    }
    return format;
}

static const char *parse(const char *format, struct conversion *conversion, va_list *arguments)
{
    *conversion = (struct conversion){.characters = AS_TYPE_SAYS};
    for (; *format != '\0' && strchr("-+ #0", *format) != NULL; format++)
        add_flag(conversion, *format);
    format = parse_width_and_precision(conversion, format, arguments);
    format = parse_length(conversion, format);
    conversion->type = *format;
    return *format == '\0' ? format : format + 1;
}

/* ---- text ---- */

static bool is_wide(const struct conversion *conversion)
{
    if (conversion->characters != AS_TYPE_SAYS)
        return conversion->characters == WIDE;
    return conversion->type == 'S' || conversion->type == 'C';
}

/* 16-bit characters above ASCII are shown as '?': the console's encoding is not ours to choose. */
static char character_at(const void *text, size_t i, bool wide)
{
    const WCHAR c = wide ? ((const WCHAR *)text)[i] : 0;

    if (!wide)
        return ((const char *)text)[i];
    return c < 0x80 ? (char)c : '?';
}

/* Characters up to the terminator, and not one is read beyond `most`. */
static size_t length_of(const void *text, bool wide, size_t most)
{
    size_t n = 0;

    while (n < most && character_at(text, n, wide) != '\0')
        n++;
    return n;
}

static void put_padding(struct sink *sink, const struct conversion *conversion, size_t length)
{
    for (size_t i = length; i < (size_t)conversion->width; i++)
        put(sink, " ", 1);
}

static void put_text(struct sink *sink, const struct conversion *conversion, const void *text, size_t length, bool wide)
{
    if (!is_left(conversion))
        put_padding(sink, conversion, length);
    for (size_t i = 0; i < length; i++) {
        const char c = character_at(text, i, wide);

        put(sink, &c, 1);
    }
    if (is_left(conversion))
        put_padding(sink, conversion, length);
}

static void print_string(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    const size_t most = conversion->precision < 0 ? SIZE_MAX : (size_t)conversion->precision;
    const void *text = va_arg(*arguments, const void *);
    const bool wide = text != NULL && is_wide(conversion);

    if (text == NULL)
        text = "(null)";
    put_text(sink, conversion, text, length_of(text, wide, most), wide);
}

/* ANSI_STRING and UNICODE_STRING are laid out alike. */
static void print_counted(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    const UNICODE_STRING *string = va_arg(*arguments, const UNICODE_STRING *);
    const bool wide = is_wide(conversion);

    if (string == NULL || string->Buffer == NULL)
        put_text(sink, conversion, "(null)", 6, false);
    else
        put_text(sink, conversion, string->Buffer, string->Length / (wide ? sizeof(WCHAR) : 1), wide);
}

static void print_character(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    const int value = va_arg(*arguments, int);
    const WCHAR wide = (WCHAR)value;
    const char narrow = (char)value;

    put_text(sink, conversion, is_wide(conversion) ? (const void *)&wide : &narrow, 1, is_wide(conversion));
}

/* ---- numbers ---- */

static long long take_integer(const struct conversion *conversion, va_list *arguments)
{
    const bool is_signed = conversion->type == 'd' || conversion->type == 'i';
    int value;

    if (conversion->bytes == 8)
        return va_arg(*arguments, long long);
    value = va_arg(*arguments, int);
    switch (conversion->bytes) {
    case 1: return is_signed ? (signed char)value : (long long)(UCHAR)value;
    case 2: return is_signed ? (SHORT)value : (long long)(USHORT)value;
    default: return is_signed ? value : (long long)(ULONG)value;
    }
}

static void print_integer(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    const int precision = conversion->precision < LARGEST_WIDTH ? conversion->precision : LARGEST_WIDTH;
    char format[24], text[LARGEST_WIDTH + 32];

    snprintf(format, sizeof(format), "%%%s*.*ll%c", conversion->flags, conversion->type);
    snprintf(text, sizeof(text), format, conversion->width, precision, take_integer(conversion, arguments));
    put(sink, text, strlen(text));
}

static void print_pointer(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    char text[17];

    snprintf(text, sizeof(text), "%016llX", (unsigned long long)(uintptr_t)va_arg(*arguments, void *));
    put_text(sink, conversion, text, strlen(text), false);
}

static void print_one(struct sink *sink, const struct conversion *conversion, va_list *arguments)
{
    switch (conversion->type) {
    case 'd': case 'i': case 'u': case 'x': case 'X': case 'o':
        print_integer(sink, conversion, arguments);
        break;
    case 's': case 'S':
        print_string(sink, conversion, arguments);
        break;
    case 'Z':
        print_counted(sink, conversion, arguments);
        break;
    case 'c': case 'C':
        print_character(sink, conversion, arguments);
        break;
    case 'p':
        print_pointer(sink, conversion, arguments);
        break;
    case '%':
        put(sink, "%", 1);
        break;
    case '\0':
        break;
    default:
        put(sink, "%", 1);
        put(sink, &conversion->type, 1);
    }
}

static void print(const char *format, va_list *arguments)
{
    struct conversion conversion;
    struct sink sink = {.used = 0};

    while (*format != '\0') {
        const size_t plain = strcspn(format, "%");

        put(&sink, format, plain);
        format += plain;
        if (*format == '%') {
            format = parse(format + 1, &conversion, arguments);
            print_one(&sink, &conversion, arguments);
        }
    }
    flush(&sink);
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
