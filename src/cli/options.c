/* SPDX-License-Identifier: MIT */
/* The options of `pinion run`: one table says which there are, what they take and what the help says of them. */

#include "cli/cli.h"

#include <ctype.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_THREADS = 256, MOST_DEPTH = 1024, MOST_SHARDS = 100000, FAULTS_REQUESTS = 16, FAULTS_TIMEOUT = 10 };

#define LARGEST_REQUEST (1ull << 30)

static const uint64_t NS_PER_SECOND = 1000000000;

/* ---- values ---- */

static bool parse_count(const char *text, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]) || strlen(text) > 19)
        return false;
    *value = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool parse_bounded(const char *text, uint64_t most, unsigned *value)
{
    uint64_t count;

    if (!parse_count(text, &count) || count == 0 || count > most)
        return false;
    *value = (unsigned)count;
    return true;
}

/* A number of bytes in whole sectors, such as 512, 64K or 4M. */
static bool parse_request_size(const char *text, uint32_t *bytes)
{
    const size_t digits = strspn(text, "0123456789");
    static const char suffixes[] = "KMG";
    const char *suffix = text[digits] == '\0' ? NULL : strchr(suffixes, toupper((unsigned char)text[digits]));
    uint64_t value;

    if (digits == 0 || digits > 10 || (text[digits] != '\0' && (suffix == NULL || text[digits + 1] != '\0')))
        return false;
    value = strtoull(text, NULL, 10) << (suffix == NULL ? 0 : 10 * (suffix - suffixes + 1));
    if (value == 0 || value % SECTOR_BYTES != 0 || value > LARGEST_REQUEST)
        return false;
    *bytes = (uint32_t)value;
    return true;
}

/* ---- one function for each option that takes a value ---- */

static bool set_file(struct cli_options *options, const char *text)
{
    options->file_path = text;
    return *text != '\0';
}

static bool parse_seconds(const char *text, uint64_t *ns)
{
    char *end;
    const double seconds = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !isfinite(seconds) || seconds < 0.001 || seconds > 1e9)
        return false;
    *ns = (uint64_t)(seconds * (double)NS_PER_SECOND);
    return true;
}

static bool set_seconds(struct cli_options *options, const char *text)
{
    return parse_seconds(text, &options->run_ns);
}

static bool set_timeout(struct cli_options *options, const char *text)
{
    return parse_seconds(text, &options->timeout_ns);
}

static bool set_requests(struct cli_options *options, const char *text)
{
    return parse_count(text, &options->requests) && options->requests > 0;
}

static bool set_seed(struct cli_options *options, const char *text)
{
    options->seed_given = true;
    return parse_count(text, &options->seed);
}

static bool set_threads(struct cli_options *options, const char *text)
{
    return parse_bounded(text, MOST_THREADS, &options->threads);
}

static bool set_depth(struct cli_options *options, const char *text)
{
    return parse_bounded(text, MOST_DEPTH, &options->depth);
}

static bool set_min_size(struct cli_options *options, const char *text)
{
    return parse_request_size(text, &options->min_bytes);
}

static bool set_max_size(struct cli_options *options, const char *text)
{
    return parse_request_size(text, &options->max_bytes);
}

static bool set_check(struct cli_options *options, const char *text)
{
    options->check = strcmp(text, "full") == 0;
    return options->check || strcmp(text, "none") == 0;
}

static bool set_lower(struct cli_options *options, const char *text)
{
    options->lower_partial = strcmp(text, "partial") == 0;
    return options->lower_partial || strcmp(text, "whole") == 0;
}

static bool set_device(struct cli_options *options, const char *text)
{
    options->device_32_bit = strcmp(text, "32") == 0;
    return options->device_32_bit || strcmp(text, "64") == 0;
}

/* The machine reads the value itself; here it must only not run into the machine's other options. */
static bool is_boot_value(const char *text)
{
    return *text != '\0' && strlen(text) < 32 && strchr(text, ':') == NULL;
}

static bool set_verifier(struct cli_options *options, const char *text)
{
    options->verifier = text;
    return is_boot_value(text);
}

