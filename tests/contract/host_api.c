/* SPDX-License-Identifier: MIT */
/*
 * The host's side: boot and its options, shutdown, and what a fork and a bug check do to a program.
 */

#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <wdm.h>
#include <pinion/pinion.h>

#include "refusal.h"
#include "support.h"

static ULONG64 pfn_of(PVOID va)
{
    return (ULONG64)MmGetPhysicalAddress(va).QuadPart >> PAGE_SHIFT;
}

/* ---- Boot and shutdown --------------------------------------------------------------------------------- */

/* pinion_boot gives 0, then -EALREADY for as long as the machine runs, and 0 again once it was shut
   down. */
TEST_UNTIDY(host_api, boot__twice__is_ealready_until_shutdown)
{
    for (ULONG round = 0; round < 3; round++) {
        EXPECT_EQ(pinion_boot(round % 2 ? NULL : "ram=64M"), 0);
        EXPECT_EQ(pinion_boot(NULL), -EALREADY);
        EXPECT_EQ(pinion_boot("layout=linear"), -EALREADY);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

/* The first Windows routine that is called boots the machine. */
TEST(host_api, first_routine__no_boot_before__boots)
{
    EXPECT(PsGetCurrentProcess() != NULL);
    EXPECT_EQ(pinion_boot(NULL), -EALREADY);
}

/* So does the first routine of the host's side. */
TEST(host_api, first_user_alloc__no_boot_before__boots)
{
    pinion_user_free(user_pages(1, PAGE_READWRITE));
    EXPECT_EQ(pinion_boot(NULL), -EALREADY);
}

static const char *const good_options[] = {
    "",
    "verifier=on",
    "verifier=off",
    "verifier=0x1",
    "verifier=0x02000000",
    "ram=64M",
    "ram=1G",
    "ram=8G",
    "layout=scattered",
    "layout=linear",
    "windows=2000",
    "windows=xp",
    "windows=2003",
    "windows=vista",
    "windows=2008",
    "windows=7",
    "windows=8",
    "windows=8.1",
    "windows=10",
    "windows=11",
    "faults=catch",
    "faults=host",
    "uring=on",
    "uring=off",
    "seed=7",
    "verifier=off:ram=128M:layout=linear:windows=7:faults=catch:uring=off:seed=3",
};

/* Every option that is documented is taken, and the machine works with it. */
TEST_UNTIDY(host_api, boot__each_documented_option__works)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(good_options); i++) {
        boot(good_options[i]);
        UCHAR *const user = user_pattern(3, 1);
        const PMDL mdl = locked_mdl(user + 5, 2 * PAGE_SIZE);
        EXPECT_MEM_EQ(MmGetSystemAddressForMdlSafe(mdl, NORMAL_NX), user + 5, 2 * PAGE_SIZE);
        unlock_and_free(mdl);
        EXPECT_EQ(pinion_shutdown(), 0);
    }
}

static const char *const bad_options[] = {
    "nonsense",      "nonsense=1", "ram",          "ram=",       "ram=lots",      "ram=0",
    "ram=16Q",       "ram=-1",     "layout=round", "windows=95", "verifier=yes",  "verifier=0xZZ",
    "faults=ignore", "uring=2",    "seed=x",       "=",          "ram=64M:bad=1", "RAM=64M",
    "layout",        "verifier=",
};

/* The context is the option. After the refusal nothing runs, and a good boot works. */
static void boot_badly(void *option)
{
    EXPECT_EQ(pinion_boot(option), -EINVAL);
    EXPECT_EQ(pinion_boot("ram=64M"), 0);
}

/* An option that makes no sense gives -EINVAL and one line on stderr that quotes it. */
TEST_UNTIDY(host_api, boot__each_bad_option__is_einval_with_one_line)
{
    for (SIZE_T i = 0; i < ARRAYSIZE(bad_options); i++) {
        const struct stop stop = run_until_stop(boot_badly, (void *)(ULONG_PTR)bad_options[i]);

        if (stop.exit_status != 0)
            harness_fail(HARNESS_HERE, "option '%s': ended with %d and printed: %s", bad_options[i],
                         stop.exit_status, stop.stderr_text);
        expect_one_line(stop.stderr_text);
    }
}

static void first_routine_with_bad_environment(void *context HARNESS_UNUSED)
{
    setenv("PINION_OPTIONS", "layout=round", 1);
    (void)PsGetCurrentProcess();
}

static void boot_with_bad_environment(void *context HARNESS_UNUSED)
{
    setenv("PINION_OPTIONS", "layout=round", 1);
    EXPECT_EQ(pinion_boot(NULL), -EINVAL);
}

/* A bad environment is -EINVAL from pinion_boot(NULL); the first routine, which can tell nobody, ends the
   process. Both with a line. */
TEST_UNTIDY(host_api, boot__bad_environment__is_einval_or_exit)
{
    const struct stop quiet = run_until_stop(boot_with_bad_environment, NULL);
    const struct refusal refusal = refusal_of(first_routine_with_bad_environment, NULL);

    EXPECT_EQ(quiet.exit_status, 0);
    expect_one_line(quiet.stderr_text);
    EXPECT(refusal.exit_status > 0);
    expect_one_line(refusal.text);
}

