/* SPDX-License-Identifier: MIT */
/* No __try here; built with plain_part.c, so that there are two sources in one command. */
#include "plain_part.h"

#if PLAIN_MACRO != 7
#error "the macro of the command line has not come through"
#endif

int main(void)
{
    return plain_part(PLAIN_MACRO) == 7 && pinion_shutdown() == 0 ? 0 : 1;
}
