/* SPDX-License-Identifier: MIT */
/*
 * What is a whole run worth? `pinion run` of the example drivers with requests of 1 MiB, buffered, 32 under way, against fio with
 * io_uring, the same file, block size and depth; and against itself without the verifier.
 *
 * A sample is a run of its own: processor time of a request, or time of a request where the verifier is asked about. What a run
 * compares, it compares afterwards, in a pass that neither figure contains.
 */

#include "bench.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUESTS = 1500, FILE_BYTES = 256 << 20, MOST_TEXT = 2048 };

#define REQUEST_BYTES (1 << 20)

static char directory[MOST_TEXT / 4];   /* of the build */
static char data[] = "/tmp/pinion-bench-XXXXXX";

/* What a command prints, as JSON; NULL: it failed. */
__attribute__((format(printf, 1, 2))) static json_t *output_of(const char *format, ...)
{
    char command[MOST_TEXT];
    va_list arguments;
    FILE *output;
    json_t *json;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    output = popen(command, "r");
    if (output == NULL)
        return NULL;
    json = json_loadf(output, 0, NULL);
    if (pclose(output) == 0)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- ours ---- */

struct drive {
    const char *driver;
};

static json_t *drive(const void *context, const char *verifier, unsigned requests)
{
    return output_of("'%s/pinion' run '%s/examples/%s.so' --file %s --min-size 1M --max-size 1M --threads 1 --depth 32 --seed 1 "
                     "--check none --verifier %s --requests %u --json",
                     directory, directory, ((const struct drive *)context)->driver, data, verifier, requests);
}

static double take_real(json_t *json, const char *key, double scale)
{
    json_t *value = json_object_get(json, key);
    const double real = json_is_real(value) ? json_real_value(value) * scale : NAN;

    json_decref(json);
    return real;
}

static double cpu_ns_of_request(const void *context)
{
    return take_real(drive(context, "off", REQUESTS), "cpu_seconds_per_gigabyte", REQUEST_BYTES);
}

static double ns_of_request(const void *context, const char *verifier)
{
    return 1e9 / take_real(drive(context, verifier, REQUESTS), "requests_per_second", 1);
}

static double ns_verified(const void *context)
{
    return ns_of_request(context, "on");
}

static double ns_unverified(const void *context)
{
    return ns_of_request(context, "off");
}

/* All that was read was compared, and equal: otherwise the command fails. Some reads reach past the end of the file. */
static bool is_driven(const void *context)
{
    json_t *json = drive(context, "on", 64);
    const bool good = json_integer_value(json_object_get(json, "verified_bytes")) >= 32 * (json_int_t)REQUEST_BYTES;

    json_decref(json);
    return good;
}

/* ---- fio ---- */

static double cpu_ns_of_fio(const void *context)
{
    json_t *json = output_of("fio --name=read --ioengine=io_uring --filename=%s --readonly --rw=randread --norandommap --bs=1M --iodepth=32 "
                             "--invalidate=0 --number_ios=%d --size=%d --io_size=%lld --output-format=json",
                             data, REQUESTS, FILE_BYTES, (long long)REQUESTS * REQUEST_BYTES);
    json_t *job = json_array_get(json_object_get(json, "jobs"), 0);
    const double percent = json_number_value(json_object_get(job, "usr_cpu")) + json_number_value(json_object_get(job, "sys_cpu"));
    const double ms = json_number_value(json_object_get(job, "job_runtime"));
    const double requests = json_number_value(json_object_get(json_object_get(job, "read"), "total_ios"));

    (void)context;
    json_decref(json);
    return percent / 100 * ms * 1e6 / requests;
}

static bool has_fio(void)
{
    return system("command -v fio >/dev/null") == 0;
}

/* ---- the file ---- */

static bool make_file(void)
{
    const int fd = mkstemp(data);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

    for (uint64_t i = 0; file != NULL && i < FILE_BYTES / sizeof(i); i++)
        fwrite(&i, sizeof(i), 1, file);
    return file != NULL && fclose(file) == 0;
}

/* The command and the drivers stand in the folder above this program's. */
static bool find_build(void)
{
    const ssize_t length = readlink("/proc/self/exe", directory, sizeof(directory) - 1);

    for (int up = 0; up < 2 && length > 0; up++)
        if (strrchr(directory, '/') != NULL)
            *strrchr(directory, '/') = '\0';
    return length > 0;
}

int main(int argc, char **argv)
{
    static const struct drive splitter = {"splitter"}, busmaster = {"busmaster"};
    const struct bench_sampled cases[] = {
        {"17", "run: splitter, verifier on, time", "verifier off", 1 / 0.8, ns_verified, ns_unverified, is_driven, &splitter},
        {"17", "run: busmaster, verifier on, time", "verifier off", 1 / 0.8, ns_verified, ns_unverified, is_driven, &busmaster},
        {"9", "run: splitter, processor time", "fio io_uring", 1 / 0.95, cpu_ns_of_request, cpu_ns_of_fio, is_driven, &splitter},
        {"9", "run: busmaster, processor time", "fio io_uring", 1 / 0.95, cpu_ns_of_request, cpu_ns_of_fio, is_driven, &busmaster},
    };
    size_t ncases = sizeof(cases) / sizeof(cases[0]);
    int code;

    if (!find_build() || !make_file())
        abort();
    if (!has_fio()) {
        fprintf(stderr, "run: fio is not installed, so nothing is compared with it; please run: sudo apt-get install fio\n");
        ncases -= 2;
    }
    code = bench_run_sampled(argc, argv, cases, ncases);
    unlink(data);
    return code;
}
