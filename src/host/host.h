/* SPDX-License-Identifier: MIT */
/*
 * The host: everything Pinion asks of Linux, and the only folder that may ask it.
 *
 * Rules that hold for every function here:
 *  - the result is 0 or -errno, unless the function cannot fail and returns nothing or a value;
 *  - addresses and sizes of memory functions are multiples of the page size (4096);
 *  - no function knows what a PFN, an MDL or an IRP is.
 */
#ifndef PINION_HOST_H
#define PINION_HOST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { HOST_PAGE_SIZE = 4096 };

/* What an access does, or what a mapping permits. */
enum host_access { HOST_NONE = 0, HOST_READ = 1, HOST_WRITE = 2, HOST_EXEC = 4 };

/* ---- memory.c: address space and the file that is RAM ---- */

/* The memory file behind the machine's RAM. Sparse: an untouched page costs nothing and reads as zero. */
struct host_ram {
    int    fd;
    size_t bytes;
};

int  host_ram_create(struct host_ram *ram, size_t bytes);
void host_ram_destroy(struct host_ram *ram);
int  host_ram_discard(const struct host_ram *ram, size_t off, size_t bytes);   /* the range reads as zero again */

int  host_reserve(size_t bytes, void **base);           /* address space that faults on every access */
int  host_table(size_t bytes, void **base);             /* zeroed memory for a sparse table; release with host_release */
void host_table_clear(void *base, size_t bytes);        /* a table, or a part of it, reads as zero again */
void host_release(void *base, size_t bytes);            /* undoes either */

int  host_map(const struct host_ram *ram, size_t off, void *at, size_t bytes, unsigned access);
int  host_revoke(void *at, size_t bytes);               /* a mapped range becomes reserved again */
int  host_protect(void *at, size_t bytes, unsigned access);
int  host_fence(void *at, size_t bytes, bool shut);     /* host_protect for the verifier's own ends, which host_calls leaves out */

/* Under AddressSanitizer, have an access to these bytes reported; host_revoke ends that. Else nothing. */
void host_poison(const void *at, size_t bytes);
void host_unpoison(const void *at, size_t bytes);

uint64_t host_calls(void);                              /* system calls that memory.c has made since the process began, fences apart */

/*
 * ---- ThreadSanitizer, which may watch a program though this library was not compiled for it ----
 *
 * It knows the locks of this folder by itself, but not what is handed over without one. Whatever came before host_hands_over is before
 * whatever comes after host_takes_over of the same address.
 */

extern void __tsan_release(void *at) __attribute__((weak));
extern void __tsan_acquire(void *at) __attribute__((weak));

static inline void host_hands_over(volatile void *at)
{
    if (__tsan_release != NULL)
        __tsan_release((void *)(uintptr_t)at);
}

static inline void host_takes_over(volatile void *at)
{
    if (__tsan_acquire != NULL)
        __tsan_acquire((void *)(uintptr_t)at);
}

/* ---- fault.c: bad accesses and instructions ---- */

enum host_fault_kind { HOST_FAULT_ACCESS, HOST_FAULT_DIVIDE, HOST_FAULT_OVERFLOW, HOST_FAULT_ILLEGAL, HOST_FAULT_BREAKPOINT };

struct host_fault {
    enum host_fault_kind kind;  /* of any but an access only `ip` and `frame` are known */
    uintptr_t va;               /* the address touched */
    uintptr_t ip;               /* the instruction that did it */
    uintptr_t frame;            /* its frame pointer, where a stack walk starts */
    unsigned  access;           /* HOST_READ, HOST_WRITE or HOST_EXEC */
};

enum host_fault_verdict {
    HOST_FAULT_RETRY,           /* the cause is removed: run the instruction again */
    HOST_FAULT_CHAIN,           /* not ours: hand it to the handler that was there before */
};

/* Called on the faulting thread's own stack; may also leave by siglongjmp. */
typedef enum host_fault_verdict host_fault_fn(const struct host_fault *fault);

