/* SPDX-License-Identifier: MIT */
/*
 * Reports. A stop prints, under its STOP line, what is wrong and what its parameters are, in the form that the debugger's
 * !analyze gives it and people paste; then where it was done, the story of the MDL, and one line of advice. A warning is one
 * line, with the story of the MDL under it.
 */

#include "verifier/verifier.h"

#include <stdio.h>
#include <string.h>

static const struct vf_rule_text *const rules = vf_rule_texts;

/* What the thread that stops is stopped for; the report is printed on the same thread. */
static _Thread_local struct {
    bool           set;
    enum vf_rule   rule;
    struct vf_case of;
} stop;

/* What the library did inside is not told: the story begins where it was called. */
static void print_stack(const char *title, const struct vf_stack *stack)
{
    size_t own;

    if (stack == NULL)
        return;
    own = host_stack_own_frames(stack->pcs, stack->n);
    ke_print("    %s\n", title);
    vf_stack_print(stack, own);
    ke_finding_stack(title, stack->pcs + own, stack->n - own);
}

void vf_story_print(const char *title, const struct vf_stack *stack)
{
    print_stack(title, stack);
}

/* `first`: the one that matters most; what shows but one place takes it from there. */
static void print_events(const struct vf_mdl *entry, enum vf_event first)
{
    static const char *const titles[VF_EVENTS] = {
        [VF_EVENT_ALLOCATED] = "allocated at", [VF_EVENT_LOCKED] = "locked at", [VF_EVENT_BUILT] = "built for nonpaged memory at",
        [VF_EVENT_PARTIAL] = "built as a partial MDL at", [VF_EVENT_MAPPED] = "mapped at", [VF_EVENT_NOT_MAPPED] = "could not be mapped at",
        [VF_EVENT_FREED] = "freed at",
    };

    print_stack(titles[first], entry->where[first]);
    for (enum vf_event event = 0; event < VF_EVENTS; event++)
        if (event != first)
            print_stack(titles[event], entry->where[event]);
}

/* An MDL that a partial MDL lives on, alive or freed, if it is on record. */
static void print_forebear(const char *title, PMDL mdl)
{
    struct vf_mdl entry;
    enum vf_answer answer;

    if (mdl == NULL)
        return;
    answer = vf_ask(&ke_the_machine, mdl, &entry);
    ke_print("%s, MDL %p:%s\n", title, (void *)mdl, answer == VF_UNKNOWN ? " nothing is known about it any more" : "");
    print_events(&entry, VF_EVENT_ALLOCATED);
}

void vf_mdl_print_from(const struct vf_mdl *entry, enum vf_event first)
{
    print_events(entry, first);
    print_stack("the MDL in front of it in its chain was freed at", entry->head_freed);
    print_forebear("Its source", entry->source.mdl);
    if (entry->lender.mdl != entry->source.mdl)
        print_forebear("The mapping is that of its source", entry->lender.mdl);
}

void vf_mdl_print(const struct vf_mdl *entry)
{
    vf_mdl_print_from(entry, VF_EVENT_ALLOCATED);
}

void vf_mdl_print_of(PMDL mdl, enum vf_event first)
{
    struct vf_mdl entry;
    const enum vf_answer answer = vf_ask(&ke_the_machine, mdl, &entry);

    if (answer == VF_UNKNOWN || answer == VF_BUSY) {
        ke_print("MDL %p: %s\n", (void *)mdl, answer == VF_BUSY ? "the record is busy" : "nothing is known about it");
        return;
    }
    ke_print("MDL %p:\n", (void *)mdl);
    vf_mdl_print_from(&entry, first);
}

/* Named as if it were a return address, from the byte before. */
void vf_code_print(const char *title, const void *code)
{
    const struct vf_stack place = {.pcs = {(uintptr_t)code + 1}, .n = 1};

    if (code != NULL)
        print_stack(title, &place);
}

void vf_block_print(const struct ke_pool_block *block)
{
    char tag[KE_TAG_TEXT];

    ke_tag_text(block->tag, tag);
    ke_print("Pool block 0x%lx, %zu bytes, tag '%s':\n", (unsigned long)block->va, block->bytes, tag);
    print_stack("allocated at", block->allocated);
    print_stack("freed at", block->freed);
}

