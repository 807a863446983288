/* SPDX-License-Identifier: MIT */
/*
 * The `pinion` command: a file, a disk over it, a driver over the disk, and requests that say what the driver is worth.
 *
 *   run       one use of a driver: booted, loaded, loaded with requests, taken down, reported
 *   load      the requests of a run: worker threads, each with some slots
 *   slot      one place for a request in flight; it has a buffer, a random sequence and a share of the run of its own,
 *             so what it asks for depends on the seed alone and not on what comes back first
 *   truth     what the bytes of the file must be: the file itself, or what this run wrote there
 *   session   a run in a process of its own, and what is known of it however that process ended
 *   verdict   what a session says of the driver
 *
 * Files, top to bottom: main.c and options.c (the command line), single.c (one session), systematic.c (sessions that each make one call
 * fail), session.c, run.c (set-up and tear-down), record.c (what a run tells its session), driver.c (the shared object), load.c
 * (requests), check.c (what came back);
 * verdict.c, report.c and progress.c (what the user sees), finding.c, sarif.c and junit.c (what other programs see). Beside the runs:
 * explain.c tells the verifier's rules; cc.c is the compiler's front; includes.c, functions.c, seh.c, rewriter.c and tokens.c make sources
 * fit for it.
 */
#ifndef PINION_CLI_H
#define PINION_CLI_H

#include <wdm.h>

#include "host/program.h"
#include "pinion/pinion.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>

/* Exit codes of the command. */
enum { CLI_CLEAN = 0, CLI_WRONG = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };     /* interrupted, and what ran was well */

enum { SECTOR_BYTES = 512, GUARD_BYTES = 64 };

/* ---- options.c ---- */

enum faults { FAULTS_NONE, FAULTS_NAMED, FAULTS_SYSTEMATIC };

struct cli_options {
    const char *driver_path;
    const char *file_path;
    const char *verifier;               /* NULL: as the environment says */
    const char *ram;                    /* likewise */
    char        fail_routine[64];       /* empty: none */
    unsigned    fail_period;            /* each call whose number is a multiple of it fails */
    enum faults faults;                 /* which calls fail, by call stack */
    uint64_t    fail_calls[PINION_MOST_CALLS];      /* FAULTS_NAMED */
    unsigned    nfail_calls;
    unsigned    shard, nshards;         /* FAULTS_SYSTEMATIC: this one of so many; 0 of 0: all */
    uint64_t    run_ns;                 /* requests are made for so long; 0: no limit */
    uint64_t    timeout_ns;             /* a session may last so long; 0: no limit */
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
    const char *sarif_path, *junit_path;        /* NULL: no such file */
    bool        json;
    bool        in_process;             /* no process of its own for the machine */
};

/* The arguments behind `pinion run`. False: *code is the exit code, and what there was to say has been said. */
bool options_parse(int argc, char **argv, struct cli_options *options, int *code);
void options_help(void);

/* ---- explain.c ---- */

/* `pinion explain`: the arguments behind it; the exit code. */
int  explain_main(int argc, char **argv);
void explain_help(void);

/* The parameters of a bug check, each with its value and, where the rule of that name says so, its meaning. */
json_t *rules_parameters(const char *id, const uint64_t parameters[4]);

/* What SARIF calls a reporting descriptor. `what` stands for the description of what has no rule. */
json_t *rules_describe(const char *id, const char *what);

/* ---- cc.c ---- */

/* `pinion cc`: the arguments behind it; the compiler's exit code. */
int  cc_main(int argc, char **argv);
void cc_help(void);

/* ---- complain.c ---- */

/* One line "pinion: ..." on stderr; the result is `code`. */
int cli_complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The exit code, unless what was printed did not all reach stdout: then it complains. */
int cli_end(int code);

/* ---- status.c ---- */

/* "STATUS_END_OF_FILE (0xC0000011)"; the text is good until the thread's next call. */
const char *cli_status(NTSTATUS status);

/* ---- driver.c ---- */

struct driver {
    void                *module;
    pinion_driver_entry *entry;
    char                 path[256];     /* of the module, as call stacks name it */
};

