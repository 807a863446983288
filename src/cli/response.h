/* SPDX-License-Identifier: MIT */
/* Response files: arguments that stand in a file, which @FILE among the arguments names. */
#ifndef PINION_CLI_RESPONSE_H
#define PINION_CLI_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

/* Arguments, each of its own memory. */
struct arguments {
    char **words;
    size_t n;
};

/*
 * The words with what stands in each file instead of its @FILE, and so on for those that the file names; a file that cannot be read is
 * a word like any other, as for compilers. False: complained. arguments_free in either case.
 */
bool arguments_expand(struct arguments *arguments, char **words, size_t n);
void arguments_free(struct arguments *arguments);

#endif