static bool set_ram(struct cli_options *options, const char *text)
{
    options->ram = text;
    return is_boot_value(text);
}

/* A "-" would be taken for stdout, where the report goes. */
static bool is_path(const char *text)
{
    return *text != '\0' && strcmp(text, "-") != 0;
}

static bool set_sarif(struct cli_options *options, const char *text)
{
    options->sarif_path = text;
    return is_path(text);
}

static bool set_junit(struct cli_options *options, const char *text)
{
    options->junit_path = text;
    return is_path(text);
}

static bool set_fail(struct cli_options *options, const char *text)
{
    const size_t length = strcspn(text, ":");

    if (length == 0 || length >= sizeof(options->fail_routine))
        return false;
    memcpy(options->fail_routine, text, length);
    options->fail_routine[length] = '\0';
    options->fail_period = 1;
    return text[length] == '\0' || parse_bounded(text + length + 1, UINT32_MAX, &options->fail_period);
}

/* "4f2c..." or several with commas. */
static bool parse_ids(struct cli_options *options, const char *text)
{
    char *end;

    for (;; text = end + 1) {
        const size_t digits = strspn(text, "0123456789abcdefABCDEF");

        if (digits == 0 || digits > 16 || options->nfail_calls == PINION_MOST_CALLS)
            return false;
        options->fail_calls[options->nfail_calls++] = strtoull(text, &end, 16);
        if (*end != ',')
            return *end == '\0';
    }
}

static bool set_faults(struct cli_options *options, const char *text)
{
    options->nfail_calls = 0;
    options->faults = strcmp(text, "systematic") == 0 ? FAULTS_SYSTEMATIC : FAULTS_NAMED;
    return options->faults == FAULTS_SYSTEMATIC || parse_ids(options, text);
}

static bool set_shard(struct cli_options *options, const char *text)
{
    const size_t length = strcspn(text, "/");
    char shard[24] = "";

    if (length >= sizeof(shard) || text[length] == '\0')
        return false;
    memcpy(shard, text, length);
    return parse_bounded(shard, MOST_SHARDS, &options->shard) && parse_bounded(text + length + 1, MOST_SHARDS, &options->nshards) &&
           options->shard <= options->nshards;
}

/* ---- the table ---- */

#define FLAG(name) NULL, NULL, NULL, offsetof(struct cli_options, name)

static const struct entry {
    const char *name;
    const char *help;
    const char *takes;                  /* what stands for the value in the help; NULL: it takes none */
    bool      (*set)(struct cli_options *options, const char *text);
    const char *accepts;                /* what to say when the value is no good */
    size_t      flag;                   /* of an option without a value: the bool that it sets; 0: it asks for help */
} entries[] = {
    {"file", "the file or block device behind the disk", "PATH", set_file, "the path of a file or block device", 0},
    {"write", "write to a scratch copy of the file (in TMPDIR, or beside it) and read back", FLAG(write)},
    {"in-place", "with --write: write to the file itself. Its contents are lost", FLAG(in_place)},
    {"seconds", "end after so long (3, unless --requests is given; with --faults, 16 requests)", "N", set_seconds, "a number above 0", 0},
    {"requests", "end after so many requests", "N", set_requests, "a number above 0", 0},
    {"seed", "choose the requests: same seed, same requests (random, and printed; with --faults 1)", "N", set_seed, "a number", 0},
    {"threads", "threads that make requests (one a processor, at most 4; with --faults 1)", "N", set_threads,
     "a number from 1 to 256", 0},
    {"depth", "requests that each thread keeps in flight (8; with --faults 1)", "N", set_depth, "a number from 1 to 1024", 0},
    {"min-size", "the smallest request (512)", "BYTES", set_min_size, "a multiple of 512 up to 1G", 0},
    {"max-size", "the largest request (4M; with --faults 256K)", "BYTES", set_max_size, "a multiple of 512 up to 1G", 0},
    {"check", "full: compare every byte; none: measure, then compare in a pass of its own (full)",
     "full|none", set_check, "full or none", 0},
    {"lower", "partial: the disk moves at most 24K of a request, and says so (whole)",
     "whole|partial", set_lower, "whole or partial", 0},
    {"device", "address bits of the disk, for a driver that has it do DMA (64)", "64|32", set_device, "64 or 32", 0},
    {"fail", "make each (or each Nth) call of a Windows routine fail", "ROUTINE[:N]", set_fail,
     "the name of a routine, and perhaps :N", 0},
    {"faults", "systematic: run again and again, each time with another call of a routine failed; or the calls with these ids fail",
     "systematic|ID[,ID]", set_faults, "systematic, or ids of calls as --faults systematic prints them", 0},
    {"shard", "with --faults systematic: only the Kth of N parts, which together are the whole", "K/N", set_shard,
     "K/N with K from 1 to N, such as 2/4", 0},
    {"verifier", "the run-time verifier (on)", "on|off|0xFLAGS", set_verifier, "on, off or flags such as 0x9b9", 0},
    {"ram", "memory of the machine (4G)", "SIZE", set_ram, "a size such as 8G", 0},
    {"timeout", "end the run, as a hang, when it has lasted so long (no limit; with --faults 10)", "SECONDS", set_timeout, "a number above 0", 0},
    {"in-process", "run the driver in this process and not in a child, for a debugger", FLAG(in_process)},
    {"json", "print the result as one JSON object", FLAG(json)},
    {"sarif", "write the findings as SARIF 2.1.0, for tools that review code", "FILE", set_sarif, "the path of a file (/dev/stdout is one)", 0},
    {"junit", "write the runs as JUnit XML, for CI servers", "FILE", set_junit, "the path of a file (/dev/stdout is one)", 0},
    {"help", "this text", NULL, NULL, NULL, 0},
};