/* The commonest mistake of all is to take the address where pages are mapped for the address that they are described by. */
static void print_whose(uintptr_t va)
{
    struct vf_mdl entry;

    if (va != 0 && vf_find_by_mapping(&ke_the_machine, va, &entry))
        ke_print("Address 0x%lx is where MDL %p is mapped, %lu bytes into it. MmGetMdlVirtualAddress gives 0x%lx for it, "
                "so that 0x%lx is meant.\n", (unsigned long)va, (void *)entry.mdl, (unsigned long)(va - entry.mapped_at),
                (unsigned long)entry.buffer_at, (unsigned long)(entry.buffer_at + (va - entry.mapped_at)));
}

/* The meaning of a parameter, from the list parted by '|'; its length, or 0 when there is none. */
static int meaning_of(const char *list, int which, const char **text)
{
    while (which-- > 0 && *list != '\0') {
        list += strcspn(list, "|");
        list += *list == '|';
    }
    *text = list;
    return (int)strcspn(list, "|");
}

static void print_argument(int i, uint64_t value, const char *meaning, int length)
{
    const bool is_plain_zero = length == 1 && *meaning == '0';

    if (length == 0 || is_plain_zero)
        ke_print("Arg%d: %016llx\n", i + 1, (unsigned long long)value);
    else
        ke_print("Arg%d: %016llx, %.*s\n", i + 1, (unsigned long long)value, length, meaning);
}

static void print_arguments(const struct vf_rule_text *rule, const uint64_t parameters[4])
{
    const int nsubcodes = rule->subcode >= 0;

    for (int i = 0; i < 4; i++) {
        const char *meaning = "what kind of violation";
        const int length = i < nsubcodes ? (int)strlen(meaning) : meaning_of(rule->parameters, i - nsubcodes, &meaning);

        print_argument(i, parameters[i], meaning, length);
    }
}

/* As `pinion explain` takes it. */
static void name_stop(const struct vf_rule_text *rule, char *name, size_t bytes)
{
    if (rule->subcode >= 0)
        snprintf(name, bytes, "0x%X/0x%02X", rule->code, (unsigned)rule->subcode);
    else
        snprintf(name, bytes, "0x%X", rule->code);
}

/* What is wrong, and what the parameters are. */
static void print_head(ULONG code, const struct vf_rule_text *rule, const uint64_t parameters[4])
{
    char name[32];

    name_stop(rule, name, sizeof(name));
    ke_finding_name(name);
    ke_finding_say(rule->what, rule->advice);
    ke_print("\n%s (%x)\n%s\nArguments:\n", ke_bug_check_name(code), code, rule->what);
    print_arguments(rule, parameters);
    ke_print("\n");
}

static void print_advice(const struct vf_rule_text *rule)
{
    char name[32];

    name_stop(rule, name, sizeof(name));
    ke_print("What to do: %s.\nMore: pinion explain %s\n", rule->advice, name);
}

const char *vf_advice(const char *slug)
{
    for (int i = 0; i < VF_TEXTS; i++)
        if (rules[i].slug != NULL && strcmp(rules[i].slug, slug) == 0)
            return rules[i].advice;
    return "";
}

/* Of the texts [from, to): the one of this code and subcode, -1 for the code alone; NULL: none. */
static const struct vf_rule_text *find_text(int from, int to, ULONG code, int64_t subcode)
{
    for (int i = from; i < to; i++)
        if (rules[i].code == code && rules[i].subcode == subcode)
            return &rules[i];
    return NULL;
}

/* The subcode's own text, or its rule's where a floor stops by itself; else that of the code alone. NULL: a code of the driver's own. */
static const struct vf_rule_text *text_without_rule(ULONG code, uint64_t subcode)
{
    const int64_t wanted = subcode > INT32_MAX ? -1 : (int64_t)subcode;
    const struct vf_rule_text *text = find_text(VF_RULES, VF_TEXTS, code, wanted);

    if (text == NULL && wanted != -1)
        text = find_text(0, VF_RULES, code, wanted);
    return text != NULL ? text : find_text(VF_RULES, VF_TEXTS, code, -1);
}

