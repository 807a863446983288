/* SPDX-License-Identifier: MIT */
/* `pinion explain`: one rule of the verifier, with a wrong and a right piece of code, or the list of all. */

#include "cli/cli.h"
#include "verifier/rules.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct vf_rule_text *const rules = vf_rule_texts;

static const struct snippets {
    const char *wrong, *right;
} snippets[VF_RULES] = {
#define VF_SNIPPETS(rule, wrong, right) [VF_##rule] = {wrong, right},
#include "verifier/snippets.def"
#undef VF_SNIPPETS
};

/* NULL: no rule stands behind it. */
static const struct snippets *snippets_of(const struct vf_rule_text *rule)
{
    return rule->name == NULL ? NULL : &snippets[rule - rules];
}

/* "0xC4/0xB8", "0x12E" or the warning's name. */
static void name_rule(const struct vf_rule_text *rule, char *text, size_t bytes)
{
    if (rule->code == 0)
        snprintf(text, bytes, "%s", rule->slug);
    else if (rule->subcode < 0)
        snprintf(text, bytes, "0x%X", rule->code);
    else
        snprintf(text, bytes, "0x%X/0x%02X", rule->code, (unsigned)rule->subcode);
}

/* ---- which rules are meant ---- */

struct wanted {
    bool          is_code, any_subcode;
    bool          of_code;              /* no text is this subcode's own: what is said of the code will do */
    unsigned long code, subcode;
    const char   *slug;
};

/* "0xC4/0xB8", "C4/B8" or "c4": numbers are hexadecimal, as on the STOP line. Anything else is a warning's name. */
static struct wanted parse_wanted(const char *text)
{
    struct wanted wanted = {.slug = text};
    char *end;

    wanted.code = strtoul(text, &end, 16);
    wanted.any_subcode = *end == '\0';
    if (*end == '/' && end[1] != '\0' && end != text)
        wanted.subcode = strtoul(end + 1, &end, 16);
    else if (*end != '\0')
        return wanted;
    wanted.is_code = *end == '\0' && *text != '\0';
    return wanted;
}

static bool is_wanted(const struct vf_rule_text *rule, const struct wanted *wanted)
{
    if (!wanted->is_code || rule->code == 0)
        return rule->slug != NULL && strcasecmp(rule->slug, wanted->slug) == 0;
    if (rule->code != wanted->code || wanted->any_subcode)
        return rule->code == wanted->code;
    return wanted->of_code ? rule->subcode < 0 : rule->subcode >= 0 && (unsigned long)rule->subcode == wanted->subcode;
}

/* ---- rules as data ---- */

/* The first entry of exactly that name from one place up to another; NULL: none. */
static const struct vf_rule_text *find_between(const char *id, int from, int to)
{
    char name[64];

    for (int i = from; i < to; i++) {
        name_rule(&rules[i], name, sizeof(name));
        if (strcmp(name, id) == 0)
            return &rules[i];
    }
    return NULL;
}

/* Where a rule speaks of one case of a stop that happens without rules too, the stop speaks for both. */
static const struct vf_rule_text *find_rule(const char *id)
{
    const struct vf_rule_text *plain = find_between(id, VF_RULES, VF_TEXTS);

    return plain != NULL ? plain : find_between(id, 0, VF_RULES);
}

/* Meanings are parted by '|'; those of a rule with a subcode, which is parameter 1, begin with the second. */
static size_t meaning_of(const struct vf_rule_text *rule, int which, const char **text)
{
    *text = rule->parameters;
    for (int skip = which - (rule->subcode >= 0); skip > 0; skip--) {
        *text += strcspn(*text, "|");
        *text += **text == '|';
    }
    return strcspn(*text, "|");
}

json_t *rules_parameters(const char *id, const uint64_t parameters[4])
{
    const struct vf_rule_text *rule = find_rule(id);
    json_t *array = json_array();

    for (int i = 0; i < 4; i++) {
        json_t *object = json_object();
        const char *meaning = "what kind of violation";
        size_t length = rule == NULL ? 0 : strlen(meaning);

        json_object_set_new(object, "value", json_sprintf("0x%llx", (unsigned long long)parameters[i]));
        if (rule != NULL && (i > 0 || rule->subcode < 0))
            length = meaning_of(rule, i, &meaning);
        if (length > 0 && !(length == 1 && *meaning == '0'))
            json_object_set_new(object, "meaning", json_stringn(meaning, length));
        json_array_append_new(array, object);
    }
    return array;
}

/* Pages are named as in Microsoft's documentation; those of routines stand under "ddi". */
static json_t *address_of(const char *page)
{
    const bool of_routine = strncmp(page, "wdm/", 4) == 0 || strncmp(page, "ntddk/", 6) == 0 || strncmp(page, "ntifs/", 6) == 0;

    return json_sprintf("https://learn.microsoft.com/windows-hardware/drivers/%s%s", of_routine ? "ddi/" : "", page);
}

