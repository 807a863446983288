/* SPDX-License-Identifier: MIT */
/* What the files of ke share with each other and with nobody else: the executive's part of the machine. */
#ifndef PINION_KE_STATE_H
#define PINION_KE_STATE_H

#include "ke/ke.h"

enum { KE_WORKERS = 64 };               /* at most; a driver's items may wait for each other */

/*
 * Key: (D) the dispatcher lock  (Q) the DPC lock  (W) the worker lock
 */
struct ke_state {
    struct host_mutex  dispatcher;          /* guards every dispatcher object's state and wait list */

    struct host_mutex  dpc_lock;
    uint32_t           dpcs_outstanding;    /* (Q) queued or running */

    struct host_mutex  worker_lock;
    LIST_ENTRY         work;                /* (W) WORK_QUEUE_ITEM.List */
    uint32_t           busy_workers;        /* (W) */
    uint32_t           nworkers;            /* (W) started so far */
    bool               stopping;            /* (W) */
    struct host_thread workers[KE_WORKERS];
    struct host_gate   worker_gates[KE_WORKERS];
    bool               idle[KE_WORKERS];    /* (W) at its gate, or on the way there */
};

void ke_prepare_process(void);               /* what outlives every machine of this process; any number of times */
void ke_thread_leave_list(void);
void ke_drain_workers(void);                /* wait until no work item is queued or running */
void ke_stop_workers(struct ke_state *ke);
void ke_init_workers(struct ke_state *ke);

/* Something that ke_plain_generation depends on has changed. */
void ke_settle_plain(void);

#endif
