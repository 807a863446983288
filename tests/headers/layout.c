/* SPDX-License-Identifier: MIT */
/*
 * Prints struct, field, offset and size, tab separated, for every structure of layout.def as our headers lay
 * it out.
 */

#include <stdio.h>

#include <ntifs.h>

static void print_row(const char *structure, const char *field, size_t offset, size_t size)
{
    printf("%s\t%s\t%zu\t%zu\n", structure, field, offset, size);
}

int main(void)
{
    puts("struct\tfield\toffset\tsize");
#define STRUCT(s)   print_row(#s, "(sizeof)", 0, sizeof(s));
#define FIELD(s, f) print_row(#s, #f, offsetof(s, f), sizeof(((s *)0)->f));
#include "layout.def"
    return 0;
}
