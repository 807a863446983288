/* SPDX-License-Identifier: MIT */
/* Findings and call stacks as JSON, made where the driver is loaded. */

#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static void add_text(json_t *object, const char *key, const char *text)
{
    json_t *value = text[0] == '\0' ? NULL : json_string(text);

    if (value != NULL)
        json_object_set_new(object, key, value);
}

static json_t *json_of_place(const struct pinion_place *place)
{
    json_t *object = json_object();

    add_text(object, "function", place->function);
    add_text(object, "file", place->file);
    if (place->line != 0)
        json_object_set_new(object, "line", json_integer(place->line));
    add_text(object, "module", place->module);
    json_object_set_new(object, "offset", json_sprintf("0x%llx", (unsigned long long)place->offset));
    return object;
}

/* Of all frames of a finding the one to show first: the innermost of the driver. A line of the library is nobody's who reads it. */
struct best {
    bool set;
    struct pinion_place place;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

/* A module's path depends on who asks for it. */
static bool is_in(const char *module, const char *driver_module)
{
    return driver_module[0] != '\0' && strcmp(base_name(module), base_name(driver_module)) == 0;
}

static void consider(struct best *best, const struct pinion_place *place, const char *driver_module)
{
    if (!best->set && is_in(place->module, driver_module))
        *best = (struct best){.set = true, .place = *place};
}

static json_t *json_of_stack(const struct pinion_stack *stack, const char *driver_module, struct best *best)
{
    json_t *object = json_object(), *frames = json_array();

    json_object_set_new(object, "title", json_string(stack->title));
    for (unsigned i = 0; i < stack->nframes; i++) {
        struct pinion_place place;

        pinion_place_of(stack->frames[i], &place);
        consider(best, &place, driver_module);
        json_array_append_new(frames, json_of_place(&place));
    }
    json_object_set_new(object, "frames", frames);
    return object;
}

static void add_best(json_t *object, const struct best *best)
{
    if (!best->set)
        return;
    add_text(object, "function", best->place.function);
    add_text(object, "file", best->place.file);
    if (best->place.line != 0)
        json_object_set_new(object, "line", json_integer(best->place.line));
}

json_t *json_of_finding(const struct pinion_finding *finding, const char *driver_module)
{
    json_t *object = json_object(), *stacks = json_array();
    struct best best = {.set = false};

    add_text(object, "id", finding->id);
    add_text(object, "kind", finding->bug_check == NULL ? "warning" : "bug check");
    if (finding->bug_check != NULL) {
        add_text(object, "bug_check", finding->bug_check);
        json_object_set_new(object, "parameters", rules_parameters(finding->id, finding->parameters));
    }
    add_text(object, "what", finding->what);
    add_text(object, "advice", finding->advice);
    for (unsigned i = 0; i < finding->nstacks; i++)
        json_array_append_new(stacks, json_of_stack(&finding->stacks[i], driver_module, &best));
    add_best(object, &best);
    json_object_set_new(object, "stacks", stacks);
    return object;
}

/* Its place is that of the innermost frame: the driver called the routine there. */
json_t *json_of_call(const struct pinion_call *call)
{
    json_t *object = json_object(), *stack;
    struct best best = {.set = false};

    if (call->stack.nframes > 0)
        pinion_place_of(call->stack.frames[0], &best.place);
    best.set = true;
    stack = json_of_stack(&call->stack, "", &best);
    json_object_set_new(object, "id", json_sprintf("%016llx", (unsigned long long)call->id));
    add_text(object, "routine", call->routine);
    add_best(object, &best);
    json_object_set(object, "frames", json_object_get(stack, "frames"));
    json_decref(stack);
    return object;
}

uint64_t json_id(const json_t *call)
{
    return strtoull(json_text(call, "id"), NULL, 16);
}

/* ---- a process that hangs ---- */

struct hang {
    json_t     *stacks;                 /* of the threads that are in the driver */
    json_t     *frames;                 /* of the thread that is being looked at */
    const char *driver_module;
    unsigned    thread;
    bool        in_driver;              /* one of these frames is the driver's */
    struct best best;
};

static void end_thread(struct hang *hang)
{
    if (hang->in_driver)
        json_array_append_new(hang->stacks, json_pack("{s:o, s:O}", "title", json_sprintf("thread %u is at", hang->thread), "frames", hang->frames));
    json_decref(hang->frames);
    hang->frames = json_array();
    hang->in_driver = false;
}

static void copy_text(char *to, size_t bytes, const char *text)
{
    snprintf(to, bytes, "%s", text == NULL ? "" : text);
}

static void take_frame(unsigned thread, const struct host_place *found, void *context)
{
    struct hang *hang = context;
    struct pinion_place place = {.line = found->line, .offset = found->offset};

    copy_text(place.function, sizeof(place.function), found->function);
    copy_text(place.file, sizeof(place.file), found->file);
    copy_text(place.module, sizeof(place.module), found->module);
    if (thread != hang->thread)
        end_thread(hang);
    hang->thread = thread;
    if (is_in(place.module, hang->driver_module)) {
        hang->in_driver = true;
        consider(&hang->best, &place, hang->driver_module);
    }
    json_array_append_new(hang->frames, json_of_place(&place));
}

json_t *json_of_hang(int pid, const char *driver_module)
{
    struct hang hang = {.stacks = json_array(), .frames = json_array(), .driver_module = driver_module};
    json_t *object = json_object();

    host_process_stacks(pid, take_frame, &hang);
    end_thread(&hang);
    json_decref(hang.frames);
    add_text(object, "id", "hang");
    add_text(object, "kind", "hang");
    add_text(object, "what", "the run had not ended when its time was up");
    add_best(object, &hang.best);
    json_object_set_new(object, "stacks", hang.stacks);
    return object;
}

const char *json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}
