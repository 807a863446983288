/* SPDX-License-Identifier: MIT */
/* A shared object that is no driver: it has no DriverEntry. */

int pinion_test_nothing(void);

int pinion_test_nothing(void)
{
    return 0;
}
