/* SPDX-License-Identifier: MIT */
/* Threads, locks and time, on pthreads. Host calls that cannot fail with the arguments given here are asserted. */

#include "host/host.h"

#include <assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_SECOND = 1000000000, LOOK_EVERY_NS = 1000000 };

/* Seconds between 1601-01-01, where Windows begins to count, and 1970-01-01. */
#define SECONDS_1601_TO_1970 11644473600ull

static void must(int error)
{
    if (error != 0)
        abort();
}

void host_mutex_init(struct host_mutex *mutex)
{
    must(pthread_mutex_init(&mutex->impl, NULL));
}

void host_mutex_destroy(struct host_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->impl));
}

void host_mutex_lock(struct host_mutex *mutex)
{
    must(pthread_mutex_lock(&mutex->impl));
}

bool host_mutex_try_lock(struct host_mutex *mutex)
{
    return pthread_mutex_trylock(&mutex->impl) == 0;
}

/* By looking again and again: of all ways to wait, ThreadSanitizer understands this one. */
bool host_mutex_lock_within(struct host_mutex *mutex, int64_t timeout_ns)
{
    const uint64_t end = host_now_ns() + (uint64_t)timeout_ns;

    while (!host_mutex_try_lock(mutex)) {
        if (host_now_ns() >= end)
            return false;
        host_sleep_ns(LOOK_EVERY_NS);
    }
    return true;
}

void host_mutex_unlock(struct host_mutex *mutex)
{
    must(pthread_mutex_unlock(&mutex->impl));
}

/* ---- barriers ---- */

#if defined(__SANITIZE_THREAD__)
enum { BARRIERS_CAN_BE_FORCED = false };
#else
enum { BARRIERS_CAN_BE_FORCED = true };
#endif

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

int host_barrier_prepare(void)
{
    if (!BARRIERS_CAN_BE_FORCED)
        return -ENOSYS;
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 ? 0 : -errno;
}

void host_barrier_all(void)
{
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
        abort();
}

/* ---- gates ---- */

void host_gate_init(struct host_gate *gate)
{
    pthread_condattr_t monotonic;

    must(pthread_condattr_init(&monotonic));
    must(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC));
    must(pthread_cond_init(&gate->changed, &monotonic));
    must(pthread_condattr_destroy(&monotonic));
    must(pthread_mutex_init(&gate->lock, NULL));
    gate->open = false;
}

void host_gate_destroy(struct host_gate *gate)
{
    must(pthread_cond_destroy(&gate->changed));
    must(pthread_mutex_destroy(&gate->lock));
}

/* The signal is sent with the lock held: the waiter may free the gate as soon as it can take the lock. */
void host_gate_open(struct host_gate *gate)
{
    must(pthread_mutex_lock(&gate->lock));
    gate->open = true;
    must(pthread_cond_signal(&gate->changed));
    must(pthread_mutex_unlock(&gate->lock));
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_SECOND), .tv_nsec = (long)(ns % NS_PER_SECOND)};
}

bool host_gate_wait(struct host_gate *gate, int64_t timeout_ns)
{
    struct timespec deadline = {0};
    bool opened;

    if (timeout_ns >= 0)
        deadline = timespec_of(host_now_ns() + (uint64_t)timeout_ns);
    must(pthread_mutex_lock(&gate->lock));
    while (!gate->open) {
        if (timeout_ns < 0)
            must(pthread_cond_wait(&gate->changed, &gate->lock));
        else if (pthread_cond_timedwait(&gate->changed, &gate->lock, &deadline) == ETIMEDOUT)
            break;
    }
    opened = gate->open;
    gate->open = false;
    must(pthread_mutex_unlock(&gate->lock));
    return opened;
}

/* ---- threads ---- */

void host_call_once(struct host_once *once, void (*routine)(void))
{
    must(pthread_once(&once->impl, routine));
}

struct start {
    void (*body)(void *context);
    void  *context;
};

static void *thread_main(void *argument)
{
    const struct start start = *(struct start *)argument;

    free(argument);
    start.body(start.context);
    return NULL;
}

int host_thread_start(struct host_thread *thread, void (*body)(void *context), void *context)
{
    struct start *start = malloc(sizeof(*start));
    int error;

    if (start == NULL)
        return -ENOMEM;
    *start = (struct start){body, context};
    error = pthread_create(&thread->impl, NULL, thread_main, start);
    if (error != 0)
        free(start);
    return -error;
}

void host_thread_join(struct host_thread *thread)
{
    must(pthread_join(thread->impl, NULL));
}

void host_thread_yield(void)
{
    sched_yield();
}

static pthread_key_t exit_key;
static void (*exit_hook)(void);

static void run_exit_hook(void *unused)
{
    (void)unused;
    exit_hook();
}

static void create_exit_key(void)
{
    must(pthread_key_create(&exit_key, run_exit_hook));
}

void host_thread_at_exit(void (*hook)(void))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    exit_hook = hook;
    must(pthread_once(&once, create_exit_key));
}

/* pthreads runs a key's destructor only in threads that gave the key a value. */
void host_thread_watch(void)
{
    must(pthread_setspecific(exit_key, &exit_key));
}

void host_at_fork(void (*in_child)(void))
{
    must(pthread_atfork(NULL, NULL, in_child));
}

static _Thread_local uintptr_t stack_low, stack_high;

static void find_stack(void)
{
    pthread_attr_t attributes;
    void *base;
    size_t bytes;

    must(pthread_getattr_np(pthread_self(), &attributes));
    must(pthread_attr_getstack(&attributes, &base, &bytes));
    must(pthread_attr_destroy(&attributes));
    stack_low = (uintptr_t)base;
    stack_high = (uintptr_t)base + bytes;
}

/* Asked for once: for the first thread of a process, the C library reads all its mappings. */
void host_stack_bounds(uintptr_t *low, uintptr_t *high)
{
    if (stack_high == 0)
        find_stack();
    *low = stack_low;
    *high = stack_high;
}

unsigned host_cpus(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (unsigned)n : 1;
}

/* ---- time ---- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    must(clock_gettime(clock, &now));
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t host_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t host_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t host_wall_100ns(void)
{
    return clock_ns(CLOCK_REALTIME) / 100 + SECONDS_1601_TO_1970 * 10000000ull;
}

void host_sleep_ns(int64_t ns)
{
    struct timespec left = timespec_of((uint64_t)ns);

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}
