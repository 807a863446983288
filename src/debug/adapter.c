/* SPDX-License-Identifier: MIT */
/* pinion_print_adapter, in the manner of the debugger's !dma: all adapters, or one with what its driver has out. */

#include "debug/debug.h"

#include "dma/dma.h"

enum { MOST_ADAPTERS = 64, MOST_OUT = 16 };

/* ---- all of them ---- */

struct adapter_row {
    const DMA_ADAPTER     *object;
    const struct vf_stack *where;
    const void            *device;
};

static void print_all(struct machine *machine)
{
    struct adapter_row rows[MOST_ADAPTERS];
    char owner[DEBUG_PLACE];
    size_t n = 0;

    if (!host_mutex_lock_within(&machine->dma->lock, ke_patience_ns())) {
        ke_print("The list of adapters is busy.\n");
        return;
    }
    for (const struct dma_adapter *adapter = machine->dma->adapters; adapter != NULL; adapter = adapter->next, n++)
        if (n < MOST_ADAPTERS)
            rows[n] = (struct adapter_row){&adapter->object, adapter->where, adapter->device};
    host_mutex_unlock(&machine->dma->lock);
    ke_print("%zu DMA adapters\n", n);
    for (size_t i = 0; i < n && i < MOST_ADAPTERS; i++)
        ke_print("Adapter: %p     DeviceObject: %p  Owner: %s\n", (const void *)rows[i].object, rows[i].device,
                 debug_caller(rows[i].where, owner));
    debug_print_more(MOST_ADAPTERS, n);
}

/* ---- one of them: what is copied while its lock is held ---- */

struct request_row {
    enum dma_kind          kind;
    const void            *list, *mdl, *device;
    uint32_t               nelements, nregisters, nsegments;
    uint64_t               bytes;
    bool                   write, in_routine;
    const struct vf_stack *where;
};

struct buffer_row {
    uint64_t               la;
    const void            *va;
    uint32_t               bytes;
    const struct vf_stack *where;
};

struct facts {
    struct dma_adapter adapter;         /* its numbers; no list of the copy is walked */
    uint32_t           first_page, npages;      /* of its domain */
    bool               busy, is_holder; /* the channel is taken, by a request of this adapter */
    size_t             nwaiting, nrequests, nbuffers;
    struct request_row requests[MOST_OUT];
    struct buffer_row  buffers[MOST_OUT];
};

static struct request_row row_of(const struct dma_request *request)
{
    return (struct request_row){
        .kind = request->kind, .list = request->list, .mdl = request->mapping.buffer.mdl, .device = request->device,
        .nelements = request->nelements, .nregisters = request->nregisters, .nsegments = request->nsegments,
        .bytes = request->kind == DMA_FOR_LIST ? request->mapping.buffer.bytes : request->bytes_mapped,
        .write = request->mapping.write, .in_routine = request->in_routine, .where = request->where};
}

static void copy_requests_locked(const struct dma_adapter *adapter, struct facts *facts)
{
    const LIST_ENTRY *waiting = &adapter->channel->waiting;

    for (const LIST_ENTRY *link = waiting->Flink; link != waiting; link = link->Flink)
        facts->nwaiting += CONTAINING_RECORD(link, struct dma_request, link)->adapter == adapter;
    for (const LIST_ENTRY *link = adapter->requests.Flink; link != &adapter->requests; link = link->Flink, facts->nrequests++)
        if (facts->nrequests < MOST_OUT)
            facts->requests[facts->nrequests] = row_of(CONTAINING_RECORD(link, struct dma_request, link));
}

static void copy_buffers_locked(const struct dma_adapter *adapter, struct facts *facts)
{
    for (const LIST_ENTRY *link = adapter->buffers.Flink; link != &adapter->buffers; link = link->Flink, facts->nbuffers++) {
        const struct dma_common_buffer *buffer = CONTAINING_RECORD(link, struct dma_common_buffer, link);

        if (facts->nbuffers < MOST_OUT)
            facts->buffers[facts->nbuffers] = (struct buffer_row){buffer->la, buffer->va, buffer->bytes, buffer->where};
    }
}

static void copy_locked(const struct dma_adapter *adapter, struct facts *facts)
{
    const struct dma_channel *channel = adapter->channel;

    *facts = (struct facts){.adapter = *adapter, .busy = channel->busy};
    facts->is_holder = channel->holder != NULL && channel->holder->adapter == adapter;
    if (adapter->domain != NULL) {
        facts->first_page = adapter->domain->first;
        facts->npages = adapter->domain->npages;
    }
    copy_requests_locked(adapter, facts);
    copy_buffers_locked(adapter, facts);
}

static struct dma_adapter *find_locked(const struct dma_state *dma, const DMA_ADAPTER *object)
{
    struct dma_adapter *adapter = dma->adapters;

