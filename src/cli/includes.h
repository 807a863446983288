/* SPDX-License-Identifier: MIT */
/* #include lines as they are written where neither case nor the slash matters. */
#ifndef PINION_CLI_INCLUDES_H
#define PINION_CLI_INCLUDES_H

#include <stdbool.h>
#include <stddef.h>

enum { INCLUDES_DEPTH = 8 };

struct includes {
    const char **directories;           /* searched in this order, behind the including file's own */
    size_t       ndirectories;
    const char  *own;                   /* the one that is Pinion's: nothing in it needs looking through */
    const char  *forwarders;            /* where the files go that lead to the real ones: the last directory of the search, below
                                           INCLUDES_DEPTH others for names that begin with ../ */
    size_t       nforwarders;           /* that were made */
    char       **seen;                  /* files that were met; each is looked through in its turn */
    size_t       nseen;
};

/* Look through a source and all that it includes; false: there is no memory, or a forwarder cannot be written. */
bool includes_prepare(struct includes *includes, const char *source);
void includes_free(struct includes *includes);

#endif
