/* SPDX-License-Identifier: MIT */
/* The driver: a shared object with a DriverEntry. */

#include "cli/cli.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define HOW_TO_BUILD "gcc -shared -fPIC $(pkg-config --cflags pinion) DRIVER.c -o DRIVER.so $(pkg-config --libs pinion)"

/* "build/examples/splitter.so" is called splitter. */
void driver_name(const char *path, char *name, size_t bytes)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash == NULL ? path : slash + 1;

    snprintf(name, bytes, "%.*s", (int)strcspn(file, "."), file);
}

/* dlopen would say of a missing file that it "cannot open shared object file". */
bool driver_exists(const char *path)
{
    struct host_file file;
    const int error = host_file_open(&file, path, false);

    if (error != 0)
        return cli_complain(false, "the driver %s cannot be opened: %s", path, strerror(-error));
    host_file_close(&file);
    return true;
}

/* What dlopen says, without the path that the user knows already. */
static const char *why_not(const char *path)
{
    const char *why = dlerror();
    const size_t length = strlen(path);

    if (why == NULL)
        return "it cannot be loaded";
    return strncmp(why, path, length) == 0 && strncmp(why + length, ": ", 2) == 0 ? why + length + 2 : why;
}

static bool find_entry(struct driver *driver, const char *path)
{
    void *symbol = dlsym(driver->module, "DriverEntry");
    struct pinion_place place;

    if (symbol == NULL) {
        driver_close(driver);
        return cli_complain(false, "%s has no DriverEntry, so it is no driver", path);
    }
    memcpy(&driver->entry, &symbol, sizeof(symbol));
    pinion_place_of(symbol, &place);
    snprintf(driver->path, sizeof(driver->path), "%s", place.module);
    return true;
}

/* Does the file name that symbol, which the process does not have? Loading it would end the process. */
static bool lacks(const char *path, const char *symbol)
{
    enum { STEP_BYTES = 65536, LONGEST_SYMBOL = 64 };
    char chunk[STEP_BYTES + LONGEST_SYMBOL];
    struct host_file file;
    bool found = false;

    if (dlsym(RTLD_DEFAULT, symbol) != NULL || host_file_open(&file, path, false) != 0)
        return false;
    for (uint64_t off = 0; off < file.bytes && !found; off += STEP_BYTES) {
        const size_t bytes = file.bytes - off < sizeof(chunk) ? (size_t)(file.bytes - off) : sizeof(chunk);

        found = host_file_read(&file, off, chunk, bytes) == 0 && memmem(chunk, bytes, symbol, strlen(symbol) + 1) != NULL;
    }
    host_file_close(&file);
    return found;
}

bool driver_open(struct driver *driver, const char *path)
{
    char local[4096];

    if (lacks(path, "__asan_init"))
        return cli_complain(false, "%s is compiled with -fsanitize=address, and this pinion is not: set LD_PRELOAD to what "
                            "'gcc -print-file-name=libasan.so' prints, or use a pinion that is built with the preset asan", path);
    /* Without a slash dlopen would look among the system's libraries. */
    snprintf(local, sizeof(local), "%s%s", strchr(path, '/') == NULL ? "./" : "", path);
    driver->module = dlopen(local, RTLD_NOW | RTLD_LOCAL);
    if (driver->module == NULL)
        return cli_complain(false, "%s is no driver (%s); build one with: " HOW_TO_BUILD, path, why_not(local));
    return find_entry(driver, path);
}

void driver_close(struct driver *driver)
{
    dlclose(driver->module);
    driver->module = NULL;
}
