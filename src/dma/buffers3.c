/* SPDX-License-Identifier: MIT */
/*
 * Common buffers of version 3: with bounds, in vectors, over an MDL of the driver's; and the domains that adapters share.
 *
 * There are domains only with dma=remapped. Without an IOMMU the handle is NULL, and joining is not supported.
 */

#include "dma/dma.h"

#include <stdlib.h>

/* ---- with bounds ---- */

/* A maximum is the first address that the buffer must stay below. */
static uint64_t limit_of(const PHYSICAL_ADDRESS *maximum)
{
    return maximum == NULL ? DMA_NO_LIMIT : (uint64_t)maximum->QuadPart;
}

static enum dma_caching caching_of(const MEMORY_CACHING_TYPE *type)
{
    if (type == NULL)
        return DMA_CACHING_DEFAULT;
    return *type == MmCached ? DMA_CACHED : DMA_UNCACHED;
}

/* A node that there is not is no wish. */
static int node_of(NODE_REQUIREMENT preferred)
{
    return preferred < MM_NODES ? (int)preferred : MM_ANY_NODE;
}

static bool is_cache_type(const MEMORY_CACHING_TYPE *type)
{
    return type == NULL || *type == MmCached || *type == MmNonCached;
}

static PVOID allocate(PDMA_ADAPTER adapter, const struct dma_buffer_want *want, PPHYSICAL_ADDRESS la)
{
    const struct dma_common_buffer *buffer = dma_buffer_new(dma_adapter_of(adapter), want);

    if (buffer == NULL)
        return NULL;
    la->QuadPart = (LONGLONG)buffer->la;
    return buffer->va;
}

/* Doc: wdm/nc-wdm-pallocate_common_buffer_ex */
static PVOID allocate_ex(PDMA_ADAPTER DmaAdapter, PPHYSICAL_ADDRESS MaximumAddress, ULONG Length, PPHYSICAL_ADDRESS LogicalAddress,
                         BOOLEAN CacheEnabled, NODE_REQUIREMENT PreferredNode)
{
    struct machine *machine = ke_machine();
    const struct dma_buffer_want want = {
        .bytes = Length, .limit = limit_of(MaximumAddress), .caching = CacheEnabled ? DMA_CACHED : DMA_UNCACHED,
        .node = node_of(PreferredNode), .where = DMA_WHERE(machine),
    };

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateCommonBufferEx))
        return NULL;
    return allocate(DmaAdapter, &want, LogicalAddress);
}

/* Doc: wdm/nc-wdm-pallocate_common_buffer_with_bounds */
static PVOID allocate_with_bounds(PDMA_ADAPTER DmaAdapter, PPHYSICAL_ADDRESS MinimumAddress, PPHYSICAL_ADDRESS MaximumAddress,
                                  ULONG Length, ULONG Flags, MEMORY_CACHING_TYPE *CacheType, NODE_REQUIREMENT PreferredNode,
                                  PPHYSICAL_ADDRESS LogicalAddress)
{
    struct machine *machine = ke_machine();
    const struct dma_buffer_want want = {
        .bytes = Length, .low = MinimumAddress == NULL ? 0 : (uint64_t)MinimumAddress->QuadPart, .limit = limit_of(MaximumAddress),
        .large = Flags & DOMAIN_COMMON_BUFFER_LARGE_PAGE, .caching = caching_of(CacheType), .node = node_of(PreferredNode),
        .where = DMA_WHERE(machine),
    };

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateCommonBufferWithBounds))
        return NULL;
    if ((Flags & ~(ULONG)DOMAIN_COMMON_BUFFER_LARGE_PAGE) || !is_cache_type(CacheType))
        return NULL;
    return allocate(DmaAdapter, &want, LogicalAddress);
}

/* Device and processor see the same memory here: there is nothing to flush. Doc: wdm/nc-wdm-pflush_dma_buffer */
static NTSTATUS flush_dma_buffer(PDMA_ADAPTER DmaAdapter, PMDL Mdl, BOOLEAN ReadOperation)
{
    struct machine *machine = ke_machine();

    UNREFERENCED_PARAMETER(ReadOperation);
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    return Mdl == NULL ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}

/* ---- vectors ---- */

/* Parameter 1 of bug check 0x1DC. */
enum { VECTOR_IRQL = 1, VECTOR_NOT_EMPTY = 2, VECTOR_BOUNDS = 3, VECTOR_FREED = 4 };