#undef FLAG

enum { NENTRIES = sizeof(entries) / sizeof(entries[0]) };

void options_help(void)
{
    char option[64];

    puts("pinion run DRIVER.so --file PATH [OPTION...]\n"
         "\n"
         "Puts the driver over a disk that is backed by the file, reads the file through it with requests of all\n"
         "sizes into buffers at aligned and unaligned addresses, compares every byte, takes everything down again,\n"
         "and prints what was done and what is still held. The file is only read, unless --write and --in-place\n"
         "are both given.\n");
    for (unsigned i = 0; i < NENTRIES; i++) {
        snprintf(option, sizeof(option), "--%s%s%s", entries[i].name, entries[i].takes == NULL ? "" : " ",
                 entries[i].takes == NULL ? "" : entries[i].takes);
        printf("  %-26s %s\n", option, entries[i].help);
    }
    puts("\n"
         "Options of the machine may also stand in PINION_OPTIONS; those given here win.\n"
         "Exit code: 0 all is well; 1 findings, wrong data, or requests that failed though no --fail explains it;\n"
         "2 the command line, the file or the driver cannot be used; 130 interrupted by ctrl-C, and what had run was well.\n"
         "The driver runs in a child process: a bug check or a crash ends that, and is reported.");
}

/* ---- the command line ---- */

static void set_defaults(struct cli_options *options)
{
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    *options = (struct cli_options){
        .seed = host_wall_100ns() % 1000000,
        .threads = cpus < 1 ? 1 : cpus > 4 ? 4 : (unsigned)cpus,
        .depth = 8,
        .min_bytes = SECTOR_BYTES,
        .max_bytes = 4 << 20,
        .check = true,
    };
}

/* Runs that each fail another call are short, and all alike, whatever the machine: the calls are the same then. */
static void set_defaults_of_faults(struct cli_options *options)
{
    options->seed = 1;
    options->threads = 1;
    options->depth = 1;
    options->max_bytes = 256 << 10;
}

static void set_ends(struct cli_options *options)
{
    const bool by_call = options->faults != FAULTS_NONE;

    if (options->run_ns == 0 && options->requests == 0 && by_call)
        options->requests = FAULTS_REQUESTS;
    if (options->run_ns == 0 && options->requests == 0)
        options->run_ns = 3 * NS_PER_SECOND;
    if (options->timeout_ns == 0 && by_call && !options->in_process)
        options->timeout_ns = FAULTS_TIMEOUT * NS_PER_SECOND;
}

