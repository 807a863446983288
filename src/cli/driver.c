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

bool driver_open(struct driver *driver, const char *path)
{
    char local[4096];

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
