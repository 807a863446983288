/* SPDX-License-Identifier: MIT */
/*
 * Sources from Windows say <NTDDK.h> and "..\\inc\\Public.h" and mean ntddk.h and ../inc/public.h. Where a name does not exist as it is
 * written, but does in another case or behind the other slash, a file of the written name is made that includes the real one:
 *
 *     forwarders/NTDDK.h                #include "/.../wdk/ntddk.h"
 *     forwarders/..\\inc\\Public.h      #include "/.../inc/public.h"       (one name, to Linux)
 *
 * The compiler searches them last, so they never stand before a name that is right.
 */

#include "cli/includes.h"

#include "host/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, NAME_BYTES = 256 };      /* Windows' names have at most 259 characters */

static void directory_of(const char *path, char *directory)
{
    const char *slash = strrchr(path, '/');
    const int length = slash == NULL || slash == path ? 1 : (int)(slash - path);

    snprintf(directory, PATH_BYTES, "%.*s", length, slash == NULL ? "." : path);
}

/* ---- files ---- */

/* One name for each file: headers that include each other by ../inc/ would have a longer one each time. */
static bool name_of_file(const char *path, char *name)
{
    const char *slash = strrchr(path, '/');
    char here[PATH_BYTES], real[PATH_BYTES];

    directory_of(path, here);
    return realpath(here, real) != NULL
        && (size_t)snprintf(name, PATH_BYTES, "%s/%s", real, slash == NULL ? path : slash + 1) < PATH_BYTES;
}

static bool was_seen(const struct includes *includes, const char *name)
{
    for (size_t i = 0; i < includes->nseen; i++)
        if (strcmp(includes->seen[i], name) == 0)
            return true;
    return false;
}

static bool is_own(const struct includes *includes, const char *path)
{
    return strncmp(path, includes->own, strlen(includes->own)) == 0;
}

/* It is looked through when its turn comes. */
static bool remember(struct includes *includes, const char *path)
{
    char name[PATH_BYTES];
    char **seen;

    if (is_own(includes, path) || !name_of_file(path, name) || was_seen(includes, name))
        return true;
    seen = realloc(includes->seen, (includes->nseen + 1) * sizeof(*seen));
    if (seen == NULL)
        return false;
    includes->seen = seen;
    seen[includes->nseen] = strdup(name);
    return seen[includes->nseen++] != NULL;
}

/* ---- one name ---- */

static bool find_exactly(const char *directory, const char *name, char *path)
{
    return (size_t)snprintf(path, PATH_BYTES, "%s/%s", directory, name) < PATH_BYTES && host_file_exists(path);
}

static bool find_as_windows(const char *directory, const char *name, char *path)
{
    return host_find_ignoring_case(directory, name, path, PATH_BYTES) && host_file_exists(path);
}

typedef bool finder(const char *directory, const char *name, char *path);

static bool find(const struct includes *includes, finder *finds, const char *here, bool quoted, const char *name, char *path)
{
    if (quoted && finds(here, name, path))
        return true;
    for (size_t i = 0; i < includes->ndirectories; i++)
        if (finds(includes->directories[i], name, path))
            return true;
    return false;
}

static bool make_forwarder(struct includes *includes, const char *name, const char *path)
{
    char forwarder[PATH_BYTES + NAME_BYTES], real[PATH_BYTES];
    FILE *file;

    snprintf(forwarder, sizeof(forwarder), "%s/%s", includes->forwarders, name);
    if (realpath(path, real) == NULL || host_directories_make(forwarder) != 0)
        return false;
    file = fopen(forwarder, "w");
    if (file == NULL)
        return false;
    fprintf(file, "#include \"%s\"\n", real);
    includes->nforwarders++;
    return fclose(file) == 0;
}

/* A name may lead out of as many directories as the forwarders lie below. It must be a file's. */
static bool may_forward(const char *name)
{
    int depth = 0;

    for (; strncmp(name, "../", 3) == 0; name += 3)
        depth++;
    return depth <= INCLUDES_DEPTH && *name != '/' && *name != '\0' && name[strlen(name) - 1] != '/' && strstr(name, "../") == NULL;
}

static bool prepare_name(struct includes *includes, const char *from, bool quoted, const char *name)
{
    char here[PATH_BYTES], path[PATH_BYTES];

    directory_of(from, here);
    if (find(includes, find_exactly, here, quoted, name, path))
        return remember(includes, path);
    if (!may_forward(name) || !find(includes, find_as_windows, here, quoted, name, path))
        return true;
    return make_forwarder(includes, name, path) && remember(includes, path);
}

/* ---- one file ---- */

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

/* The name behind `# include`; NULL: the line is something else. */
static const char *name_on_line(const char *line, char *name, bool *quoted)
{
    const char *at = skip_blanks(line);
    size_t length;

    if (*at != '#')
        return NULL;
    at = skip_blanks(at + 1);
    if (strncmp(at, "include", strlen("include")) != 0)
        return NULL;
    at = skip_blanks(at + strlen("include"));
    *quoted = *at == '"';
    if (*at != '"' && *at != '<')
        return NULL;
    length = strcspn(at + 1, "\">\n");
    if (length == 0 || length >= NAME_BYTES)
        return NULL;
    memcpy(name, at + 1, length);
    name[length] = '\0';
    return name;
}

static bool prepare_text(struct includes *includes, const char *path, const char *text)
{
    bool good = true;

    for (const char *line = text; good && *line != '\0'; line += *line == '\n') {
        char name[NAME_BYTES];
        bool quoted;

        if (name_on_line(line, name, &quoted) != NULL)
            good = prepare_name(includes, path, quoted, name);
        line += strcspn(line, "\n");
    }
    return good;
}

static bool look_through(struct includes *includes, const char *path)
{
    char *text = host_file_text(path);
    bool good;

    if (text == NULL)
        return true;                    /* the compiler says it better */
    good = prepare_text(includes, path, text);
    free(text);
    return good;
}

bool includes_prepare(struct includes *includes, const char *source)
{
    bool good = remember(includes, source);

    for (size_t i = 0; good && i < includes->nseen; i++)
        good = look_through(includes, includes->seen[i]);
    return good;
}

void includes_free(struct includes *includes)
{
    for (size_t i = 0; i < includes->nseen; i++)
        free(includes->seen[i]);
    free(includes->seen);
    free(includes->directories);
}
