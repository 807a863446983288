/* SPDX-License-Identifier: MIT */
/*
 * The RAM window: every page of RAM at one fixed place of this process, in the order of the RAM file.
 *
 * What is contiguous in the file is contiguous in the window, so a run of neighbouring pages needs no mapping of its
 * own to be read as one buffer.
 */

#include "mm/state.h"
#include "rtl/lanes.h"

bool mm_window_execute(struct machine *machine, uint32_t page)
{
    struct mm_frame *frame = mm_frame(machine, page);

    if (!frame->executable || host_protect(mm_window_va(machine, page), HOST_PAGE_SIZE, HOST_READ | HOST_WRITE | HOST_EXEC) != 0)
        return false;
    frame->executed = 1;
    return true;
}

void mm_window_stop_execution(struct machine *machine, uint32_t page)
{
    struct mm_frame *frame = mm_frame(machine, page);

    if (frame->executed)
        VERIFY(host_protect(mm_window_va(machine, page), HOST_PAGE_SIZE, HOST_READ | HOST_WRITE) == 0);
    frame->executable = frame->executed = 0;
}

size_t mm_first_run(const struct machine *machine, const PFN_NUMBER *pfns, size_t n, void **va)
{
    struct rtl_steps numbers;
    uint32_t first = 0;
    size_t run;

    if (n == 0)
        return 0;
    if (mm_is_host_pfn(pfns[0])) {
        *va = (void *)((pfns[0] - MM_HOST_PFN_BASE) << SPAN_PAGE_SHIFT);
        numbers = rtl_steps_up_from(pfns[0]);
        return rtl_lanes->count_steps(pfns, &numbers, n);
    }
    run = mm_run_of_pfns(machine, pfns, n, &first);
    *va = mm_window_va(machine, first);
    return run;
}

int mm_window_boot(struct machine *machine)
{
    struct mm_state *mm = machine->mm;
    const size_t bytes = mm->npages * HOST_PAGE_SIZE;
    void *base;
    int error = host_ram_create(&mm->ram, bytes);

    if (error != 0)
        return error;
    error = host_reserve(bytes, &base);
    if (error == 0)
        error = host_map(&mm->ram, 0, base, bytes, HOST_READ | HOST_WRITE);
    if (error != 0) {
        host_ram_destroy(&mm->ram);
        return error;
    }
    mm->window = base;
    return 0;
}

void mm_window_shutdown(struct machine *machine)
{
    struct mm_state *mm = machine->mm;

    if (mm->window == NULL)
        return;
    host_release(mm->window, mm->npages * HOST_PAGE_SIZE);
    host_ram_destroy(&mm->ram);
    mm->window = NULL;
}
