/* SPDX-License-Identifier: MIT */
/*
 * One run, from the inside out: the requests, within a loaded driver, within a disk, within a process with buffers,
 * within a booted machine. Each function here makes one of these, calls the next, and takes down what it made.
 */

#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct run_order *order;
    const struct cli_options *options;
    struct host_file    file;           /* what the user named */
    struct host_scratch scratch;
    struct host_file    target;         /* what the disk is over: the file, or its scratch copy */
    const char         *target_path;
    struct driver       driver;
    PDEVICE_OBJECT      disk;
    struct load         load;
    struct result      *result;
};

static void send_result(const struct run *run)
{
    record_send(RECORD_RESULT, run->result, sizeof(*run->result));
}

/* ---- the requests ---- */

/* Measure. What was not compared on the way is compared then: the same requests are made again, or the file is read. */
static bool make_requests(struct run *run)
{
    const struct cli_options *options = run->options;
    struct load *load = &run->load;
    struct result *result = run->result;
    struct tally again = {0};
    uint64_t ns, cpu_ns = host_cpu_ns();
    bool made;

    load->checking = options->check;
    load->limit_ns = options->run_ns;
    made = load_run(load, &result->tally, &result->elapsed_ns);
    result->cpu_ns = host_cpu_ns() - cpu_ns;
    pinion_totals(&result->totals);
    if (!made || result->tally.lost > 0)
        return made;
    if (options->write)
        return check_written(load, options->in_place ? NULL : &run->file, &result->tally);
    if (options->check)
        return true;

    load_rewind(load);
    load->checking = true;
    load->limit_ns = 0;
    atomic_store(&load->stop, host_interrupted());
    made = load_run(load, &again, &ns);
    result->tally.verified_bytes = again.verified_bytes;
    result->tally.wrong_bytes = again.wrong_bytes;
    result->tally.guards_broken += again.guards_broken;
    result->tally.cut_short += again.cut_short;
    result->tally.lost = again.lost;
    return made;
}

/* A driver that lost requests cannot be taken down: it may still touch them, and so may the disk. */
static _Noreturn void give_up(struct run *run)
{
    cli_complain(0, "requests that did not come back: %llu. The driver holds their IRPs, or has forgotten them",
                 (unsigned long long)run->result->tally.lost);
    pinion_report_lost(run->load.device);
    run->result->injected = run->result->totals.injected_failures;
    send_result(run);
    record_leave(CLI_CLEAN);
}

/* From before the driver's first routine to after its last request; what the system does to take the driver down cannot fail. */
static void set_failures(const struct run *run, unsigned period)
{
    if (run->options->fail_period != 0)
        pinion_fail_every(run->options->fail_routine, period);
}

/* The driver would not. That is an end of the run, and its report tells of it. */
static int refuse(struct run *run, const char *who, NTSTATUS status)
{
    set_failures(run, 0);
    snprintf(run->result->refused_by, sizeof(run->result->refused_by), "%s", who);
    run->result->refused_with = status;
    return cli_complain(CLI_CLEAN, "%s refused: %s", who, cli_status(status));
}

static int with_open_device(struct run *run)
{
    const NTSTATUS status = pinion_open(run->disk, &run->load.device);
    bool made;

    if (!NT_SUCCESS(status))
        return refuse(run, "IRP_MJ_CREATE", status);
    made = make_requests(run);
    if (run->result->tally.lost > 0)
        give_up(run);
    set_failures(run, 0);
    pinion_close(run->load.device);
    return made ? CLI_CLEAN : CLI_USAGE;
}

/* ---- what they need ---- */

static int with_started_driver(struct run *run, PDRIVER_OBJECT object)
{
    const NTSTATUS status = pinion_driver_start(object, run->disk);
    int code;

    if (!NT_SUCCESS(status))
        return refuse(run, "AddDevice or IRP_MN_START_DEVICE", status);
    code = with_open_device(run);
    pinion_driver_remove(run->disk);
    return code;
}

static int with_driver(struct run *run)
{
    PDRIVER_OBJECT object;
    NTSTATUS status;
    int code;

    set_failures(run, run->options->fail_period);
    pinion_fail_calls(run->order->fail, run->order->nfail);
    status = pinion_driver_load(run->result->driver_name, run->driver.entry, &object);
    if (!NT_SUCCESS(status))
        return refuse(run, "DriverEntry", status);
    code = with_started_driver(run, object);
    pinion_driver_unload(object);
    return code;
}

static int with_disk(struct run *run)
{
    const unsigned flags = (run->options->write ? PINION_DISK_WRITABLE : 0u) |
                           (run->options->lower_partial ? PINION_DISK_PARTIAL : 0u) |
                           (run->options->device_32_bit ? PINION_DISK_32_BIT : 0u);
    const int error = pinion_disk_create(run->target_path, flags, &run->disk);
    int code;

    if (error != 0)
        return cli_complain(CLI_USAGE, "%s cannot be opened: %s", run->options->file_path, strerror(-error));
    snprintf(run->result->engine, sizeof(run->result->engine), "%s", pinion_disk_engine(run->disk));
    send_result(run);
    code = with_driver(run);
    pinion_disk_delete(run->disk);
    return code;
}