int  host_faults_install(host_fault_fn *handler);
void host_faults_remove(void);

/*
 * Touch bytes that may fault, in a function that no sanitizer instruments: the first of the range and the first of each further page,
 * by a load or by a locked OR of 0. A range of no bytes is the caller's mistake.
 */
void host_probe_read(const volatile void *va, size_t bytes);
void host_probe_write(volatile void *va, size_t bytes);

/* Can a byte there be read? Asks the kernel, so that no fault arises whatever the answer. */
bool host_is_readable(const void *va);

/* End the process by SIGABRT after so many seconds, whatever it then does. */
void host_abort_after(unsigned seconds);

/* ---- thread.c: threads, locks, time ---- */

struct host_mutex {
    pthread_mutex_t impl;
};

void host_mutex_init(struct host_mutex *mutex);
void host_mutex_destroy(struct host_mutex *mutex);
void host_mutex_lock(struct host_mutex *mutex);
bool host_mutex_try_lock(struct host_mutex *mutex);
bool host_mutex_lock_within(struct host_mutex *mutex, int64_t timeout_ns);      /* false: somebody held it all that time, perhaps this thread */
void host_mutex_unlock(struct host_mutex *mutex);

/* A gate that one thread waits at and any thread opens; it shuts again behind the waiter. */
struct host_gate {
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    bool            open;
};

enum { HOST_FOREVER = -1 };

void host_gate_init(struct host_gate *gate);
void host_gate_destroy(struct host_gate *gate);
void host_gate_open(struct host_gate *gate);
bool host_gate_wait(struct host_gate *gate, int64_t timeout_ns);    /* false: the time ran out first */

struct host_once {
    pthread_once_t impl;
};
#define HOST_ONCE {PTHREAD_ONCE_INIT}

void host_call_once(struct host_once *once, void (*routine)(void));

struct host_thread {
    pthread_t impl;
};

int  host_thread_start(struct host_thread *thread, void (*body)(void *context), void *context);
void host_thread_join(struct host_thread *thread);
void host_thread_yield(void);

/*
 * A full memory barrier on every thread of this process, between this call and its return: the costly half of an order whose other
 * half, on the threads that run often, costs nothing. -errno: Linux does not have it, or ThreadSanitizer could not follow it.
 */
int  host_barrier_prepare(void);
void host_barrier_all(void);

void host_thread_at_exit(void (*hook)(void));           /* hook runs on each thread that called host_thread_watch, as it ends */
void host_thread_watch(void);
void host_at_fork(void (*in_child)(void));
void host_stack_bounds(uintptr_t *low, uintptr_t *high);    /* of the calling thread */
unsigned host_cpus(void);

void     host_sleep_ns(int64_t ns);
uint64_t host_now_ns(void);                             /* monotonic */
uint64_t host_cpu_ns(void);                             /* processor time of the whole process */
uint64_t host_wall_100ns(void);                         /* since 1601-01-01, as Windows counts */

/* ---- stack.c: call stacks ---- */

/* Return addresses from the frame pointer `frame` outwards, first `ip` itself; how many were stored. */
size_t host_stack_walk(uintptr_t ip, uintptr_t frame, uintptr_t *pcs, size_t max);

/*
 * The calling thread's stack as the library's caller sees it: without the innermost frames, which are the library's own. Inside the
 * handler of a fault it begins with the instruction that faulted.
 */
size_t host_stack_of_caller(uintptr_t *pcs, size_t max);

/*
 * The frame of a thread's stack that a variable stands in: where the return address of its routine is kept, and what that is. It
 * does not change as long as the routine has not returned, and any thread may look. Where that address cannot be found, `link` is
 * the variable itself, and `returns_to` is 0. All zero: none.
 */
struct host_frame {
    uintptr_t link, returns_to;
};

/* Of a variable on the calling thread's stack. */
struct host_frame host_frame_of(const void *variable);

