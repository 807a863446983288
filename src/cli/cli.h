/* SPDX-License-Identifier: MIT */
/*
 * The `pinion` command: a file, a disk over it, a driver over the disk, and requests that say what the driver is worth.
 *
 *   run       one use of a driver: booted, loaded, loaded with requests, taken down, reported
 *   load      the requests of a run: worker threads, each with some slots
 *   slot      one place for a request in flight; it has a buffer, a random sequence and a share of the run of its own,
 *             so what it asks for depends on the seed alone and not on what comes back first
 *   truth     what the bytes of the file must be: the file itself, or what this run wrote there
 *
 * Files, top to bottom: main.c and options.c (the command line), run.c (set-up and tear-down), driver.c (the shared
 * object), load.c (requests), check.c (what came back), report.c and progress.c (what the user sees). explain.c tells the verifier's rules.
 */
#ifndef PINION_CLI_H
#define PINION_CLI_H

#include <wdm.h>

#include "host/program.h"
#include "pinion/pinion.h"

#include <stdatomic.h>
#include <stdio.h>

/* Exit codes. A bug check is a finding, and ends the command there. */
enum { CLI_CLEAN = 0, CLI_WRONG = 1, CLI_USAGE = 2 };

enum { SECTOR_BYTES = 512, GUARD_BYTES = 64 };

/* ---- options.c ---- */

struct cli_options {
    const char *driver_path;
    const char *file_path;
    const char *verifier;               /* NULL: as the environment says */
    const char *ram;                    /* likewise */
    char        fail_routine[64];       /* empty: none */
    unsigned    fail_period;            /* each call whose number is a multiple of it fails */
    uint64_t    run_ns;                 /* 0: no limit */
    uint64_t    requests;               /* 0: no limit */
    uint64_t    seed;
    bool        seed_given;
    unsigned    threads;
    unsigned    depth;                  /* requests that each thread keeps in flight */
    uint32_t    min_bytes, max_bytes;   /* of a request */
    bool        write;
    bool        in_place;
    bool        check;                  /* compare while measuring; otherwise in a pass of its own */
    bool        lower_partial;
    bool        device_32_bit;          /* the disk, as a bus master */
    bool        json;
};

/* The arguments behind `pinion run`. False: *code is the exit code, and what there was to say has been said. */
bool options_parse(int argc, char **argv, struct cli_options *options, int *code);
void options_help(void);

/* ---- explain.c ---- */

/* `pinion explain`: the arguments behind it; the exit code. */
int  explain_main(int argc, char **argv);
void explain_help(void);

/* One line "pinion: ..." on stderr; the result is `code`. */
int cli_complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "STATUS_END_OF_FILE (0xC0000011)"; the text is good until the thread's next call. */
const char *cli_status(NTSTATUS status);

/* ---- driver.c ---- */

struct driver {
    void                *module;
    pinion_driver_entry *entry;
    char                 name[64];      /* of the file, without directory and ending */
};

/* False: complained. */
bool driver_open(struct driver *driver, const char *path);
void driver_close(struct driver *driver);

/* ---- load.c ---- */

/* What came of the requests of one thread, or of all. */
struct tally {
    uint64_t requests;                  /* ended, whatever the outcome */
    uint64_t bytes;                     /* moved by those that succeeded */
    uint64_t failed;                    /* ended with an error */
    uint64_t cut_short;                 /* moved another number of bytes than there were to move */
    uint64_t guards_broken;             /* touched memory beside their buffer */
    uint64_t verified_bytes;            /* compared with the truth */
    uint64_t wrong_bytes;               /* that differed from it */
    uint64_t lost;                      /* never came back */
    uint64_t peak_locked_pages;
};

struct load;
struct worker;