/* The process ends with its buffers, unless the driver left some locked: that is reported, not made a bug check of. */
static int with_process(struct run *run)
{
    struct load *load = &run->load;
    struct pinion_totals totals;
    int code = CLI_USAGE;

    load->options = run->options;
    load->file = &run->target;
    load->process = pinion_process_create("pinion");
    if (load->process == NULL)
        return cli_complain(CLI_USAGE, "there is no memory for a process: use a larger --ram");
    pinion_process_attach(load->process);
    if (load_create(load))
        code = with_disk(run);
    pinion_process_attach(NULL);
    pinion_counters(&run->result->held);
    pinion_totals(&totals);
    run->result->injected = totals.injected_failures;
    if (run->result->held.locked_pages == 0)
        pinion_process_exit(load->process);
    load_destroy(load);
    return code;
}

/* Options of the environment stand, unless the command line says otherwise. */
static void compose_boot_options(const struct cli_options *options, char *text, size_t bytes)
{
    const char *environment = getenv("PINION_OPTIONS");
    const bool seeded = environment != NULL && strstr(environment, "seed=") != NULL;
    const bool disk_given = environment != NULL && strstr(environment, "disk=") != NULL;
    int used = 0;

    text[0] = '\0';
    if (options->verifier != NULL)
        used += snprintf(text + used, bytes - (size_t)used, ":verifier=%s", options->verifier);
    if (options->ram != NULL)
        used += snprintf(text + used, bytes - (size_t)used, ":ram=%s", options->ram);
    if (options->faults != FAULTS_NONE && !disk_given)
        used += snprintf(text + used, bytes - (size_t)used, ":disk=turns");
    if (options->seed_given || !seeded)
        snprintf(text + used, bytes - (size_t)used, ":seed=%llu", (unsigned long long)options->seed);
}

/* The module stays until the machine is down: reports name its functions. */
static int with_loaded_module(struct run *run)
{
    int code = CLI_USAGE;

    send_result(run);                   /* loading may end the process */
    record_send(RECORD_LOADING, NULL, 0);
    if (driver_open(&run->driver, run->options->driver_path)) {
        snprintf(run->result->driver_module, sizeof(run->result->driver_module), "%s", run->driver.path);
        code = with_process(run);
    }
    pinion_shutdown();
    run->result->taken_down = true;
    return code;
}

static int with_machine(struct run *run)
{
    char boot_options[160];
    int error, code;

    compose_boot_options(run->options, boot_options, sizeof(boot_options));
    error = pinion_boot(boot_options);
    if (error == -EINVAL)
        return CLI_USAGE;
    if (error != 0)
        return cli_complain(CLI_USAGE, "the machine cannot boot: %s; try a smaller --ram", strerror(-error));

    set_failures(run, 0);               /* a routine that cannot fail is refused here, before anything else has been done */
    code = with_loaded_module(run);
    if (run->driver.module != NULL)
        driver_close(&run->driver);
    return code;
}

/* ---- files ---- */

static bool make_scratch_in(struct run *run, const char *directory, int *error)
{
    *error = host_scratch_create(&run->scratch, &run->file, directory);
    return *error == 0 || *error == -EINTR;
}

/* In TMPDIR if that is set; beside the file, or else in /tmp, if not. */
static bool make_scratch(struct run *run)
{
    const char *path = run->options->file_path, *slash = strrchr(path, '/');
    const char *given = getenv("TMPDIR");
    char beside[4096];
    int error;

    snprintf(beside, sizeof(beside), "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1, slash == NULL ? "." : path);
    if (!make_scratch_in(run, given == NULL ? beside : given, &error) && given == NULL)
        make_scratch_in(run, "/tmp", &error);
    if (error == -EINTR)
        return cli_complain(false, "interrupted while the scratch copy was made: nothing was run");
    if (error != 0)
        return cli_complain(false, "no scratch copy of %s can be made: %s; let TMPDIR name a directory with room for "
                            "%llu bytes", path, strerror(-error), (unsigned long long)run->file.bytes);
    run->target_path = run->scratch.path;
    return true;
}

static int with_target(struct run *run)
{
    const int error = host_file_open(&run->target, run->target_path, false);
    int code;

    if (error != 0)
        return cli_complain(CLI_USAGE, "%s cannot be opened: %s", run->options->file_path, strerror(-error));
    code = with_machine(run);
    host_file_close(&run->target);
    return code;
}

static int with_scratch(struct run *run)
{
    int code;

    run->target_path = run->options->file_path;
    if (!run->options->write || run->options->in_place)
        return with_target(run);
    if (!make_scratch(run))
        return host_interrupted() ? CLI_INTERRUPTED : CLI_USAGE;
    code = with_target(run);
    host_scratch_destroy(&run->scratch);
    return code;
}

static int with_file(struct run *run)
{
    const struct cli_options *options = run->options;
    const int error = host_file_open(&run->file, options->file_path, options->in_place);
    int code;

    if (error != 0)
        return cli_complain(CLI_USAGE, "%s cannot be opened%s: %s", options->file_path,
                            options->in_place ? " for writing" : "", strerror(-error));
    run->result->file_bytes = run->file.bytes;
    if (run->file.bytes < (options->write ? SECTOR_BYTES : 1))
        code = cli_complain(CLI_USAGE, "%s is too small: it must hold at least %d byte%s", options->file_path,
                            options->write ? SECTOR_BYTES : 1, options->write ? "s" : "");
    else
        code = with_scratch(run);
    host_file_close(&run->file);
    return code;
}

int run_perform(const struct run_order *order, struct result *result)
{
    struct run run = {.order = order, .options = order->options, .result = result};
    int code;

    *result = (struct result){0};
    driver_name(order->options->driver_path, result->driver_name, sizeof(result->driver_name));
    if (!driver_exists(order->options->driver_path))
        return CLI_USAGE;
    code = with_file(&run);
    result->interrupted = host_interrupted();
    send_result(&run);
    return code;
}