/*
 * True: the routine has returned, or its thread jumped out of it. False, too, where nothing tells that. `sp`: a stack whose thread
 * uses nothing below; 0: not known. The thread must not have ended.
 */
bool host_frame_is_left(const struct host_frame *frame, uintptr_t sp);

/* A thread's registers at a fault, those that calls go by. Numbered as DWARF numbers them. */
enum { HOST_REGISTERS = 32 };

struct host_registers {
    uintptr_t pc, sp, frame;
    uint64_t  numbered[HOST_REGISTERS];
    unsigned  nnumbered;
};

/* Those of the fault that this thread is handling; of its latest one, where none is being handled. */
const struct host_registers *host_fault_registers(void);

/*
 * How many frames in front are the library's, and the C library's that it called; 0 where there are no others, and where the library is
 * linked into the program.
 */
size_t host_stack_own_frames(const uintptr_t *pcs, size_t n);
void   host_stack_boot(void);           /* before it is asked */

/* What is known of a return address. NULL and 0: nothing. The texts last until the host_symbols_end of whoever asks. */
struct host_place {
    const char *function, *file;
    unsigned    line;
    const char *module;         /* path of the program or shared object */
    uint64_t    offset;         /* from where the module begins: the same in every process */
};
void host_place_of(uintptr_t pc, struct host_place *place);

/* The module alone, which takes no debug information; false: none. */
bool host_module_of(uintptr_t pc, struct host_place *place);

/* "function (file:line)" for an address, or "module+0x1234" where nothing better is known. */
void host_symbol(uintptr_t pc, char *text, size_t bytes);

/* The calling thread names many: what it takes to find names is read once between these two, which nest. */
void host_symbols_begin(void);
void host_symbols_end(void);

/* ---- file.c: the file or block device behind a disk ---- */

struct host_file {
    int      fd;
    uint64_t bytes;
    bool     writable;
};

int  host_file_open(struct host_file *file, const char *path, bool writable);
void host_file_close(struct host_file *file);
int  host_file_read(const struct host_file *file, uint64_t off, void *buffer, size_t bytes);      /* all of it */

/* ---- debugger.c: for printers that a debugger calls; none takes memory or a lock ---- */

/* Copy bytes that may not be there: false, and no fault, where they cannot be read. */
bool host_peek(const void *va, void *to, size_t bytes);

/* Does a debugger hold this process, or something else that uses ptrace? */
bool host_is_traced(void);

/* To file descriptor 2, past the C library, whose lock another thread may hold. */
void host_write_error(const char *text, size_t bytes);

/* ---- aio.c: reads and writes in flight ---- */

/*
 * One scattered read or write. The caller keeps the request and its segments, which are used up meanwhile, until
 * `done` runs; `result` is then the number of bytes moved (fewer than asked only at the end of the file), or -errno.
 */
struct host_io {
    bool          write;
    uint64_t      off;
    struct iovec *segments;
    unsigned      nsegments;            /* any number: aio.c splits at the kernel's limit of 1024 */
    void        (*done)(struct host_io *io);
    int64_t       result;
    struct host_io *next;               /* aio.c's */
    uint64_t      moved;                /* aio.c's: bytes of earlier parts */
    unsigned      first;                /* aio.c's: first segment not yet moved */
};

struct host_aio;

enum host_aio_kind {
    HOST_AIO_URING,             /* threads where that is refused */
    HOST_AIO_THREADS,
    HOST_AIO_INLINE,            /* `done` runs before host_aio_submit returns */
};

int         host_aio_create(struct host_aio **aio, const struct host_file *file, enum host_aio_kind kind);
void        host_aio_destroy(struct host_aio *aio);     /* waits for what is in flight */
void        host_aio_submit(struct host_aio *aio, struct host_io *io);
const char *host_aio_engine(const struct host_aio *aio);            /* "io_uring", "threads" or "inline" */

#endif