static void print_own_stack(void)
{
    struct vf_stack here = {0};

    here.n = (uint32_t)host_stack_of_caller(here.pcs, VF_STACK_DEPTH);
    print_stack("done at", &here);
}

/* A fault, or an exception that nobody handled, or a stop of a floor itself. */
static void report_without_rule(ULONG code, const uint64_t parameters[4])
{
    const struct vf_rule_text *text = text_without_rule(code, parameters[0]);

    if (text != NULL)
        print_head(code, text, parameters);
    else
        ke_print("\n%s (%x)\n\n", ke_bug_check_name(code), code);
    print_own_stack();
    vf_subject_print(code, parameters);
    if (text != NULL)
        print_advice(text);
}

static void report_rule(ULONG code, const uint64_t parameters[4])
{
    const struct vf_rule_text *rule = &rules[stop.rule];

    print_head(code, rule, parameters);
    vf_code_print("the dispatch routine", stop.of.dispatch);
    if (stop.of.site.ip == 0)
        print_own_stack();
    else
        print_stack("done at", vf_stack_at(&ke_the_machine, stop.of.site));
    print_stack("made at", stop.of.made);
    print_whose(stop.of.va);
    if (stop.of.block != NULL)
        for (size_t i = 0; i <= stop.of.more_blocks; i++)
            vf_block_print(&stop.of.block[i]);
    if (stop.of.mdl != NULL)
        vf_mdl_print_of(stop.of.mdl, stop.of.event);
    print_advice(rule);
}

void vf_report(ULONG code, const uint64_t parameters[4])
{
    host_symbols_begin();
    if (stop.set)
        report_rule(code, parameters);
    else
        report_without_rule(code, parameters);
    host_symbols_end();
}

_Noreturn void vf_stop(enum vf_rule rule, struct vf_case of, uint64_t p1, uint64_t p2, uint64_t p3, uint64_t p4)
{
    stop.set = true;
    stop.rule = rule;
    stop.of = of;
    if (rules[rule].subcode >= 0)
        ke_bug_check(rules[rule].code, (uint64_t)rules[rule].subcode, p1, p2, p3);
    ke_bug_check(rules[rule].code, p1, p2, p3, p4);
}

/* The line of a warning names the place; what watches gets the stack. */
static void warn_at(enum vf_rule rule, struct ke_site site)
{
    const struct vf_stack *stack = site.ip == 0 ? NULL : vf_stack_at(&ke_the_machine, site);
    const size_t own = stack == NULL ? 0 : host_stack_own_frames(stack->pcs, stack->n);
    char where[256];

    if (stack == NULL) {
        ke_warn(rules[rule].slug, "%s; %s", rules[rule].what, rules[rule].advice);
        return;
    }
    host_symbol(stack->pcs[own], where, sizeof(where));
    ke_warn(rules[rule].slug, "%s, at %s; %s", rules[rule].what, where, rules[rule].advice);
    ke_finding_stack("done at", stack->pcs + own, stack->n - own);
}

/* The system unlocks the pages of a request: who completes that is further out in the stack. */
static void print_held(uint32_t held_ms)
{
    ke_print("Held for %u ms; the limit is %u ms.\n", held_ms, ke_the_machine.options.lock_limit_ms);
    print_own_stack();
}

void vf_warn(enum vf_rule rule, struct vf_case of)
{
    struct ke_finding finding;

    host_symbols_begin();
    ke_finding_begin(&finding);
    warn_at(rule, of.site);
    ke_finding_say(rules[rule].what, rules[rule].advice);
    print_stack("made at", of.made);
    if (of.held_ms != 0)
        print_held(of.held_ms);
    if (of.mdl != NULL)
        vf_mdl_print_of(of.mdl, of.event);
    host_symbols_end();
    ke_finding_end(&finding);
}

void vf_warn_of_more(enum vf_rule rule, const struct vf_mdl *example, enum vf_event event, unsigned count)
{
    struct ke_finding finding;

    host_symbols_begin();
    ke_finding_begin(&finding);
    ke_warn(rules[rule].slug, "%s; and so it is with %u MDL%s more, which have these call stacks too", rules[rule].what, count,
            count == 1 ? "" : "s");
    vf_mdl_print_from(example, event);
    host_symbols_end();
    ke_finding_end(&finding);
}
