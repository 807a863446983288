/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target as a program of its own, for machines without libFuzzer and for tests that are the same each time:
 *
 *     fuzz-mdl FILE...              replays inputs, such as those that a fuzzer has kept
 *     fuzz-mdl --runs N [--seed S]  runs N pseudo-random inputs
 *
 * The input that ends the process is written to crash-SEED-NUMBER first.
 */

#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = 1024, WRONG_USE = 2 };

/* The input that is running; for the handler of SIGABRT. */
static struct {
    uint8_t bytes[MOST_BYTES];
    size_t size;
    char name[64];
} now;

static void keep_input(int signal)
{
    const int file = open(now.name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (file >= 0 && write(file, now.bytes, now.size) == (ssize_t)now.size) {
        (void)!write(STDERR_FILENO, "the input is kept in ", 21);
        (void)!write(STDERR_FILENO, now.name, strlen(now.name));
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    raise(signal);
}

/* xorshift64*: the same numbers everywhere. */
static uint64_t next_number(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Dull;
}

static void run_pseudo_random(unsigned long runs, unsigned long seed)
{
    const struct sigaction action = {.sa_handler = keep_input, .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGABRT, &action, NULL);
    for (unsigned long run = 0; run < runs; run++) {
        uint64_t state = (seed * 1000003 + run) * 0x9E3779B97F4A7C15ull + 1;

        now.size = next_number(&state) % (MOST_BYTES + 1);
        for (size_t i = 0; i < now.size; i++)
            now.bytes[i] = (uint8_t)(next_number(&state) >> 56);
        snprintf(now.name, sizeof(now.name), "crash-%lu-%lu", seed, run);
        LLVMFuzzerTestOneInput(now.bytes, now.size);
    }
}

static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    size_t size = 0, room = 0, got = 0;

    if (file == NULL) {
        fprintf(stderr, "cannot open '%s'\n", path);
        return WRONG_USE;
    }
    do {
        size += got;
        if (size == room) {
            room = room * 2 + MOST_BYTES;
            bytes = realloc(bytes, room);
            FUZZ_EXPECT(bytes != NULL);
        }
        got = fread(bytes + size, 1, room - size, file);
    } while (got != 0);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return 0;
}

/* The number behind an option; the end of the program where there is none. */
static unsigned long number_behind(char **arguments)
{
    char *end = NULL;
    const unsigned long number = arguments[1] == NULL ? 0 : strtoul(arguments[1], &end, 10);

    if (end == NULL || end == arguments[1] || *end != '\0') {
        fprintf(stderr, "%s needs a number\n", arguments[0]);
        exit(WRONG_USE);
    }
    return number;
}

int main(int count, char **arguments)
{
    unsigned long runs = 0, seed = 1;
    int code = count > 1 ? 0 : WRONG_USE;

    for (arguments++; code == 0 && *arguments != NULL; arguments++) {
        if (strcmp(*arguments, "--runs") == 0)
            runs = number_behind(arguments++);
        else if (strcmp(*arguments, "--seed") == 0)
            seed = number_behind(arguments++);
        else
            code = replay(*arguments);
    }
    if (count < 2)
        fputs("say which inputs to run: --runs N [--seed S], or files\n", stderr);
    run_pseudo_random(runs, seed);
    return code;
}
