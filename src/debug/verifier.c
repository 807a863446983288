/* SPDX-License-Identifier: MIT */
/* pinion_print_verifier, in the manner of the debugger's !verifier 3: settings in force, what was counted, MDLs that are alive. */

#include "debug/debug.h"

/* ---- settings ---- */

static void print_settings(const struct ke_options *options)
{
#define ROW(name, value, text) {value, text},
    static const struct debug_bit bits[] = {KE_VERIFIER_FLAGS(ROW)};
#undef ROW

    ke_print("Verify Flags Level 0x%08x%s\n\n", options->verifier, options->verifier == 0 ? ": the verifier is off" : "");
    for (size_t i = 0; i < ARRAYSIZE(bits); i++)
        ke_print("    [%c] (0x%08x) %s\n", options->verifier & bits[i].bit ? 'X' : ' ', bits[i].bit, bits[i].name);
    if (options->verifier & KE_VERIFIER_LOW_RESOURCES)
        ke_print("    %u of 10000 calls fail after %llu, seed %llu\n", options->fault_rate, (unsigned long long)options->fault_delay,
                 (unsigned long long)options->seed);
}

/* ---- counts ---- */

static void print_counts(const struct machine *machine)
{
    static const struct {
        enum ke_counter counter;
        const char     *name;
    } rows[] = {
        {KE_MDLS_ALLOCATED, "MDLs allocated"}, {KE_PARTIALS_BUILT, "Partial MDLs built"}, {KE_MDLS_ADVANCED, "MDLs advanced"},
        {KE_PAGES_LOCKED, "Pages locked"}, {KE_LOCKED_PAGES, "Current page locks"}, {KE_MAPPINGS_MADE, "System mappings made"},
        {KE_SYSTEM_MAPPINGS, "Current system mappings"}, {KE_SYSTEM_PAGES_MAPPED, "Current pages mapped"},
        {KE_IRPS_ALLOCATED, "IRPs allocated"}, {KE_IRPS_COMPLETED, "IRPs completed"}, {KE_LIVE_IRPS, "Current IRPs"},
        {KE_LISTS_BUILT, "Scatter-gather lists built"}, {KE_OUTSTANDING_LISTS, "Current scatter-gather lists"},
        {KE_MAP_REGISTERS_USED, "Map registers used"}, {KE_INJECTED_FAILURES, "Faults injected"}};
    int64_t sums[KE_SUMS];

    ke_print("\nSummary of All Verifier Statistics\n\n");
    if (!ke_sums(sums)) {
        ke_print("  The list of threads is busy.\n");
        return;
    }
    for (size_t i = 0; i < ARRAYSIZE(rows); i++)
        ke_print("  %-30s 0x%llx\n", rows[i].name, (unsigned long long)sums[rows[i].counter]);
    ke_print("  %-30s 0x%llx\n", "Findings", (unsigned long long)atomic_load(&machine->findings));
}

/* ---- MDLs ---- */

static void print_mdl(const struct vf_mdl *entry)
{
    char caller[DEBUG_PLACE];
    MDL copy = {0};

    (void)debug_peek(entry->mdl, &copy);
    ke_print("  0x%016lx  0x%08x  %-4s  %s\n", (unsigned long)entry->mdl, (USHORT)copy.Size, entry->state & VF_ALLOCATED ? "VMdl" : "Mdl",
             debug_caller(entry->where[VF_EVENT_ALLOCATED], caller));
}

/* Driver Verifier gives the MDLs of IoAllocateMdl the tag VMdl. */
static void print_mdls(struct machine *machine)
{
    struct vf_mdl entries[DEBUG_ROWS];
    size_t total;

    if (machine->verifier == NULL)
        return;
    if (!vf_list(machine, VF_ALLOCATED | VF_POOL_MDL, entries, DEBUG_ROWS, &total)) {
        ke_print("\nThe record is busy: the MDLs that are alive cannot be listed.\n");
        return;
    }
    ke_print("\nMDLs: %zu\n\n", total);
    if (total != 0)
        ke_print("  Address             Length      Tag   Caller\n  ------------------  ----------  ----  ------\n");
    for (size_t i = 0; i < total && i < DEBUG_ROWS; i++)
        print_mdl(&entries[i]);
    debug_print_more(DEBUG_ROWS, total);
}

void pinion_print_verifier(void)
{
    struct machine *machine = debug_begin();

    if (machine != NULL) {
        print_settings(&machine->options);
        print_counts(machine);
        print_mdls(machine);
    }
    debug_end();
}
