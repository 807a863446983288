/* SPDX-License-Identifier: MIT */
/*
 * Twins: for each rule of src/verifier/rules.def one test that breaks it and one, as close to it as can be, that does not.
 *
 *     RULE_BAD(UNLOCK_PARTIAL)         must stop with the rule's code and subcode, or give rise to its warning and no other
 *     {
 *         PMDL source = locked_mdl(va, bytes), part = part_of(source, va, PAGE_SIZE);
 *
 *         PARAMETERS(part, mdl_flags(part), MDL_PARTIAL);      the stop must say so in its other parameters
 *         MmUnlockPages(part);
 *     }
 *     RULE_GOOD(UNLOCK_PARTIAL)        must be silent, and leave the machine idle
 *
 * tools/rules fails where a rule has no twins, and takes the bodies as the wrong and the right snippet that
 * `pinion explain` shows, without the PARAMETERS: a body is to be read by a driver author.
 */

#pragma once

#include "harness.h"
#include <wdm.h>

#include "../../src/verifier/rules.h"
#include "../contract/support.h"

#include <stdarg.h>
#include <string.h>

/* ---- the other parameters of a stop ---- */

enum { PARAMETERS_SAID, FIRST_PARAMETER };

/* Shared with the child: how many parameters it expects, then these. */
static uint64_t *rule_words;

/* A parameter that nobody can know beforehand. */
static HARNESS_UNUSED const uint64_t ANYTHING = 0xA11A11A11A11A11A;


#define PARAMETERS(...)                                                                                      \
    do {                                                                                                     \
        const uint64_t words_[] = {__VA_ARGS__};                                                             \
        rule_words[PARAMETERS_SAID] = sizeof(words_) / sizeof(words_[0]);                                    \
        memcpy(&rule_words[FIRST_PARAMETER], words_, sizeof(words_));                                        \
    } while (0)

/* A pointer as a parameter. */
static HARNESS_UNUSED uint64_t p(const volatile void *pointer)
{
    return (uintptr_t)pointer;
}

static void rule_expect_parameters(const struct harness_place *place, const struct stop *stop, unsigned first)
{
    for (unsigned i = 0; i < rule_words[PARAMETERS_SAID]; i++) {
        const uint64_t expected = rule_words[FIRST_PARAMETER + i];

        harness_expectations++;
        if (expected != ANYTHING && stop->p[first + i] != expected)
            harness_fail(place, "parameter %u is 0x%llX, not 0x%llX, in: %s", first + i + 1,
                         (unsigned long long)stop->p[first + i], (unsigned long long)expected, stop->stderr_text);
    }
}

/* ---- twins ---- */

static void rule_expect_stop(const struct harness_place *place, void (*body)(void *), const struct vf_rule_text *facts)
{
    const struct stop stop = harness_run_until_stop(place, body, NULL);
    const bool has_subcode = facts->subcode >= 0;

    harness_expectations++;
    if (!stop.stopped || stop.code != facts->code || (has_subcode && stop.p[0] != (uint64_t)facts->subcode))
        harness_fail(place, "%s: expected STOP 0x%X/0x%X, got: %s", facts->name, facts->code, (unsigned)facts->subcode,
                     stop.stderr_text);
    if (stop_warnings(&stop, NULL) != 0)
        harness_fail(place, "%s: a warning came before the stop: %s", facts->name, stop.stderr_text);
    rule_expect_parameters(place, &stop, has_subcode);
}

static HARNESS_UNUSED void rule_expect_broken(const struct harness_place *place, void (*body)(void *), enum vf_rule rule)
{
    rule_words = shared_words();
    if (vf_rule_texts[rule].code != 0)
        rule_expect_stop(place, body, &vf_rule_texts[rule]);
    else
        harness_expect_warning(place, body, vf_rule_texts[rule].slug);
}

#define RULE_BAD(rule) HARNESS_CHILD_TEST(bad, rule, rule_expect_broken(HARNESS_HERE, child, VF_##rule))
#define RULE_GOOD(rule) HARNESS_CHILD_TEST(good, rule, harness_expect_silence(HARNESS_HERE, child))

/* ---- what drivers start from ---- */

enum { TOO_HIGH = DISPATCH_LEVEL + 1, LENGTH = 2 * PAGE_SIZE };

/* Two pages of the current process. */
static HARNESS_UNUSED UCHAR *user_buffer(void)
{
    return user_pages(2, PAGE_READWRITE);
}

/* A new partial MDL over a part of its source. */
static HARNESS_UNUSED PMDL part_of(PMDL source, PVOID va, ULONG bytes)
{
    const PMDL part = mdl_over(va, bytes);

    IoBuildPartialMdl(source, part, va, bytes);
    return part;
}

/* A new MDL built for nonpaged pool. */
static HARNESS_UNUSED PMDL nonpaged_mdl(PVOID pool, SIZE_T bytes)
{
    const PMDL mdl = mdl_over(pool, bytes);

    MmBuildMdlForNonPagedPool(mdl);
    return mdl;
}

static HARNESS_UNUSED void free_all(PMDL mdl, PVOID user)
{
    unlock_and_free(mdl);
    pinion_user_free(user);
}
