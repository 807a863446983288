/* SPDX-License-Identifier: MIT */
/*
 * From here on DEFINE_GUID defines. One source of a driver includes this file before the headers that name
 * its GUIDs; a second one does no harm, because the definitions are weak.
 */
#ifndef INITGUID
#define INITGUID
#endif

#include "guiddef.h"
