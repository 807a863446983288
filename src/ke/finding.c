/* SPDX-License-Identifier: MIT */
/*
 * Findings as data: what a report prints, collected on its way out and handed to the program that watches.
 *
 *     ke_warn, ke_bug_check:  begin ---- print, and tell: name, texts, stacks ---- end -> watcher
 *     the verifier's warning: begin ---- [ ke_warn ] ---- print and tell the story ---- end -> watcher
 */

#include "ke/ke.h"

#include <stdio.h>

/* Set by the program before its threads find anything. */
static struct {
    pinion_found *found;
    void         *context;
} watcher;

static _Thread_local struct ke_finding *telling;

void pinion_watch_findings(pinion_found *found, void *context)
{
    watcher.found = found;
    watcher.context = context;
}

void ke_finding_begin(struct ke_finding *finding)
{
    finding->id[0] = '\0';
    finding->text[0] = '\0';
    finding->finding = (struct pinion_finding){
        .id = finding->id, .what = finding->text, .advice = "", .stacks = finding->stacks};
    if (telling == NULL)
        telling = finding;
}

void ke_finding_end(struct ke_finding *finding)
{
    if (telling != finding)
        return;
    telling = NULL;
    if (watcher.found == NULL)
        return;
    host_symbols_begin();
    watcher.found(&finding->finding, watcher.context);
    host_symbols_end();
}

void ke_finding_name(const char *id)
{
    if (telling != NULL)
        snprintf(telling->id, sizeof(telling->id), "%s", id);
}

void ke_finding_say(const char *what, const char *advice)
{
    if (telling == NULL)
        return;
    snprintf(telling->text, sizeof(telling->text), "%s", what);
    telling->finding.advice = advice;
}

/* A stop inside a warning leaves that one untold. */
void ke_finding_begin_stop(struct ke_finding *finding, const char *bug_check, const uint64_t parameters[4])
{
    telling = NULL;
    ke_finding_begin(finding);
    finding->finding.bug_check = bug_check;
    for (int i = 0; i < 4; i++)
        finding->finding.parameters[i] = parameters[i];
}

void ke_finding_stack(const char *title, const uintptr_t *pcs, size_t n)
{
    struct pinion_finding *finding;
    unsigned at;

    if (telling == NULL || n == 0 || telling->finding.nstacks == KE_FINDING_STACKS)
        return;
    finding = &telling->finding;
    at = finding->nstacks++;
    if (n > KE_FINDING_FRAMES)
        n = KE_FINDING_FRAMES;
    for (size_t i = 0; i < n; i++)
        telling->frames[at][i] = (const void *)pcs[i];
    telling->stacks[at] = (struct pinion_stack){.title = title, .frames = telling->frames[at], .nframes = (unsigned)n};
}

void pinion_place_of(const void *code, struct pinion_place *out)
{
    struct host_place place;

    host_symbols_begin();
    host_place_of((uintptr_t)code, &place);
    snprintf(out->function, sizeof(out->function), "%s", place.function == NULL ? "" : place.function);
    snprintf(out->file, sizeof(out->file), "%s", place.file == NULL ? "" : place.file);
    snprintf(out->module, sizeof(out->module), "%s", place.module == NULL ? "" : place.module);
    out->line = place.line;
    out->offset = place.offset;
    host_symbols_end();
}