static void add_help(json_t *descriptor, const struct vf_rule_text *rule)
{
    const struct snippets *code = snippets_of(rule);
    json_t *text, *markdown;

    if (code == NULL) {
        text = json_sprintf("What to do: %s.", rule->advice);
        markdown = json_incref(text);
    } else {
        text = json_sprintf("What to do: %s.\n\nWrong:\n\n%s\nRight:\n\n%s", rule->advice, code->wrong, code->right);
        markdown = json_sprintf("What to do: %s.\n\nWrong:\n\n```c\n%s```\n\nRight:\n\n```c\n%s```\n", rule->advice, code->wrong, code->right);
    }
    json_object_set_new(descriptor, "help", json_pack("{s:o, s:o}", "text", text, "markdown", markdown));
    json_object_set_new(descriptor, "helpUri", address_of(rule->page));
}

json_t *rules_describe(const char *id, const char *what)
{
    const struct vf_rule_text *rule = find_rule(id);
    json_t *descriptor = json_pack("{s:s, s:{s:s}}", "id", id, "shortDescription", "text", rule == NULL ? what : rule->what);

    if (rule != NULL)
        add_help(descriptor, rule);
    else if (strncmp(id, "0x", 2) == 0)
        json_object_set_new(descriptor, "helpUri", json_string("https://learn.microsoft.com/windows-hardware/drivers/debugger/bug-check-code-reference2"));
    return descriptor;
}

/* ---- telling ---- */

static void print_line(const struct vf_rule_text *rule)
{
    char name[64];

    name_rule(rule, name, sizeof(name));
    printf("  %-28s %s\n", name, rule->what);
}

static void print_code(const char *title, const char *code)
{
    printf("\n%s\n", title);
    while (*code != '\0') {
        const int length = (int)strcspn(code, "\n");

        printf("%s%.*s\n", length == 0 ? "" : "    ", length, code);
        code += length + (code[length] == '\n');
    }
}

static void print_parameters(const struct vf_rule_text *rule)
{
    const char *meaning = rule->parameters;

    for (int i = rule->subcode >= 0 ? 2 : 1; *meaning != '\0'; i++) {
        const int length = (int)strcspn(meaning, "|");

        printf("  parameter %d: %.*s\n", i, length, meaning);
        meaning += length + (meaning[length] == '|');
    }
}

static void print_snippets(const struct snippets *code)
{
    print_code("Wrong:", code->wrong);
    print_code("Right:", code->right);
}

static void print_rule(const struct vf_rule_text *rule)
{
    const struct snippets *code = snippets_of(rule);
    char name[64];

    name_rule(rule, name, sizeof(name));
    printf("%s: %s\n", name, rule->what);
    print_parameters(rule);
    if (code != NULL)
        print_snippets(code);
    printf("\nWhat to do: %s.\nPage: %s\n", rule->advice, rule->page);
    if (code != NULL)
        puts("The code is from Pinion's tests; names in lower case are helpers there: locked_mdl is IoAllocateMdl and\n"
             "MmProbeAndLockPages, part_of is IoAllocateMdl and IoBuildPartialMdl, free_all is MmUnlockPages and IoFreeMdl.");
}

static int list_all(void)
{
    puts("The verifier's rules, and whatever else can be told. pinion explain RULE tells all about one.\n");
    for (int i = 0; i < VF_TEXTS; i++)
        print_line(&rules[i]);
    return CLI_CLEAN;
}

void explain_help(void)
{
    puts("pinion explain: all rules of the verifier and all else that can be told, a line each.\n"
         "pinion explain RULE: what it means, what to do, wrong and right code.\n"
         "\n"
         "RULE is a bug check with its first parameter as on the STOP line (0xC4/0xB8, or c4/b8), a bug check alone (0xC4: all\n"
         "its rules), or a warning's name (mdl-leak).");
}

static int count_wanted(const struct wanted *wanted, int *last)
{
    int found = 0;

    for (int i = 0; i < VF_TEXTS; i++) {
        if (!is_wanted(&rules[i], wanted))
            continue;
        found++;
        *last = i;
    }
    return found;
}

/* Several rules may stand behind one code: the bug check alone, or one mistake with two stories. */
static int explain(const char *text)
{
    struct wanted wanted = parse_wanted(text);
    int last = 0, found = count_wanted(&wanted, &last);

    if (found == 0 && wanted.is_code) {
        wanted.of_code = true;
        found = count_wanted(&wanted, &last);
    }
    if (found == 0)
        return cli_complain(CLI_USAGE, "no rule is called '%s'; 'pinion explain' lists them", text);
    if (found == 1) {
        print_rule(&rules[last]);
        return CLI_CLEAN;
    }
    for (int i = 0; i < VF_TEXTS; i++) {
        if (!is_wanted(&rules[i], &wanted))
            continue;
        if (wanted.any_subcode && rules[i].subcode >= 0)
            print_line(&rules[i]);
        else
            print_rule(&rules[i]);
    }
    return CLI_CLEAN;
}

int explain_main(int argc, char **argv)
{
    if (argc < 2)
        return list_all();
    if (argc > 2)
        return cli_complain(CLI_USAGE, "one rule at a time: pinion explain RULE");
    if (strcmp(argv[1], "--help") == 0) {
        explain_help();
        return CLI_CLEAN;
    }
    return explain(argv[1]);
}