/* What a driver is called: its file without directory and ending. */
void driver_name(const char *path, char *name, size_t bytes);

/* False: complained. */
bool driver_exists(const char *path);
bool driver_open(struct driver *driver, const char *path);
void driver_close(struct driver *driver);

/* ---- load.c ---- */

/* What came of the requests of one thread, or of all. */
struct tally {
    uint64_t requests;                  /* ended, whatever the outcome */
    uint64_t bytes;                     /* moved by those that succeeded */
    uint64_t failed;                    /* ended with an error */
    NTSTATUS failed_with;               /* one of those errors */
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
};

struct worker {
    struct load         *load;
    struct host_thread   thread;
    struct host_gate     gate;          /* opened when enough came back */
    _Atomic(struct slot *) back;        /* stack of what came back and was not looked at yet, */
    _Atomic int          nback;         /* how many these are, */
    _Atomic int          enough;        /* and how many the worker waits for */
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
void progress_count(const char *what, size_t done, size_t total, size_t bad);
void progress_clear(void);

/* ---- run.c ---- */

/* What to run. */
struct run_order {
    const struct cli_options *options;
    const uint64_t *fail;               /* calls that fail, once each */
    unsigned        nfail;
    bool            tell_calls;         /* tell of each call of a fallible routine, but for those that are known: */
    const uint64_t *known;
    size_t          known_count;
};

/* What a run has come to. It goes from a process to its parent as it is. */
struct result {
    char             driver_name[64];
    char             driver_module[256];        /* path, as call stacks name it */
    char             engine[16];
    uint64_t         file_bytes;
    uint64_t         elapsed_ns, cpu_ns;
    struct tally     tally;
    struct pinion_totals   totals;      /* when the measured requests had ended */
    struct pinion_counters held;        /* when the driver had gone */
    uint64_t         injected;          /* failures, from beginning to end */
    char             refused_by[48];    /* the routine of the driver that would not; empty: none */
    NTSTATUS         refused_with;
    bool             interrupted;
    bool             taken_down;        /* held is known */
};

/* Run, and keep record_send up to date. CLI_CLEAN: *result tells how it went; otherwise there was something to complain of. */
int run_perform(const struct run_order *order, struct result *result);

/* ---- session.c ---- */

struct session {
    struct result result;
    bool     driver_ran;                /* as far as to load it */
    bool     closed;                    /* the run ended by itself, with this code: */
    int      code;
    bool     timed_out;
    bool     cut_off;                   /* it had not ended a while after an interrupt */
    json_t  *cut_off_at;                /* a place of the driver where it was then; NULL: not known */
    struct host_child child;            /* of a session without a child: as if that had ended with `code` */
    double   seconds;
    unsigned nmet;                      /* of the calls that were to fail: so many were made */
    unsigned nnot_made;                 /* of the calls of --faults ID: so many were not */
    json_t  *findings;                  /* an array */
    json_t  *calls;                     /* an array, in the order in which they were met */
};

/* Run in a process of its own, or in this one if the options say so. False: complained. */
bool session_run(const struct run_order *order, bool keep_printed, struct session *session);
void session_free(struct session *session);

/* It complained of the command line or the host, with this code, and there is nothing to report. */
bool session_is_usage(const struct session *session, int *code);

/* What it printed, if that was kept; to be freed. */
char *session_printed(const struct session *session);

/* ---- record.c ---- */

/* What a run sends to its session. */
enum record {
    RECORD_LOADING,                     /* the driver's code begins to run */
    RECORD_RESULT,                      /* struct result, as far as it is known; the latest counts */
    RECORD_FINDING,                     /* JSON */
    RECORD_CALL,                        /* JSON: a call that was not known */
    RECORD_MET,                         /* a call that fails now */
    RECORD_CLOSED,                      /* int: the code of run_perform */
};
void record_send(enum record record, const void *data, size_t bytes);

/* End the run from within, where it cannot be taken down, with that code. */
_Noreturn void record_leave(int code);

/* Where records go from here on: through a pipe, or to a session of this process until that is NULL. */
void record_to_parent(int pipe);
void record_to_session(struct session *session);

/* Send each finding, and the calls that the order asks for. */
void record_begin(const struct run_order *order, struct result *result);

/* Bytes that came in and are no whole record yet. False: there is no room for a chunk more. */
struct inbox {
    char  *bytes;
    size_t n, room;
};
bool records_make_room(struct inbox *inbox);
void records_take(struct session *session, struct inbox *inbox);

/* ---- single.c ---- */

/* `pinion run`. */
int run_main(const struct cli_options *options);

/* ---- systematic.c ---- */

/* `pinion run --faults systematic`. */
int systematic_main(const struct cli_options *options);

/* ---- finding.c ---- */

/* All about a finding. Its place is the innermost frame of the driver, whose module is known by its path. */
json_t *json_of_finding(const struct pinion_finding *finding, const char *driver_module);

json_t *json_of_call(const struct pinion_call *call);

/* A finding that tells where the driver's threads in that process are. */
json_t *json_of_hang(int pid, const char *driver_module);
uint64_t json_id(const json_t *call);

const char *json_text(const json_t *object, const char *key);       /* "" where there is none */

/* ---- verdict.c ---- */

enum verdict {
    VERDICT_WELL,                       /* and requests failed only where failures were injected */
    VERDICT_REFUSED,                    /* the driver would not start, because a failure was injected */
    VERDICT_LAST_GOOD = VERDICT_REFUSED,
    VERDICT_INTERRUPTED,                /* by ctrl-C; neither good nor bad */
    VERDICT_LAST_NOT_BAD = VERDICT_INTERRUPTED,
    VERDICT_NOT_MADE,                   /* calls of --faults ID */
    VERDICT_REFUSED_UNASKED,            /* it would not start, and nothing had been injected */
    VERDICT_UNEXPLAINED,                /* more requests failed than failures were injected */
    VERDICT_WRONG_DATA,
    VERDICT_LEAK,
    VERDICT_FINDING,                    /* a warning */
    VERDICT_LOST,                       /* requests that never came back */
    VERDICT_HUNG,
    VERDICT_CRASHED,
    VERDICT_STOPPED,                    /* bug check */
    VERDICTS
};
enum verdict verdict_of(const struct session *session);
int          verdict_code(enum verdict verdict);            /* exit code of the command */
const char  *verdict_name(enum verdict verdict);            /* for machines: "bug-check" */

/* One line for people. */
void verdict_describe(const struct session *session, char *text, size_t bytes);

/* Was it interrupted, whatever the verdict? What became of it then. */
bool verdict_interrupt(const struct session *session, char *text, size_t bytes);

/* Requests that failed though no injected failure explains it. */
uint64_t verdict_unexplained(const struct result *result);
uint64_t verdict_held(const struct result *result);         /* things that are still held */

/* "Read (driver.c:12)" of a finding or call, or as much of that as is known. */
void verdict_place(const json_t *object, char *text, size_t bytes);

/* ---- report.c ---- */

json_t *report_setting(const struct cli_options *options, const struct result *result);
void    report_title(const char *driver, int code);             /* the exit code */
void    report_json(json_t *object);    /* on stdout; the object is used up */
void    report_print(const struct cli_options *options, const struct session *session);    /* on stdout: a table, or JSON if asked for */

/*
 * Files of reports. Their contents are an array with an object for each run: its name, verdict, outcome, clean, seconds, reports,
 * and what it printed; routine, function, file, line and made of the call that failed, where one did. `interrupted` says what was not
 * run; NULL: all was.
 */
bool report_files_can_be_written(const struct cli_options *options);        /* false: complained, as below */
bool report_files(const struct cli_options *options, const char *driver, const json_t *runs, const char *interrupted);

/* ---- sarif.c, junit.c: false when the file cannot be written; errno says why ---- */

bool sarif_write(const char *path, const char *driver_path, const json_t *runs, const char *interrupted);
bool junit_write(const char *path, const char *driver, const json_t *runs);

#endif
