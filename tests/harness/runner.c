/* SPDX-License-Identifier: MIT */
/*
 * A runner of ours: a forked process for each test, one after the other.
 *
 *     program [--list] [--filter SUITE/NAME-SUBSTRING] [--timeout SECONDS] [--verbose]
 *
 * It prints a line for each test that failed or was skipped and a closing count; exit code 1 when any failed or none was
 * found. The test tells its verdict through a shared page, because its end alone cannot: a body may call exit(0).
 */

#include "harness.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend.h"

enum verdict { NO_VERDICT, PASSED, FAILED, SKIPPED };

struct result {
    _Atomic enum verdict verdict;
    char text[4000];
};

static struct harness_test *first_test;
static struct harness_test **end_of_tests = &first_test;
static struct result *result; /* shared with the process of the running test */

void harness_register(struct harness_test *test)
{
    *end_of_tests = test;
    end_of_tests = &test->next;
}

void backend_fail(const struct harness_place *place, const char *message)
{
    snprintf(result->text, sizeof(result->text), "%s:%d: %s", place->file, place->line, message);
    result->verdict = FAILED;
    fflush(NULL);
    _exit(1);
}

void backend_skip(const char *reason)
{
    snprintf(result->text, sizeof(result->text), "%s", reason);
    result->verdict = SKIPPED;
    fflush(NULL);
    _exit(0);
}

static _Noreturn void run_here(const struct harness_test *test)
{
    harness_run(test);
    result->verdict = PASSED;
    exit(0);
}

/* The process may end badly even after its test has passed: a leak report at exit, say. */
static void judge_end(int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(result->text, sizeof(result->text), "took more than %u s", harness_timeout());
    else if (WIFSIGNALED(status))
        snprintf(result->text, sizeof(result->text), "ended by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (result->verdict == NO_VERDICT || (result->verdict == PASSED && WEXITSTATUS(status) != 0))
        snprintf(result->text, sizeof(result->text), "left with exit code %d%s", WEXITSTATUS(status),
                 result->verdict == PASSED ? "" : " before its end");
    else
        return;
    result->verdict = FAILED;
}

static enum verdict run(const struct harness_test *test)
{
    int status;

    result->verdict = NO_VERDICT;
    result->text[0] = 0;
    const pid_t child = harness_fork();
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0)
        run_here(test);
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            abort();
    }
    judge_end(status);
    return result->verdict;
}

static bool is_wanted(const struct harness_test *test, const char *filter)
{
    char name[512];

    snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
    return strstr(name, filter) != NULL;
}

/* A line for the test; what else its verdict says stands indented below. */
static void print_verdict(const char *word, const struct harness_test *test, char *text)
{
    char *rest = text;
    const char *line = strsep(&rest, "\n");

    printf("%s %s/%s%s%s\n", word, test->suite, test->name, *line ? ": " : "", line);
    while ((line = strsep(&rest, "\n"))) {
        if (*line)
            printf("    %s\n", line);
    }
}

static int run_all(const char *filter, bool verbose)
{
    static const char *const words[] = {[PASSED] = "PASS", [FAILED] = "FAIL", [SKIPPED] = "SKIP"};
    unsigned counts[] = {[PASSED] = 0, [FAILED] = 0, [SKIPPED] = 0};

    for (const struct harness_test *test = first_test; test; test = test->next) {
        if (!is_wanted(test, filter))
            continue;
        const enum verdict verdict = run(test);
        counts[verdict]++;
        if (verdict != PASSED || verbose)
            print_verdict(words[verdict], test, result->text);
    }
    printf("%u passed, %u failed, %u skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
    return counts[FAILED] || !(counts[PASSED] + counts[SKIPPED]) ? 1 : 0;
}

static void list_all(const char *filter)
{
    for (const struct harness_test *test = first_test; test; test = test->next) {
        if (is_wanted(test, filter))
            printf("%s/%s\n", test->suite, test->name);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"list", no_argument, NULL, 'l'},
                                            {"filter", required_argument, NULL, 'f'},
                                            {"timeout", required_argument, NULL, 't'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {0}};
    const char *filter = "";
    bool list = false, verbose = false;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'l': list = true; break;
        case 'f': filter = optarg; break;
        case 't': setenv("HARNESS_TIMEOUT", optarg, 1); break;
        case 'v': verbose = true; break;
        default: return 2;
        }
    }
    if (list) {
        list_all(filter);
        return 0;
    }
    result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (result == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    return run_all(filter, verbose);
}
