/* SPDX-License-Identifier: MIT */
/* The rules as data: a name for each, and all that is said of it. Stands by itself, for the command and the tests as well. */
#ifndef PINION_VERIFIER_RULES_H
#define PINION_VERIFIER_RULES_H

enum vf_rule {
#define VF_STOP(rule, code, subcode, what, advice, parameters, page) VF_##rule,
#define VF_WARNING(rule, slug, what, advice, page) VF_##rule,
#include "rules.def"
#undef VF_STOP
#undef VF_WARNING
    VF_RULES
};

static const struct vf_rule_text {
    const char *name;
    unsigned    code;                   /* 0: a warning */
    int         subcode;                /* -1: the code has none */
    const char *slug, *what, *advice, *parameters, *page;
} vf_rule_texts[] = {
#define VF_STOP(rule, code, subcode, what, advice, parameters, page) {#rule, code, subcode, NULL, what, advice, parameters, page},
#define VF_WARNING(rule, slug, what, advice, page) {#rule, 0, -1, slug, what, advice, "", page},
#include "rules.def"
#undef VF_STOP
#undef VF_WARNING
/* From VF_RULES on: what is told without a rule. */
#define VF_PLAIN_STOP(code, subcode, what, advice, parameters, page) {NULL, code, subcode, NULL, what, advice, parameters, page},
#define VF_PLAIN_WARNING(slug, what, advice, page) {NULL, 0, -1, slug, what, advice, "", page},
#include "others.def"
#undef VF_PLAIN_STOP
#undef VF_PLAIN_WARNING
};

enum { VF_TEXTS = sizeof(vf_rule_texts) / sizeof(vf_rule_texts[0]) };

#endif