struct _DMA_COMMON_BUFFER_VECTOR {
    ULONG count;
    struct dma_common_buffer *buffers[];        /* NULL: freed */
};

static void require_passive(void)
{
    if (ke_self()->irql != PASSIVE_LEVEL)
        ke_bug_check(DMA_COMMON_BUFFER_VECTOR_ERROR, VECTOR_IRQL, ke_self()->irql, 0, 0);
}

static bool fill_vector(struct dma_adapter *adapter, PDMA_COMMON_BUFFER_VECTOR vector, ULONG count,
                        const struct dma_buffer_want *want)
{
    while (vector->count < count) {
        vector->buffers[vector->count] = dma_buffer_new(adapter, want);
        if (vector->buffers[vector->count] == NULL)
            return false;
        vector->count++;
    }
    return true;
}

static void empty_vector(struct dma_adapter *adapter, PDMA_COMMON_BUFFER_VECTOR vector)
{
    while (vector->count > 0)
        dma_buffer_end(adapter, vector->buffers[--vector->count]);
    free(vector);
}

/* Doc: wdm/nc-wdm-pallocate_common_buffer_vector */
static NTSTATUS allocate_vector(PDMA_ADAPTER DmaAdapter, PHYSICAL_ADDRESS LowAddress, PHYSICAL_ADDRESS HighAddress,
                                MEMORY_CACHING_TYPE CacheType, ULONG IdealNode, ULONG Flags, ULONG NumberOfElements,
                                ULONGLONG SizeOfElements, PDMA_COMMON_BUFFER_VECTOR *VectorOut)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct dma_buffer_want want = {
        .bytes = (uint32_t)SizeOfElements, .low = (uint64_t)LowAddress.QuadPart, .limit = limit_of(&HighAddress),
        .large = Flags & DOMAIN_COMMON_BUFFER_LARGE_PAGE, .caching = caching_of(&CacheType), .node = node_of(IdealNode),
        .where = DMA_WHERE(machine),
    };
    PDMA_COMMON_BUFFER_VECTOR vector;

    require_passive();
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateCommonBufferVector))
        return STATUS_INSUFFICIENT_RESOURCES;
    if (NumberOfElements == 0 || SizeOfElements == 0 || SizeOfElements > MAXULONG || !is_cache_type(&CacheType)
        || (Flags & ~(ULONG)DOMAIN_COMMON_BUFFER_LARGE_PAGE))
        return STATUS_INVALID_PARAMETER;
    vector = ke_internal_fails() ? NULL : calloc(1, sizeof(*vector) + NumberOfElements * sizeof(vector->buffers[0]));
    if (vector == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (!fill_vector(adapter, vector, NumberOfElements, &want)) {
        empty_vector(adapter, vector);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *VectorOut = vector;
    return STATUS_SUCCESS;
}

static struct dma_common_buffer *require_entry(PDMA_COMMON_BUFFER_VECTOR vector, ULONG index)
{
    if (index >= vector->count)
        ke_bug_check(DMA_COMMON_BUFFER_VECTOR_ERROR, VECTOR_BOUNDS, vector->count, index, 0);
    if (vector->buffers[index] == NULL)
        ke_bug_check(DMA_COMMON_BUFFER_VECTOR_ERROR, VECTOR_FREED, index, 0, 0);
    return vector->buffers[index];
}

/* Doc: wdm/nc-wdm-pget_common_buffer_from_vector_by_index */
static VOID get_from_vector(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector, ULONG Index, PVOID *VirtualAddressOut,
                            PPHYSICAL_ADDRESS LogicalAddressOut)
{
    struct machine *machine = ke_machine();
    const struct dma_common_buffer *buffer;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, HIGH_LEVEL);
    buffer = require_entry(Vector, Index);
    *VirtualAddressOut = buffer->va;
    LogicalAddressOut->QuadPart = (LONGLONG)buffer->la;
}

/* Doc: wdm/nc-wdm-pfree_common_buffer_from_vector */
static VOID free_from_vector(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector, ULONG Index)
{
    struct machine *machine = ke_machine();
    struct dma_common_buffer *buffer;

    require_passive();
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    buffer = require_entry(Vector, Index);
    KE_HOOK(machine, dma_free_buffer_check, DmaAdapter, buffer->va, buffer->bytes, buffer->la, buffer->caching == DMA_CACHED);
    Vector->buffers[Index] = NULL;
    dma_buffer_end(dma_adapter_of(DmaAdapter), buffer);
}

