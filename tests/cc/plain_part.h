/* SPDX-License-Identifier: MIT */
#pragma once
#include <wdm.h>
#include <pinion/pinion.h>

int plain_part(int x);