/* Whether the frames of a new buffer follow each other. */
static bool frames_follow(void)
{
    UCHAR *const user = user_pages(8, PAGE_READWRITE);
    bool follow = true;

    for (SIZE_T i = 1; i < 8; i++)
        follow &= pfn_of(user + i * PAGE_SIZE) == pfn_of(user) + i;
    return follow;
}

/* The environment's options hold for pinion_boot(NULL) and the first routine; options of the program's own
   replace them. */
TEST_UNTIDY(host_api, boot__environment__holds_unless_options_are_given)
{
    setenv("PINION_OPTIONS", "layout=linear:ram=64M", 1);
    EXPECT(frames_follow());
    (void)pinion_shutdown();
    boot(NULL);
    EXPECT(frames_follow());
    (void)pinion_shutdown();
    boot("layout=scattered");
    EXPECT(!frames_follow());
    (void)pinion_shutdown();
}

/* The ram option is what a machine has for processes: that much can be allocated, and no more. */
TEST(host_api, boot__ram__is_what_can_be_allocated)
{
    SIZE_T pages = 0;

    boot("ram=16M");
    while (pinion_user_alloc(16 * PAGE_SIZE, PAGE_READWRITE))
        pages += 16;
    EXPECT(pages <= 4096);
    EXPECT(pages >= 4096 - 256);
}

/* The frames of a new buffer in a machine with this seed. */
static void frames_of_seed(const char *options, ULONG64 *pfns, SIZE_T count)
{
    boot(options);
    UCHAR *const user = user_pages(count, PAGE_READWRITE);
    for (SIZE_T i = 0; i < count; i++)
        pfns[i] = pfn_of(user + i * PAGE_SIZE);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* The seed chooses the scattering: the same seed gives the same frames in each run, another gives
   others. */
TEST_UNTIDY(host_api, boot__seed__chooses_the_frames)
{
    ULONG64 first[16], again[16], other[16];

    frames_of_seed("layout=scattered:seed=5", first, 16);
    frames_of_seed("layout=scattered:seed=5", again, 16);
    frames_of_seed("layout=scattered:seed=6", other, 16);
    EXPECT_MEM_EQ(again, first, sizeof(first));
    EXPECT(memcmp(other, first, sizeof(first)) != 0);
}

static void leak_two_mdls(void *context HARNESS_UNUSED)
{
    mdl_over(user_pages(1, PAGE_READWRITE), 100);
    EXPECT_EQ(pinion_shutdown(), 1);
    EXPECT_EQ(pinion_boot(""), 0);
    EXPECT_EQ(counters_now().live_mdls, 0);
    EXPECT_EQ(pinion_shutdown(), 0);
    mdl_over(user_pages(1, PAGE_READWRITE), 100);
    mdl_over(user_pages(1, PAGE_READWRITE), 100);
    EXPECT(pinion_shutdown() >= 1);
    EXPECT_EQ(pinion_shutdown(), 0);
}

/* pinion_shutdown gives the number of findings since the boot, and a new machine starts without any. */
TEST_UNTIDY(host_api, shutdown__findings__are_those_since_boot)
{
    EXPECT_EQ(run_until_stop(leak_two_mdls, NULL).exit_status, 0);
}

static void stop_by_double_unlock(void *context HARNESS_UNUSED)
{
    const PMDL mdl = mdl_over(user_pages(1, PAGE_READWRITE), 100);

    MmUnlockPages(mdl);
}

/* A bug check's first line is the STOP line, and the process ends by SIGABRT. */
TEST_UNTIDY(host_api, bug_check__report__starts_with_the_stop_line)
{
    const struct stop stop = run_until_stop(stop_by_double_unlock, NULL);

    EXPECT_EQ(stop.exit_status, -SIGABRT);
    EXPECT(strncmp(stop.stderr_text, "*** STOP: 0x000000C4 (0x7C, 0x", 30) == 0);
    EXPECT_EQ(strcmp(stop.name, "DRIVER_VERIFIER_DETECTED_VIOLATION"), 0);
}

/* ---- Fork ---------------------------------------------------------------------------------------------- */

static void allocate_mdl(void *va)
{
    IoAllocateMdl(va, 100, FALSE, FALSE, NULL);
}

/* In a forked child of a booted machine the first routine prints one line and exits with 2; the parent's
   machine goes on. */
TEST(host_api, fork__of_a_running_machine__child_is_refused)
{
    UCHAR *const user = user_pattern(1, 3);
    const struct refusal refusal = refusal_of(allocate_mdl, user);

    EXPECT_EQ(refusal.exit_status, 2);
    expect_one_line(refusal.text);
    unlock_and_free(locked_mdl(user, PAGE_SIZE));
    EXPECT_PATTERN(user, PAGE_SIZE, 3);
}