/* All of its buffers must be free. Doc: wdm/nc-wdm-pfree_common_buffer_vector */
static VOID free_vector(PDMA_ADAPTER DmaAdapter, PDMA_COMMON_BUFFER_VECTOR Vector)
{
    struct machine *machine = ke_machine();

    require_passive();
    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    for (ULONG i = 0; i < Vector->count; i++)
        if (Vector->buffers[i] != NULL)
            ke_bug_check(DMA_COMMON_BUFFER_VECTOR_ERROR, VECTOR_NOT_EMPTY, i, (uintptr_t)Vector->buffers[i]->va,
                         Vector->buffers[i]->la);
    free(Vector);
}

/* ---- over an MDL ---- */

/* What the extended configurations come to. */
struct mdl_plan {
    PMDL     mdl;
    bool     has_part;                  /* which is: */
    uint64_t off;                       /* in that MDL */
    uint32_t bytes;
    uint64_t low, high;
    unsigned access;
};

/* The MDL of a chain that holds the whole part. */
static bool place_part(struct mdl_plan *plan, uint64_t off, uint64_t bytes)
{
    while (plan->mdl != NULL && off >= plan->mdl->ByteCount) {
        off -= plan->mdl->ByteCount;
        plan->mdl = plan->mdl->Next;
    }
    if (plan->mdl == NULL || bytes == 0 || bytes > plan->mdl->ByteCount - off)
        return false;
    plan->has_part = true;
    plan->off = off;
    plan->bytes = (uint32_t)bytes;
    return true;
}

static NTSTATUS set_access(struct mdl_plan *plan, DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION_ACCESS_TYPE type, bool remapped)
{
    static const unsigned access[] = {DMA_DEVICE_READS, DMA_DEVICE_WRITES, DMA_DEVICE_READS | DMA_DEVICE_WRITES};

    if ((unsigned)type >= CommonBufferHardwareAccessMax)
        return STATUS_INVALID_PARAMETER;
    plan->access = access[type];
    return type == CommonBufferHardwareAccessReadWrite || remapped ? STATUS_SUCCESS : STATUS_NOT_SUPPORTED;
}

static NTSTATUS apply(struct mdl_plan *plan, const DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION *config, bool remapped)
{
    switch (config->ConfigType) {
    case CommonBufferConfigTypeLogicalAddressLimits:
        plan->low = (uint64_t)config->LogicalAddressLimits.MinimumAddress.QuadPart;
        plan->high = (uint64_t)config->LogicalAddressLimits.MaximumAddress.QuadPart;
        return STATUS_SUCCESS;
    case CommonBufferConfigTypeSubSection:
        return place_part(plan, config->SubSection.Offset, config->SubSection.Length) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    case CommonBufferConfigTypeHardwareAccessPermissions:
        return set_access(plan, config->HardwareAccessType, remapped);
    default:
        return STATUS_NOT_SUPPORTED;
    }
}

static NTSTATUS apply_all(struct mdl_plan *plan, const DMA_COMMON_BUFFER_EXTENDED_CONFIGURATION *configs, ULONG count, bool remapped)
{
    NTSTATUS status = STATUS_SUCCESS;
    unsigned seen = 0;

    for (ULONG i = 0; i < count && NT_SUCCESS(status); i++) {
        const unsigned bit = 1u << ((unsigned)configs[i].ConfigType % 32);

        status = seen & bit ? STATUS_INVALID_PARAMETER : apply(plan, &configs[i], remapped);
        seen |= bit;
    }
    if (NT_SUCCESS(status) && !plan->has_part)
        status = plan->mdl->Next != NULL || !place_part(plan, 0, plan->mdl->ByteCount) ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
    return status;
}

static bool is_usable(const struct mdl_plan *plan)
{
    const uint64_t at = plan->mdl->ByteOffset + plan->off;

    return (at & SPAN_PAGE_MASK) == 0 && (plan->bytes & SPAN_PAGE_MASK) == 0
        && mdl_has(plan->mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL);
}

static const PFN_NUMBER *pfns_of(const struct mdl_plan *plan)
{
    return mdl_pfns(plan->mdl) + ((plan->mdl->ByteOffset + plan->off) >> SPAN_PAGE_SHIFT);
}

