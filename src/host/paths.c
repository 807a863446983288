/* SPDX-License-Identifier: MIT */
/* Directories and names of files: a directory for a while, where this program lies, names as Windows finds them. */

#include "host/program.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_DIRECTORIES = 8, PATH_BYTES = 4096, UNKNOWN_LETTERS = 6 };

int host_directory_create(char *path, size_t bytes)
{
    const char *parent = getenv("TMPDIR");
    char unknown[UNKNOWN_LETTERS + 1] = {0};        /* mkdtemp puts letters of its own there */

    if (parent == NULL || *parent == '\0')
        parent = "/tmp";
    memset(unknown, 'X', UNKNOWN_LETTERS);
    if ((size_t)snprintf(path, bytes, "%s/pinion-%s", parent, unknown) >= bytes)
        return -ENAMETOOLONG;
    return mkdtemp(path) == NULL ? -errno : 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void host_directory_remove(const char *path)
{
    nftw(path, remove_one, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS);
}

int host_program_directory(char *path, size_t bytes)
{
    const ssize_t length = readlink("/proc/self/exe", path, bytes - 1);

    if (length < 0)
        return -errno;
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    return 0;
}

int host_directories_make(const char *path)
{
    char part[PATH_BYTES];

    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        if ((size_t)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path) >= sizeof(part))
            return -ENAMETOOLONG;
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

bool host_file_exists(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

char *host_file_text(const char *path)
{
    struct host_file file;
    char *text;

    if (host_file_open(&file, path, false) != 0)
        return NULL;
    text = malloc(file.bytes + 1);
    if (text != NULL && host_file_read(&file, 0, text, file.bytes) != 0) {
        free(text);
        text = NULL;
    }
    if (text != NULL)
        text[file.bytes] = '\0';
    host_file_close(&file);
    return text;
}

/* ---- names as Windows finds them ---- */

/* Append the entry of that directory whose name differs in case alone. */
static bool append_entry(char *path, size_t bytes, const char *name, size_t length)
{
    const size_t at = strlen(path);
    DIR *directory = opendir(at == 0 ? "." : path);
    const struct dirent *entry;
    bool found = false;

    if (directory == NULL)
        return false;
    while (!found && (entry = readdir(directory)) != NULL)
        if (strlen(entry->d_name) == length && strncasecmp(entry->d_name, name, length) == 0)
            found = (size_t)snprintf(path + at, bytes - at, "%s%s", at == 0 ? "" : "/", entry->d_name) < bytes - at;
    closedir(directory);
    return found;
}

bool host_find_ignoring_case(const char *directory, const char *name, char *path, size_t bytes)
{
    if ((size_t)snprintf(path, bytes, "%s", directory) >= bytes)
        return false;
    while (*name != '\0') {
        const size_t length = strcspn(name, "/\\");

        if (length > 0 && !append_entry(path, bytes, name, length))
            return false;
        name += length;
        name += *name != '\0';
    }
    return true;
}