static void fill_getopt_table(struct option table[NENTRIES + 1])
{
    for (int i = 0; i < NENTRIES; i++) {
        const bool takes_value = entries[i].takes != NULL;

        table[i] = (struct option){entries[i].name, takes_value ? required_argument : no_argument, NULL, i};
    }
    table[NENTRIES] = (struct option){0};
}

/* What the options say together. */
static bool is_consistent(struct cli_options *options)
{
    if (options->in_place && !options->write)
        return cli_complain(false, "--in-place only makes sense with --write");
    if (options->in_process && options->timeout_ns != 0)
        return cli_complain(false, "--timeout ends a child process: leave out --in-process");
    if (options->in_process && (options->sarif_path != NULL || options->junit_path != NULL))
        return cli_complain(false, "with --in-process a bug check would leave no one to write files of reports: leave out --sarif and --junit");
    if (options->faults != FAULTS_SYSTEMATIC && options->nshards != 0)
        return cli_complain(false, "--shard only makes sense with --faults systematic");
    if (options->faults != FAULTS_NONE && options->fail_period != 0)
        return cli_complain(false, "--fail and --faults exclude each other: with both, no outcome could be put down to one call");
    if (options->faults == FAULTS_SYSTEMATIC && options->in_process)
        return cli_complain(false, "--faults systematic needs many processes: with --in-process, name the call, --faults ID");
    if (options->min_bytes > options->max_bytes)
        return cli_complain(false, "--min-size must not be above --max-size (%u and %u)", options->min_bytes,
                            options->max_bytes);
    set_ends(options);
    return true;
}

static bool take_operands(int argc, char **argv, struct cli_options *options)
{
    if (optind == argc)
        return cli_complain(false, "say which driver: 'pinion run DRIVER.so --file PATH'");
    if (optind + 1 < argc)
        return cli_complain(false, "one driver at a time: what is '%s'?", argv[optind + 1]);
    options->driver_path = argv[optind];
    if (options->file_path == NULL)
        return cli_complain(false, "say which file to read: --file PATH");
    return true;
}

/* An option that getopt did not accept. optopt is then a letter, the index of an option with a value too many, or 0. */
static bool complain_of_option(int result, char **argv)
{
    const char *option = argv[optind - 1];

    if (result == ':')
        return cli_complain(false, "option '%s' needs a value; 'pinion help run' lists the options", option);
    if (optopt >= NENTRIES)
        return cli_complain(false, "there is no option '-%c'; 'pinion help run' lists the options", optopt);
    if (optopt > 0)
        return cli_complain(false, "option '--%s' takes no value", entries[optopt].name);
    return cli_complain(false, "there is no option '%s'; 'pinion help run' lists the options", option);
}

static bool apply(struct cli_options *options, const struct entry *entry, const char *value)
{
    if (entry->flag != 0)
        *(bool *)((char *)options + entry->flag) = true;
    else if (!entry->set(options, value))
        return cli_complain(false, "--%s %s: use %s", entry->name, value, entry->accepts);
    return true;
}

static bool is_help(int index)
{
    return index == 'h' || (index < NENTRIES && entries[index].set == NULL && entries[index].flag == 0);
}

static bool parse_all(int argc, char **argv, struct cli_options *options, int *code)
{
    struct option table[NENTRIES + 1];
    int index;

    fill_getopt_table(table);
    optind = 0;
    while ((index = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
        if (is_help(index)) {
            options_help();
            *code = CLI_CLEAN;
            return false;
        }
        if (index >= NENTRIES)
            return complain_of_option(index, argv);
        if (!apply(options, &entries[index], optarg))
            return false;
    }
    return true;
}

/* --faults changes the defaults of the others, wherever it stands: they are read again then. */
bool options_parse(int argc, char **argv, struct cli_options *options, int *code)
{
    *code = CLI_USAGE;
    set_defaults(options);
    if (!parse_all(argc, argv, options, code))
        return false;
    if (options->faults != FAULTS_NONE) {
        set_defaults_of_faults(options);
        parse_all(argc, argv, options, code);
    }
    return take_operands(argc, argv, options) && is_consistent(options);
}
