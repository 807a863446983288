/* SPDX-License-Identifier: MIT */
/*
 * The machine's life: off -> booting -> running -> off. One boot at a time; whoever needs the machine meanwhile waits.
 *
 * A forked child shares the parent's RAM file and none of its threads, so its copy of a running machine is dead: the
 * first routine that needs it says so and ends the child. A child of a process that never booted boots as usual.
 */

#include "ke/state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct machine ke_the_machine;
_Atomic uint32_t ke_plain_generation;

static struct host_mutex boot_lock = {PTHREAD_MUTEX_INITIALIZER};

/* This thread is booting or ending the machine: routines that the floors call meanwhile find it as it is. */
static _Thread_local bool at_work;

_Noreturn void ke_broken(const char *condition, const char *file, int line)
{
    fprintf(stderr, "pinion: internal error: expected %s (%s:%d); please report this\n", condition, file, line);
    abort();
}

_Noreturn void ke_usage(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    fprintf(stderr, "pinion: %s\n", text);
    exit(2);
}

static enum ke_machine_state get_state(void)
{
    return (enum ke_machine_state)atomic_load_explicit(&ke_the_machine.state, memory_order_acquire);
}

void ke_settle_plain(void)
{
    const bool plain = get_state() == KE_MACHINE_RUNNING && ke_the_machine.options.verifier == 0 && atomic_load(&ke_failures_armed) == 0;

    atomic_store_explicit(&ke_plain_generation, plain ? ke_the_machine.generation : 0, memory_order_release);
}

static void set_state(enum ke_machine_state state)
{
    atomic_store_explicit(&ke_the_machine.state, state, memory_order_release);
    ke_settle_plain();
}

static void mark_forked(void)
{
    if (get_state() != KE_MACHINE_OFF)
        set_state(KE_MACHINE_FORKED);
}

static _Noreturn void end_forked_child(void)
{
    fputs("pinion: this is a forked child of a process whose machine is running; fork before the first Windows routine "
          "or pinion_boot, or use a new process\n", stderr);
    _Exit(2);
}

/* ---- floors ---- */

static size_t count_floors(void)
{
    size_t n = 0;

    while (ke_floors[n] != NULL)
        n++;
    return n;
}

static void shut_down_floors(size_t n)
{
    while (n-- > 0)
        if (ke_floors[n]->shutdown != NULL)
            ke_floors[n]->shutdown(&ke_the_machine);
}

static int boot_floors(void)
{
    for (size_t i = 0; ke_floors[i] != NULL; i++) {
        const int error = ke_floors[i]->boot == NULL ? 0 : ke_floors[i]->boot(&ke_the_machine);

        if (error != 0) {
            shut_down_floors(i);
            return error;
        }
    }
    return 0;
}

static void leave_thread(void)
{
    if (get_state() == KE_MACHINE_RUNNING)
        for (size_t i = count_floors(); i-- > 0;)
            if (ke_floors[i]->thread_exit != NULL)
                ke_floors[i]->thread_exit(&ke_the_machine);
    ke_thread_leave_list();
}

static void prepare_process(void)
{
    host_thread_at_exit(leave_thread);
    host_at_fork(mark_forked);
}

void ke_prepare_process(void)
{
    static struct host_once once = HOST_ONCE;

    host_call_once(&once, prepare_process);
}

/* ---- boot and shutdown ---- */

static int boot_locked(const struct ke_options *options)
{
    const uint32_t generation = ke_the_machine.generation + 1;
    int error;

    ke_prepare_process();
    memset(&ke_the_machine, 0, sizeof(ke_the_machine));
    set_state(KE_MACHINE_BOOTING);
    ke_the_machine.generation = generation;
    ke_the_machine.options = *options;
    ke_counters_reset();
    ke_failures_boot(options);
    error = boot_floors();
    set_state(error == 0 ? KE_MACHINE_RUNNING : KE_MACHINE_OFF);
    return error;
}

/* The environment's options apply first, the program's own override them. */
static bool read_options(struct ke_options *options, const char *text, const char **source, char *why, size_t why_bytes)
{
    const char *environment = getenv("PINION_OPTIONS");

    ke_options_default(options);
    *source = "PINION_OPTIONS";
    if (environment != NULL && !ke_options_parse(options, environment, why, why_bytes))
        return false;
    *source = "pinion_boot";
    return text == NULL || ke_options_parse(options, text, why, why_bytes);
}

int pinion_boot(const char *text)
{
    struct ke_options options;
    const char *source;
    char why[256];
    int error = -EALREADY;

    if (get_state() == KE_MACHINE_FORKED)
        end_forked_child();
    if (!read_options(&options, text, &source, why, sizeof(why))) {
        fprintf(stderr, "pinion: %s: %s\n", source, why);
        return -EINVAL;
    }
    host_mutex_lock(&boot_lock);
    at_work = true;
    if (get_state() == KE_MACHINE_OFF)
        error = boot_locked(&options);
    at_work = false;
    host_mutex_unlock(&boot_lock);
    return error;
}

void ke_boot_now(void)
{
    const int error = at_work ? 0 : pinion_boot(NULL);

    if (error == -EINVAL)
        exit(2);
    if (error != 0 && error != -EALREADY)
        ke_usage("the machine cannot boot: %s; try a smaller ram= in PINION_OPTIONS", strerror(-error));
}

/* Reading the symbols takes much longer than any report: once for all that is left. */
static void check_floors(void)
{
    host_symbols_begin();
    for (size_t i = count_floors(); i-- > 0;)
        if (ke_floors[i]->check != NULL)
            ke_floors[i]->check(&ke_the_machine);
    host_symbols_end();
}

unsigned pinion_shutdown(void)
{
    unsigned findings = 0;

    if (get_state() == KE_MACHINE_FORKED)
        end_forked_child();
    host_mutex_lock(&boot_lock);
    at_work = true;
    if (get_state() == KE_MACHINE_RUNNING) {
        ke_drain_workers();
        check_floors();
        findings = (unsigned)atomic_load(&ke_the_machine.findings);
        set_state(KE_MACHINE_BOOTING);
        shut_down_floors(count_floors());
        set_state(KE_MACHINE_OFF);
    }
    at_work = false;
    host_mutex_unlock(&boot_lock);
    return findings;
}