/* Without an IOMMU the memory must be as the device needs it. */
static bool lies_well(const struct dma_adapter *adapter, const struct mdl_plan *plan)
{
    const PFN_NUMBER *pfns = pfns_of(plan);
    const uint32_t npages = plan->bytes >> SPAN_PAGE_SHIFT;
    const uint64_t first = (uint64_t)pfns[0] << SPAN_PAGE_SHIFT;

    for (uint32_t i = 1; i < npages; i++)
        if (pfns[i] != pfns[0] + i)
            return false;
    return pfns[npages - 1] < dma_reach(adapter) && first >= plan->low && first + (plan->bytes - 1) <= plan->high;
}

static bool map_part(struct dma_adapter *adapter, const struct mdl_plan *plan, struct dma_common_buffer *buffer)
{
    const uint32_t npages = plan->bytes >> SPAN_PAGE_SHIFT;
    const uint64_t low = plan->low >> SPAN_PAGE_SHIFT, high = plan->high >> SPAN_PAGE_SHIFT;
    uint32_t first;

    if (low > UINT32_MAX || !dma_domain_take(adapter->domain, npages, (uint32_t)low, high > UINT32_MAX ? UINT32_MAX : (uint32_t)high,
                                             &first))
        return false;
    for (uint32_t i = 0; i < npages; i++)
        dma_domain_map(adapter->domain, first + i, pfns_of(plan)[i], plan->access);
    buffer->domain = adapter->domain;
    buffer->la_pages = npages;
    buffer->la = (uint64_t)first << SPAN_PAGE_SHIFT;
    return true;
}

static NTSTATUS make_from_mdl(struct dma_adapter *adapter, const struct mdl_plan *plan, const void *where, uint64_t *la)
{
    struct dma_common_buffer *buffer = ke_internal_fails() ? NULL : calloc(1, sizeof(*buffer));

    if (buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    buffer->va = (uint8_t *)plan->mdl->MappedSystemVa + plan->off;
    buffer->la = (uint64_t)pfns_of(plan)[0] << SPAN_PAGE_SHIFT;
    buffer->bytes = plan->bytes;
    buffer->from_mdl = true;
    buffer->caching = DMA_CACHING_DEFAULT;
    buffer->where = where;
    if (adapter->domain != NULL && !map_part(adapter, plan, buffer)) {
        free(buffer);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    dma_buffer_book(adapter, buffer);
    *la = buffer->la;
    return STATUS_SUCCESS;
}

/* Doc: wdm/nc-wdm-pcreate-common-buffer-from-mdl */
static NTSTATUS create_from_mdl(PDMA_ADAPTER DmaAdapter, PMDL Mdl, PDMA_COMMON_BUFFER_EXTENDED_CONFIGURATION ExtendedConfigs,
                                ULONG ExtendedConfigsCount, PPHYSICAL_ADDRESS LogicalAddress)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct mdl_plan plan = {.mdl = Mdl, .high = UINT64_MAX, .access = DMA_DEVICE_READS | DMA_DEVICE_WRITES};
    NTSTATUS status;
    uint64_t la;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_CreateCommonBufferFromMdl))
        return STATUS_INSUFFICIENT_RESOURCES;
    status = apply_all(&plan, ExtendedConfigs, ExtendedConfigsCount, adapter->domain != NULL);
    if (!NT_SUCCESS(status))
        return status;
    if (!is_usable(&plan) || (adapter->domain == NULL && !lies_well(adapter, &plan)))
        return STATUS_INVALID_PARAMETER;
    status = make_from_mdl(adapter, &plan, DMA_WHERE(machine), &la);
    if (NT_SUCCESS(status))
        LogicalAddress->QuadPart = (LONGLONG)la;
    return status;
}

/* ---- domains ---- */

/* The domain behind a handle, held; NULL: no adapter has it. */
static struct dma_domain *hold_domain(struct machine *machine, HANDLE handle)
{
    struct dma_domain *found = NULL;

    host_mutex_lock(&machine->dma->lock);
    for (struct dma_adapter *adapter = machine->dma->adapters; adapter != NULL && found == NULL; adapter = adapter->next)
        if (handle != NULL && adapter->own_domain == handle)
            found = handle;
    if (found != NULL)
        dma_domain_use(found);
    host_mutex_unlock(&machine->dma->lock);
    return found;
}

