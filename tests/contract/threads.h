/* SPDX-License-Identifier: MIT */
/* Threads of a test: start, join, pause. Include it after "support.h". */

#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

struct test_thread {
    pthread_t impl;
    void (*body)(void *context);
    void *context;
};

static inline void *test_thread_main(void *argument)
{
    struct test_thread *const thread = argument;

    thread->body(thread->context);
    return NULL;
}

/* The thread must be joined before `thread` goes. */
static inline void thread_start(struct test_thread *thread, void (*body)(void *context), void *context)
{
    thread->body = body;
    thread->context = context;
    EXPECT_EQ(pthread_create(&thread->impl, NULL, test_thread_main, thread), 0);
}

static inline void thread_join(struct test_thread *thread)
{
    EXPECT_EQ(pthread_join(thread->impl, NULL), 0);
}

/* Run a body once on each of n elements of an array, each on a thread of its own, and wait for all of them. */
static inline void run_on_threads(void (*body)(void *context), void *elements, SIZE_T element_bytes,
                                  unsigned n)
{
    struct test_thread threads[64];

    EXPECT(n <= 64);
    for (unsigned i = 0; i < n; i++)
        thread_start(&threads[i], body, (char *)elements + i * element_bytes);
    for (unsigned i = 0; i < n; i++)
        thread_join(&threads[i]);
}

static inline void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

static inline uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Wait until another thread sets the flag; a test that would wait for ever is ended by the harness. */
static inline void await_flag(_Atomic bool *flag)
{
    while (!atomic_load(flag))
        pause_ms(1);
}