    while (adapter != NULL && &adapter->object != object)
        adapter = adapter->next;
    return adapter;
}

/* NULL: *facts is filled; else why not. The address is compared, never followed. */
static const char *gather(struct machine *machine, const DMA_ADAPTER *object, struct facts *facts)
{
    const char *why = "it is no DMA adapter that is in use";
    struct dma_adapter *adapter;

    if (!host_mutex_lock_within(&machine->dma->lock, ke_patience_ns()))
        return "the list of adapters is busy";
    adapter = find_locked(machine->dma, object);
    if (adapter != NULL && !host_mutex_lock_within(&adapter->channel->lock, ke_patience_ns())) {
        why = "it is busy";
    } else if (adapter != NULL) {
        copy_locked(adapter, facts);
        host_mutex_unlock(&adapter->channel->lock);
        why = NULL;
    }
    host_mutex_unlock(&machine->dma->lock);
    return why;
}

/* ---- and printed ---- */

static void print_kind(const struct facts *facts)
{
    const struct dma_adapter *adapter = &facts->adapter;

    ke_print("   %s, %u address bits%s, version %u\n", adapter->description.Master ? "Bus master" : "Device of the system's DMA controller",
             adapter->width, adapter->scatter_gather ? ", scatter/gather" : "", adapter->version);
    ke_print("   DeviceObject: %p\n", (void *)adapter->device);
    if (adapter->domain == NULL)
        ke_print("   Domain: none, logical addresses are physical ones\n");
    else
        ke_print("   Domain: %s, logical pages %x..%x\n", adapter->domain == adapter->own_domain ? "its own" : "shared", facts->first_page,
                 facts->first_page + facts->npages - 1);
}

static void print_counts(const struct facts *facts)
{
    const struct dma_adapter *adapter = &facts->adapter;
    const char *channel = facts->is_holder ? "kept by its driver" : facts->busy ? "taken" : "free";

    ke_print("   Map registers:        %08x in use, %08x free, %08x max%s\n", adapter->registers.count - adapter->registers.nfree,
             adapter->registers.nfree, adapter->registers.count, adapter->has_registers ? "" : " (a count only: nothing is copied)");
    ke_print("   Scatter-gather lists: %08llx allocated, %08llx freed\n", (unsigned long long)adapter->lists_made,
             (unsigned long long)adapter->lists_put);
    ke_print("   Common buffers:       %08x\n", adapter->nbuffers);
    ke_print("   Adapter channel:      %s, %zu requests wait for it\n", channel, facts->nwaiting);
}

static void print_request(const struct request_row *row)
{
    char place[DEBUG_PLACE];

    if (row->kind == DMA_FOR_LIST)
        ke_print("\n   Scatter-gather list %p of MDL %p, made by %s:\n      Elements: %x   Bytes: %llx   %s the device\n", row->list, row->mdl,
                 debug_caller(row->where, place), row->nelements, (unsigned long long)row->bytes, row->write ? "To" : "From");
    else
        ke_print("\n   Adapter channel of device %p, asked for by %s%s:\n      Map registers: %x   Mapped: %llx bytes in %x pieces\n",
                 row->device, debug_caller(row->where, place), row->in_routine ? ", its AdapterControl routine runs" : "", row->nregisters,
                 (unsigned long long)row->bytes, row->nsegments);
}

static void print_buffer(const struct buffer_row *row)
{
    char place[DEBUG_PLACE];

    ke_print("\n   Common buffer allocated by %s:\n      Length:           %x\n      Virtual address:  %p\n      Logical address:  %llx\n",
             debug_caller(row->where, place), row->bytes, row->va, (unsigned long long)row->la);
}

static void print_one(struct machine *machine, const DMA_ADAPTER *object)
{
    char owner[DEBUG_PLACE];
    struct facts facts = {0};
    const char *why = gather(machine, object, &facts);

    if (why != NULL) {
        ke_print("%p: %s.\n", (const void *)object, why);
        return;
    }
    ke_print("Adapter: %p     Owner: %s\n", (const void *)object, debug_caller(facts.adapter.where, owner));
    print_kind(&facts);
    print_counts(&facts);
    for (size_t i = 0; i < facts.nrequests && i < MOST_OUT; i++)
        print_request(&facts.requests[i]);
    debug_print_more(MOST_OUT, facts.nrequests);
    for (size_t i = 0; i < facts.nbuffers && i < MOST_OUT; i++)
        print_buffer(&facts.buffers[i]);
    debug_print_more(MOST_OUT, facts.nbuffers);
}

void pinion_print_adapter(PDMA_ADAPTER adapter)
{
    struct machine *machine = debug_begin();

    if (machine != NULL && adapter == NULL)
        print_all(machine);
    else if (machine != NULL)
        print_one(machine, adapter);
    debug_end();
}
