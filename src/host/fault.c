/* SPDX-License-Identifier: MIT */
/*
 * Bad accesses and instructions: one handler that describes what a SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP means and asks its
 * owner what to do.
 *
 * The handler runs on the faulting thread's own stack with these signals unblocked, by SA_NODEFER and an empty mask: its owner may leave
 * it by siglongjmp to a point that saved no signal mask, and a fault inside it is a fault like any other. ThreadSanitizer blocks
 * signals around handlers all the same, so under it they are unblocked by hand, for a system call each time.
 */

#include "host/divide_impl.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static host_fault_fn *owner;
static _Thread_local struct host_registers fault_registers;

static struct {
    const int        signal;
    struct sigaction before;
} handled[] = {{.signal = SIGSEGV}, {.signal = SIGBUS}, {.signal = SIGFPE}, {.signal = SIGILL}, {.signal = SIGTRAP}};

enum { NHANDLED = sizeof(handled) / sizeof(handled[0]) };

#if defined(__SANITIZE_THREAD__)
#define BLOCKS_AROUND_HANDLERS 1
#elif defined(__has_feature)
#define BLOCKS_AROUND_HANDLERS __has_feature(thread_sanitizer)
#else
#define BLOCKS_AROUND_HANDLERS 0
#endif

static void unblock_faults(void)
{
    sigset_t faults;

    sigemptyset(&faults);
    for (unsigned i = 0; i < NHANDLED; i++)
        sigaddset(&faults, handled[i].signal);
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

#if defined(__x86_64__)

enum { ERROR_WRITE = 1 << 1, ERROR_FETCH = 1 << 4 };       /* bits of the page-fault error code */
enum { BREAKPOINT_BYTES = 1 };      /* the instruction pointer is behind INT3 by then */

static void describe(struct host_fault *fault, const siginfo_t *info, const ucontext_t *context)
{
    const greg_t error = context->uc_mcontext.gregs[REG_ERR];

    fault->va = (uintptr_t)info->si_addr;
    fault->ip = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    fault->frame = (uintptr_t)context->uc_mcontext.gregs[REG_RBP];
    fault->access = error & ERROR_FETCH ? HOST_EXEC : error & ERROR_WRITE ? HOST_WRITE : HOST_READ;
}

static void read_registers(struct host_registers *registers, const ucontext_t *context)
{
    static const int numbered[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
                                   REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
    const greg_t *all = context->uc_mcontext.gregs;

    registers->pc = (uintptr_t)all[REG_RIP];
    registers->sp = (uintptr_t)all[REG_RSP];
    registers->frame = (uintptr_t)all[REG_RBP];
    registers->nnumbered = sizeof(numbered) / sizeof(numbered[0]);
    for (unsigned i = 0; i < registers->nnumbered; i++)
        registers->numbered[i] = (uint64_t)all[numbered[i]];
}

#elif defined(__aarch64__)

enum { BREAKPOINT_BYTES = 0 };      /* the program counter stays at BRK */

/* What ESR_EL1 said of the fault: its class in the top bits, and of an abort on data whether it was a store. */
enum { CLASS_SHIFT = 26, CLASS_FETCH = 0x20, SYNDROME_WRITE = 1 << 6 };

/* The kernel keeps it among records of several kinds behind the registers. */
static uint64_t syndrome_of(const ucontext_t *context)
{
    const unsigned char *at = context->uc_mcontext.__reserved;
    struct _aarch64_ctx head;
    struct esr_context syndrome;

    for (memcpy(&head, at, sizeof(head)); head.magic != 0 && head.magic != ESR_MAGIC; memcpy(&head, at, sizeof(head)))
        at += head.size;
    if (head.magic == 0)
        return 0;
    memcpy(&syndrome, at, sizeof(syndrome));
    return syndrome.esr;
}

static void describe(struct host_fault *fault, const siginfo_t *info, const ucontext_t *context)
{
    const uint64_t syndrome = syndrome_of(context);

    fault->va = (uintptr_t)info->si_addr;
    fault->ip = (uintptr_t)context->uc_mcontext.pc;
    fault->frame = (uintptr_t)context->uc_mcontext.regs[29];
    fault->access = syndrome >> CLASS_SHIFT == CLASS_FETCH ? HOST_EXEC : syndrome & SYNDROME_WRITE ? HOST_WRITE : HOST_READ;
}

/* x0 to x30, then the stack pointer. */
static void read_registers(struct host_registers *registers, const ucontext_t *context)
{
    registers->pc = (uintptr_t)context->uc_mcontext.pc;
    registers->sp = (uintptr_t)context->uc_mcontext.sp;
    registers->frame = (uintptr_t)context->uc_mcontext.regs[29];
    registers->nnumbered = HOST_REGISTERS;
    for (unsigned i = 0; i < HOST_REGISTERS - 1; i++)
        registers->numbered[i] = context->uc_mcontext.regs[i];
    registers->numbered[HOST_REGISTERS - 1] = context->uc_mcontext.sp;
}

#else
#error "fault.c: describe() is needed for this processor"
#endif

/* False: what floating point and debuggers do, and other processes, is not ours. */
static bool classify(struct host_fault *fault, int signal, const siginfo_t *info)
{
    switch (signal) {
    case SIGFPE:
        if (info->si_code != FPE_INTDIV)
            return false;
        fault->kind = host_divides_by_zero(&fault_registers) ? HOST_FAULT_DIVIDE : HOST_FAULT_OVERFLOW;
        return true;
    case SIGTRAP:
        fault->kind = HOST_FAULT_BREAKPOINT;
        fault->ip -= BREAKPOINT_BYTES;
        return info->si_code == TRAP_BRKPT || info->si_code == SI_KERNEL;       /* the latter is what Linux says of INT3 */
    default:
        fault->kind = signal == SIGILL ? HOST_FAULT_ILLEGAL : HOST_FAULT_ACCESS;
        return info->si_code > 0;
    }
}

static const struct sigaction *before(int signal)
{
    unsigned i = 0;

    while (handled[i].signal != signal)
        i++;
    return &handled[i].before;
}

/* The instruction runs again, with the default disposition; a trap is past it already. */
static void end_by(int signal)
{
    sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    if (signal == SIGTRAP)
        raise(signal);
}

static void chain(int signal, siginfo_t *info, void *context)
{
    const struct sigaction *next = before(signal);

    if (next->sa_flags & SA_SIGINFO)
        next->sa_sigaction(signal, info, context);
    else if (next->sa_handler != SIG_DFL && next->sa_handler != SIG_IGN)
        next->sa_handler(signal);
    else
        end_by(signal);
}

const struct host_registers *host_fault_registers(void)
{
    return &fault_registers;
}

/* A fault inside the handler of another, which goes on after it, leaves that one's registers as they were. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    const int saved_errno = errno;
    const struct host_registers outer = fault_registers;
    struct host_fault fault;

    if (BLOCKS_AROUND_HANDLERS)
        unblock_faults();
    describe(&fault, info, context);
    read_registers(&fault_registers, context);
    if (!classify(&fault, signal, info) || owner(&fault) == HOST_FAULT_CHAIN)
        chain(signal, info, context);
    fault_registers = outer;
    errno = saved_errno;
}

int host_faults_install(host_fault_fn *handler)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    owner = handler;
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < NHANDLED; i++)
        if (sigaction(handled[i].signal, &action, &handled[i].before) != 0)
            return -errno;
    return 0;
}

void host_faults_remove(void)
{
    for (unsigned i = 0; i < NHANDLED; i++)
        sigaction(handled[i].signal, &handled[i].before, NULL);
}

static void on_alarm(int signal)
{
    (void)signal;
    abort();
}

void host_abort_after(unsigned seconds)
{
    struct sigaction action = {.sa_handler = on_alarm};

    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

#define UNINSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

/* The first byte of the range, then the first byte of each further page. */
static inline uintptr_t next_page(uintptr_t va)
{
    return (va & ~(uintptr_t)(HOST_PAGE_SIZE - 1)) + HOST_PAGE_SIZE;
}

UNINSTRUMENTED void host_probe_read(const volatile void *va, size_t bytes)
{
    const uintptr_t last = (uintptr_t)va + (bytes - 1);

    for (uintptr_t at = (uintptr_t)va; at <= last; at = next_page(at))
        (void)*(const volatile uint8_t *)at;
}

/* An atomic OR of nothing: it needs write access and changes no byte, even while another thread writes it. */
UNINSTRUMENTED void host_probe_write(volatile void *va, size_t bytes)
{
    const uintptr_t last = (uintptr_t)va + (bytes - 1);

    for (uintptr_t at = (uintptr_t)va; at <= last; at = next_page(at)) {
#if defined(__x86_64__)
        __asm__ volatile("lock orb $0, %0" : "+m"(*(volatile uint8_t *)at)::"cc");
#else
        __atomic_fetch_or((volatile uint8_t *)at, 0, __ATOMIC_RELAXED);
#endif
    }
}
