/* SPDX-License-Identifier: MIT */
/* The boot options as text: what each key accepts, what is refused, and that the refusal says what to do. */

#include "harness.h"

#include "ke/ke.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t MIB = 1ull << 20;

static bool parse(struct ke_options *options, const char *text, char why[256])
{
    ke_options_default(options);
    why[0] = '\0';
    return ke_options_parse(options, text, why, 256);
}

static struct ke_options accepted(const char *text)
{
    struct ke_options options;
    char why[256];

    if (!parse(&options, text, why))
        harness_fail(HARNESS_HERE, "'%s' was refused: %s", text, why);
    return options;
}

/* A refusal is one line that names the culprit. */
static void expect_refused(const char *text, const char *culprit)
{
    struct ke_options options;
    char why[256];

    if (parse(&options, text, why))
        harness_fail(HARNESS_HERE, "'%s' was accepted", text);
    EXPECT(why[0] != '\0');
    if (strstr(why, culprit) == NULL || strchr(why, '\n') != NULL)
        harness_fail(HARNESS_HERE, "'%s' was refused with: %s", text, why);
}

/* The defaults are those that <pinion/pinion.h> tells. */
TEST(ke_options, default__every_field__is_as_documented)
{
    struct ke_options options;

    memset(&options, 0xA5, sizeof(options));
    ke_options_default(&options);
    EXPECT_EQ(options.verifier, 0x9B9);
    EXPECT_EQ(options.ram_bytes, 4096 * MIB);
    EXPECT_EQ(options.scattered, true);
    EXPECT_EQ(options.windows, KE_WINDOWS_10);
    EXPECT_EQ(options.faults_to_host, false);
    EXPECT_EQ(options.uring, true);
    EXPECT_EQ(options.seed, 1);
}

/* No text, empty pairs and a colon at either end change nothing. */
TEST(ke_options, parse__nothing_between_the_colons__changes_nothing)
{
    static const char *const texts[] = {"", ":", ":::", ":uring=off:", "uring=off::"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct ke_options options = accepted(texts[i]);

        EXPECT_EQ(options.uring, strstr(texts[i], "uring") == NULL);
        EXPECT_EQ(options.ram_bytes, 4096 * MIB);
        EXPECT_EQ(options.verifier, 0x9B9);
    }
}