struct slot {
    struct pinion_request request;
    struct worker *worker;
    struct slot   *next;                /* in the stack of those that came back */
    unsigned char *arena;               /* process memory that the buffer lies in */
    uint64_t       random;              /* state of its sequence */
    uint64_t       quota;               /* requests that it may still make */
    uint64_t       started;             /* requests that it made */
    uint64_t       first_sector;        /* of the stretch of the file that it may ask for; writers share none */
    uint64_t       nsectors;
    uint32_t       generation;          /* of its latest write */
    bool           reads_back;          /* a write succeeded: its next request reads the same sectors */
    _Atomic bool   returned;
};

struct worker {
    struct load         *load;
    struct host_thread   thread;
    struct host_gate     gate;          /* opened when something came back */
    _Atomic(struct slot *) back;        /* stack of what came back and was not looked at yet */
    struct slot         *slots;
    unsigned             in_flight;
    unsigned char       *expected;      /* room for the truth about one request */
    struct tally         tally;
    _Atomic uint64_t     requests, bytes;       /* of the tally, for the progress bar */
};

struct load {
    const struct cli_options *options;
    struct host_file    *file;          /* what the disk is over, opened once more to know the truth */
    PEPROCESS            process;
    PFILE_OBJECT         device;
    struct worker       *workers;
    unsigned             nslots;        /* of all workers */
    uint32_t            *generations;   /* by sector: the write that filled it, 0 for none; NULL in a run of reads */
    bool                 checking;
    uint64_t             start_ns;
    uint64_t             limit_ns;      /* 0: none */
    uint64_t             nrequests;     /* to make; 0: as many as there is time for */
    _Atomic bool         stop;
    _Atomic unsigned     running;       /* workers that have not ended, and one while they are being started */
    _Atomic unsigned     complaints;    /* lines printed about requests that went wrong */
    struct host_gate     finished;
};

/* The generation of a sector whose latest write failed, and which may hold anything. */
#define GENERATION_UNKNOWN UINT32_MAX

bool load_create(struct load *load);            /* buffers in the current process; false: complained */
void load_destroy(struct load *load);

/* Let every slot make the requests once more that it has made. */
void load_rewind(struct load *load);

/* Make requests until time, number or an interrupt ends it, and wait for those in flight. False: complained. */
bool load_run(struct load *load, struct tally *sum, uint64_t *elapsed_ns);

/* ---- check.c ---- */

uint64_t random_next(uint64_t *state);
uint64_t random_seeded(uint64_t seed, uint64_t a, uint64_t b);

/* The bytes of a sector after that write. */
void truth_of_write(uint64_t seed, uint64_t sector, uint32_t generation, unsigned char out[SECTOR_BYTES]);

void guards_set(const struct pinion_request *request);
bool guards_hold(const struct pinion_request *request);

/* Take note of how the slot's request ended, and compare what it read. */
void check_request(struct slot *slot);

/* Compare the whole file with what was written to it, and where nothing was with `original` (NULL: not known). */
bool check_written(struct load *load, const struct host_file *original, struct tally *sum);

/* ---- progress.c ---- */

/* A bar on a terminal; nothing elsewhere. */
void progress_show(const char *what, double fraction, uint64_t bytes, uint64_t ns);
void progress_clear(void);

/* ---- run.c ---- */

struct result {
    const struct cli_options *options;
    const char      *driver_name;
    const char      *engine;
    uint64_t         file_bytes;
    uint64_t         elapsed_ns, cpu_ns;
    struct tally     tally;
    struct pinion_totals   totals;      /* when the measured requests had ended */
    struct pinion_counters held;        /* when the driver had gone */
    unsigned         findings;
    bool             taken_down;        /* held and findings are known */
};

int run_main(const struct cli_options *options);

/* ---- report.c ---- */

/* Requests that failed though no injected failure explains it. */
uint64_t report_unexplained(const struct result *result);
bool     report_is_clean(const struct result *result);
void     report_print(const struct result *result);         /* on stdout: a table, or JSON if that was asked for */

#endif
