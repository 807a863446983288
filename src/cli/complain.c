/* SPDX-License-Identifier: MIT */
/* How a command says what is wrong, in one line, and how it ends. */

#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int cli_complain(int code, const char *format, ...)
{
    va_list arguments;

    progress_clear();
    fputs("pinion: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

int cli_end(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    return cli_complain(CLI_USAGE, "what there is to print cannot be written: %s", strerror(errno));
}
