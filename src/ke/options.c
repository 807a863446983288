/* SPDX-License-Identifier: MIT */
/* Boot options: "key=value:key=value", in the manner of ASAN_OPTIONS. One table says which keys there are. */

#include "ke/ke.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_VALUE = 64 };

static const uint64_t MIB = 1ull << 20;
static const uint64_t GIB = 1ull << 30;

void ke_options_default(struct ke_options *options)
{
    *options = (struct ke_options){
        .verifier = KE_VERIFIER_ON,
        .ram_bytes = 4 * GIB,
        .scattered = true,
        .windows = KE_WINDOWS_10,
        .uring = true,
        .seed = 1,
        .fault_rate = 600,
    };
}

/* ---- values ---- */

struct word {
    const char *text;
    uint32_t    value;
};

static bool find_word(const struct word *words, const char *text, uint32_t *value)
{
    for (; words->text != NULL; words++) {
        if (strcmp(words->text, text) == 0) {
            *value = words->value;
            return true;
        }
    }
    return false;
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    *value = strtoull(text, &end, 0);
    return *end == '\0';
}

static bool parse_size(const char *text, uint64_t *bytes)
{
    char *end;
    unsigned shift = 0;

    if (!isdigit((unsigned char)text[0]))
        return false;
    *bytes = strtoull(text, &end, 10);
    if (*end == 'K' || *end == 'k')
        shift = 10;
    else if (*end == 'M' || *end == 'm')
        shift = 20;
    else if (*end == 'G' || *end == 'g')
        shift = 30;
    if (*bytes > UINT64_MAX >> shift)
        return false;
    *bytes <<= shift;
    return end[shift != 0] == '\0';
}

static bool set_verifier(struct ke_options *options, const char *text)
{
    static const struct word words[] = {{"on", KE_VERIFIER_ON}, {"off", 0}, {NULL, 0}};
    uint64_t flags;

    if (find_word(words, text, &options->verifier))
        return true;
    if (strncmp(text, "0x", 2) != 0 || !parse_number(text, &flags) || flags > UINT32_MAX)
        return false;
    options->verifier = (uint32_t)flags;
    return true;
}

static bool set_ram(struct ke_options *options, const char *text)
{
    uint64_t bytes;

    if (!parse_size(text, &bytes) || bytes < 16 * MIB || bytes > 24 * GIB || bytes % (2 * MIB) != 0)
        return false;
    options->ram_bytes = bytes;
    return true;
}

static bool set_layout(struct ke_options *options, const char *text)
{
    options->scattered = strcmp(text, "scattered") == 0;
    return options->scattered || strcmp(text, "linear") == 0;
}

static bool set_windows(struct ke_options *options, const char *text)
{
    static const struct word words[] = {
        {"2000", KE_WINDOWS_2000}, {"xp", KE_WINDOWS_XP}, {"2003", KE_WINDOWS_2003}, {"vista", KE_WINDOWS_VISTA},
        {"2008", KE_WINDOWS_VISTA}, {"7", KE_WINDOWS_7}, {"8", KE_WINDOWS_8}, {"8.1", KE_WINDOWS_8_1},
        {"10", KE_WINDOWS_10}, {"11", KE_WINDOWS_10}, {NULL, 0},
    };
    uint32_t version;

    if (!find_word(words, text, &version))
        return false;
    options->windows = (enum ke_windows)version;
    return true;
}

static bool set_faults(struct ke_options *options, const char *text)
{
    options->faults_to_host = strcmp(text, "host") == 0;
    return options->faults_to_host || strcmp(text, "catch") == 0;
}

static bool set_uring(struct ke_options *options, const char *text)
{
    options->uring = strcmp(text, "on") == 0;
    return options->uring || strcmp(text, "off") == 0;
}

static bool set_disk(struct ke_options *options, const char *text)
{
    options->disk_in_turns = strcmp(text, "turns") == 0;
    return options->disk_in_turns || strcmp(text, "async") == 0;
}

static bool set_dma(struct ke_options *options, const char *text)
{
    options->dma_remapped = strcmp(text, "remapped") == 0;
    return options->dma_remapped || strcmp(text, "identity") == 0;
}

static bool set_seed(struct ke_options *options, const char *text)
{
    return parse_number(text, &options->seed);
}

static bool set_fault_rate(struct ke_options *options, const char *text)
{
    uint64_t rate;

    if (!parse_number(text, &rate) || rate > 10000)
        return false;
    options->fault_rate = (uint32_t)rate;
    return true;
}

static bool set_fault_delay(struct ke_options *options, const char *text)
{
    return parse_number(text, &options->fault_delay);
}

static bool set_lock_limit(struct ke_options *options, const char *text)
{
    uint64_t limit;

    if (!parse_number(text, &limit) || limit > UINT32_MAX)
        return false;
    options->lock_limit_ms = (uint32_t)limit;
    return true;
}

/* ---- keys ---- */

static const struct key {
    const char *name;
    bool      (*set)(struct ke_options *options, const char *text);
    const char *accepts;
} keys[] = {
    {"verifier", set_verifier, "on, off or flags such as 0x9b9"},
    {"ram", set_ram, "a multiple of 2M from 16M to 24G"},
    {"layout", set_layout, "scattered or linear"},
    {"windows", set_windows, "2000, xp, 2003, vista, 2008, 7, 8, 8.1, 10 or 11"},
    {"faults", set_faults, "catch or host"},
    {"uring", set_uring, "on or off"},
    {"disk", set_disk, "async or turns"},
    {"dma", set_dma, "identity or remapped"},
    {"seed", set_seed, "a number"},
    {"fault-rate", set_fault_rate, "how many of 10000 calls fail, 0 to 10000"},
    {"fault-delay", set_fault_delay, "how many calls succeed before the first that may fail"},
    {"lock-limit", set_lock_limit, "how many milliseconds pages may be locked, 0 for any time"},
};

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static void list_keys(char *text, size_t bytes)
{
    size_t used = 0;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i == 0 ? "" : ", ", keys[i].name);
}

/* One "key=value" of the given length. */
static bool apply(struct ke_options *options, const char *text, size_t length, char *why, size_t why_bytes)
{
    char pair[LONGEST_VALUE * 2], names[192];
    const struct key *key;
    char *value;

    if (length >= sizeof(pair)) {
        snprintf(why, why_bytes, "option '%.20s...' is too long", text);
        return false;
    }
    memcpy(pair, text, length);
    pair[length] = '\0';
    value = strchr(pair, '=');
    if (value != NULL)
        *value++ = '\0';
    key = find_key(pair);
    if (key == NULL) {
        list_keys(names, sizeof(names));
        snprintf(why, why_bytes, "no option is called '%s'; the options are %s", pair, names);
        return false;
    }
    if (value == NULL || !key->set(options, value)) {
        snprintf(why, why_bytes, "option %s=%s: use %s", pair, value == NULL ? "" : value, key->accepts);
        return false;
    }
    return true;
}

bool ke_options_parse(struct ke_options *options, const char *text, char *why, size_t why_bytes)
{
    while (*text != '\0') {
        const size_t length = strcspn(text, ":");

        if (length != 0 && !apply(options, text, length, why, why_bytes))
            return false;
        text += length;
        text += *text == ':';
    }
    return true;
}