/* Sizes are bytes, or take K, M or G in either case. */
TEST(ke_options, ram__all_notations__are_bytes)
{
    static const struct {
        const char *text;
        uint64_t mib;
    } rows[] = {
        {"ram=16777216", 16}, {"ram=16384K", 16},    {"ram=16384k", 16}, {"ram=16M", 16},
        {"ram=18m", 18},      {"ram=512M", 512},     {"ram=4G", 4096},   {"ram=8g", 8192},
        {"ram=24G", 24576},   {"ram=24574M", 24574},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        EXPECT_EQ(accepted(rows[i].text).ram_bytes, rows[i].mib * MIB);
}

/* A size outside 16M to 24G, in between two multiples of 2M, or that is no size at all is refused. */
TEST(ke_options, ram__impossible_sizes__are_refused)
{
    static const char *const texts[] = {
        "ram",
        "ram=",
        "ram=0",
        "ram=14M",
        "ram=17M",
        "ram=16777217",
        "ram=24578M",
        "ram=25G",
        "ram=-16M",
        "ram= 16M",
        "ram=16X",
        "ram=16MB",
        "ram=16M ",
        "ram=M",
        "ram=0x1000000",
        "ram=1.5G",
        "ram=18446744073709551615",
        "ram=17179869185G",
        "ram=99999999999999999999999",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect_refused(texts[i], "use a multiple of 2M from 16M to 24G");
}

/* verifier= takes on, off, or flags of 32 bits in hexadecimal. */
TEST(ke_options, verifier__words_and_flags__are_flags)
{
    EXPECT_EQ(accepted("verifier=on").verifier, KE_VERIFIER_ON);
    EXPECT_EQ(accepted("verifier=off").verifier, 0);
    EXPECT_EQ(accepted("verifier=0x0").verifier, 0);
    EXPECT_EQ(accepted("verifier=0x9bb").verifier, 0x9BB);
    EXPECT_EQ(accepted("verifier=0x02000000").verifier, KE_VERIFIER_CODE_INTEGRITY);
    EXPECT_EQ(accepted("verifier=0xFFFFFFFF").verifier, 0xFFFFFFFF);
    expect_refused("verifier=", "verifier");
    expect_refused("verifier=ON", "verifier=ON");
    expect_refused("verifier=1", "verifier=1");
    expect_refused("verifier=0x", "verifier=0x");
    expect_refused("verifier=0x100000000", "verifier");
    expect_refused("verifier=0x9bbz", "verifier");
}

/* fault-delay= takes any count, lock-limit= milliseconds of 32 bits. */
TEST(ke_options, fault_delay_and_lock_limit__numbers__are_taken)
{
    EXPECT_EQ(accepted("uring=on").fault_delay, 0);
    EXPECT_EQ(accepted("fault-delay=12345").fault_delay, 12345);
    EXPECT_EQ(accepted("uring=on").lock_limit_ms, 0);
    EXPECT_EQ(accepted("lock-limit=250").lock_limit_ms, 250);
    expect_refused("fault-delay=-1", "fault-delay=-1");
    expect_refused("fault-delay=soon", "use how many calls succeed");
    expect_refused("lock-limit=4294967296", "lock-limit");
    expect_refused("lock-limit=5ms", "use how many milliseconds");
}

/* windows= takes every version that the documentation lists; versions that behave alike are one. */
TEST(ke_options, windows__each_version__is_known)
{
    static const struct {
        const char *text;
        enum ke_windows version;
    } rows[] = {
        {"windows=2000", KE_WINDOWS_2000},  {"windows=xp", KE_WINDOWS_XP},
        {"windows=2003", KE_WINDOWS_2003},  {"windows=vista", KE_WINDOWS_VISTA},
        {"windows=2008", KE_WINDOWS_VISTA}, {"windows=7", KE_WINDOWS_7},
        {"windows=8", KE_WINDOWS_8},        {"windows=8.1", KE_WINDOWS_8_1},
        {"windows=10", KE_WINDOWS_10},      {"windows=11", KE_WINDOWS_10},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        EXPECT_EQ(accepted(rows[i].text).windows, rows[i].version);
    expect_refused("windows=95", "windows=95");
    expect_refused("windows=XP", "2000, xp, 2003");
    expect_refused("windows", "windows");
}

/* The keys with two words take those and nothing else. */
TEST(ke_options, layout_faults_uring_disk__their_two_words__and_no_other)
{
    EXPECT_EQ(accepted("disk=turns").disk_in_turns, true);
    EXPECT_EQ(accepted("disk=turns:disk=async").disk_in_turns, false);
    expect_refused("disk=sync", "async or turns");
    EXPECT_EQ(accepted("layout=linear").scattered, false);
    EXPECT_EQ(accepted("layout=linear:layout=scattered").scattered, true);
    EXPECT_EQ(accepted("faults=host").faults_to_host, true);
    EXPECT_EQ(accepted("faults=host:faults=catch").faults_to_host, false);
    EXPECT_EQ(accepted("uring=off").uring, false);
    EXPECT_EQ(accepted("uring=off:uring=on").uring, true);
    expect_refused("layout=random", "scattered or linear");
    expect_refused("faults=", "catch or host");
    expect_refused("uring=yes", "on or off");
}

/* seed= takes any number of 64 bits, in decimal or hexadecimal. */
TEST(ke_options, seed__numbers__are_kept)
{
    EXPECT_EQ(accepted("seed=0").seed, 0);
    EXPECT_EQ(accepted("seed=42").seed, 42);
    EXPECT_EQ(accepted("seed=0x10").seed, 16);
    EXPECT_EQ(accepted("seed=18446744073709551615").seed, UINT64_MAX);
    expect_refused("seed=", "a number");
    expect_refused("seed=-1", "a number");
    expect_refused("seed=7seven", "a number");
}

/* Of a key that comes twice the last one counts, and keys do not disturb each other. */
TEST(ke_options, parse__several_keys__last_one_counts)
{
    const struct ke_options options = accepted("ram=16M:verifier=off:seed=5:windows=7:ram=64M:layout=linear");

    EXPECT_EQ(options.ram_bytes, 64 * MIB);
    EXPECT_EQ(options.verifier, 0);
    EXPECT_EQ(options.seed, 5);
    EXPECT_EQ(options.windows, KE_WINDOWS_7);
    EXPECT_EQ(options.scattered, false);
}

/* A key that does not exist is refused with the list of those that do. */
TEST(ke_options, parse__unknown_key__is_refused_with_the_list)
{
    static const char *const keys[] = {"verifier", "ram", "layout", "windows", "faults", "uring", "seed"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        expect_refused("memory=4G", keys[i]);
    expect_refused("memory=4G", "'memory'");
    expect_refused("=4G", "''");
    expect_refused("RAM=4G", "'RAM'");
    expect_refused("ram =4G", "'ram '");
    expect_refused("uring=off:bogus", "'bogus'");
}

/* What follows a refused pair is not read. */
TEST(ke_options, parse__after_a_refusal__reads_no_more)
{
    struct ke_options options;
    char why[256];

    EXPECT(!parse(&options, "seed=2:ram=1M:uring=off", why));
    EXPECT_EQ(options.seed, 2);
    EXPECT_EQ(options.uring, true);
}

/* A pair of any length is refused and not cut off, and a small buffer for the reason is not overrun. */
TEST(ke_options, parse__very_long_pair__is_refused)
{
    struct ke_options options;
    char text[4096], why[24] = "", guard[8];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    expect_refused(text, "too long");
    memset(guard, 0x5A, sizeof(guard));
    memcpy(why + 16, guard, 8);
    ke_options_default(&options);
    EXPECT(!ke_options_parse(&options, text, why, 16));
    EXPECT_EQ(strlen(why), 15);
    EXPECT_MEM_EQ(why + 16, guard, 8);
    EXPECT(!ke_options_parse(&options, "memory=4G", why, 16));
    EXPECT_MEM_EQ(why + 16, guard, 8);
}

/* pinion_boot refuses bad text with -EINVAL and a line that says where it came from; the machine stays off. */
TEST(ke_options, boot__bad_text__is_einval_and_boots_nothing)
{
    EXPECT_EQ(pinion_boot("ram=3M"), -22);
    EXPECT_EQ(atomic_load(&ke_the_machine.state), KE_MACHINE_OFF);
    EXPECT_EQ(pinion_boot("ram=16M"), 0);
    EXPECT_EQ(ke_the_machine.options.ram_bytes, 16 * MIB);
}

/* Options of the environment come first, and the program's own override them. */
TEST(ke_options, boot__environment_and_program__program_overrides)
{
    setenv("PINION_OPTIONS", "ram=32M:seed=9", 1);
    EXPECT_EQ(pinion_boot("ram=16M"), 0);
    EXPECT_EQ(ke_the_machine.options.ram_bytes, 16 * MIB);
    EXPECT_EQ(ke_the_machine.options.seed, 9);
}