/* Only an adapter that holds nothing may change its domain. NULL: back to its own. */
static NTSTATUS move_to(struct dma_adapter *adapter, struct dma_domain *domain)
{
    struct dma_domain *target = domain != NULL ? domain : adapter->own_domain, *left = NULL;
    bool idle;

    dma_lock(adapter);
    idle = IsListEmpty(&adapter->requests) && IsListEmpty(&adapter->buffers) && adapter->nlists == 0 && adapter->nchannels == 0;
    if (idle) {
        left = adapter->domain != adapter->own_domain ? adapter->domain : NULL;
        adapter->domain = target;
    }
    dma_unlock(adapter);
    if (left != NULL)
        dma_domain_unuse(left);
    return idle ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE;
}

/* Doc: wdm/nc-wdm-pget_dma_domain */
static HANDLE get_domain(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    return dma_adapter_of(DmaAdapter)->domain;
}

/* A domain that hands out addresses beyond the device's reach is no domain for it. Doc: wdm/nc-wdm-pjoin_dma_domain */
static NTSTATUS join_domain(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    struct dma_domain *domain;
    NTSTATUS status;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    if (adapter->domain == NULL)
        return STATUS_NOT_SUPPORTED;
    domain = hold_domain(machine, DomainHandle);
    if (domain == NULL)
        return STATUS_INVALID_PARAMETER;
    status = domain->first + domain->npages > dma_reach(adapter) ? STATUS_INVALID_PARAMETER
                                                                 : move_to(adapter, domain == adapter->own_domain ? NULL : domain);
    if (!NT_SUCCESS(status) || domain == adapter->own_domain)
        dma_domain_unuse(domain);
    return status;
}

/* Doc: wdm/nc-wdm-pleave_dma_domain */
static NTSTATUS leave_domain(PDMA_ADAPTER DmaAdapter)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, DISPATCH_LEVEL);
    return adapter->domain == NULL ? STATUS_NOT_SUPPORTED : move_to(adapter, NULL);
}

/* Doc: wdm/nc-wdm-pallocate_domain_common_buffer */
static NTSTATUS allocate_in_domain(PDMA_ADAPTER DmaAdapter, HANDLE DomainHandle, PPHYSICAL_ADDRESS MaximumAddress, ULONG Length,
                                   ULONG Flags, MEMORY_CACHING_TYPE *CacheType, NODE_REQUIREMENT PreferredNode,
                                   PPHYSICAL_ADDRESS LogicalAddress, PVOID *VirtualAddress)
{
    struct machine *machine = ke_machine();
    struct dma_adapter *adapter = dma_adapter_of(DmaAdapter);
    const struct dma_buffer_want want = {
        .bytes = Length, .limit = limit_of(MaximumAddress), .large = Flags & DOMAIN_COMMON_BUFFER_LARGE_PAGE,
        .caching = caching_of(CacheType), .node = node_of(PreferredNode), .where = DMA_WHERE(machine),
    };
    PVOID va;

    KE_HOOK(machine, dma_call_check, DmaAdapter, PASSIVE_LEVEL, PASSIVE_LEVEL);
    if (ke_fails(KE_FALLIBLE_AllocateDomainCommonBuffer))
        return STATUS_INSUFFICIENT_RESOURCES;
    if (adapter->domain == NULL)
        return STATUS_NOT_SUPPORTED;
    if (DomainHandle != adapter->domain || Length == 0 || !is_cache_type(CacheType)
        || (Flags & ~(ULONG)DOMAIN_COMMON_BUFFER_LARGE_PAGE))
        return STATUS_INVALID_PARAMETER;
    va = allocate(DmaAdapter, &want, LogicalAddress);
    if (va == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    *VirtualAddress = va;
    return STATUS_SUCCESS;
}

void dma_fill_buffers3(DMA_OPERATIONS *operations, bool windows10)
{
    operations->AllocateCommonBufferEx = allocate_ex;
    if (!windows10)
        return;
    operations->AllocateDomainCommonBuffer = allocate_in_domain;
    operations->FlushDmaBuffer = flush_dma_buffer;
    operations->JoinDmaDomain = join_domain;
    operations->LeaveDmaDomain = leave_domain;
    operations->GetDmaDomain = get_domain;
    operations->AllocateCommonBufferWithBounds = allocate_with_bounds;
    operations->AllocateCommonBufferVector = allocate_vector;
    operations->GetCommonBufferFromVectorByIndex = get_from_vector;
    operations->FreeCommonBufferFromVector = free_from_vector;
    operations->FreeCommonBufferVector = free_vector;
    operations->CreateCommonBufferFromMdl = create_from_mdl;
}
