/* SPDX-License-Identifier: MIT */
/* The driver: a shared object with a DriverEntry. */

#include "cli/cli.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define HOW_TO_BUILD "gcc -shared -fPIC $(pkg-config --cflags pinion) DRIVER.c -o DRIVER.so $(pkg-config --libs pinion)"

/* "build/examples/splitter.so" is called splitter. */
static void name_driver(char *name, size_t bytes, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash == NULL ? path : slash + 1;

    snprintf(name, bytes, "%.*s", (int)strcspn(file, "."), file);
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

    if (symbol == NULL) {
        driver_close(driver);
        return cli_complain(false, "%s has no DriverEntry, so it is no driver", path);
    }
    memcpy(&driver->entry, &symbol, sizeof(symbol));
    return true;
}

bool driver_open(struct driver *driver, const char *path)
{
    struct host_file file;
    char local[4096];
    int error;

    /* First, because dlopen would say of a missing file that it "cannot open shared object file". */
    error = host_file_open(&file, path, false);
    if (error != 0)
        return cli_complain(false, "the driver %s cannot be opened: %s", path, strerror(-error));
    host_file_close(&file);

    /* Without a slash dlopen would look among the system's libraries. */
    snprintf(local, sizeof(local), "%s%s", strchr(path, '/') == NULL ? "./" : "", path);
    driver->module = dlopen(local, RTLD_NOW | RTLD_LOCAL);
    if (driver->module == NULL)
        return cli_complain(false, "%s is no driver (%s); build one with: " HOW_TO_BUILD, path, why_not(local));
    name_driver(driver->name, sizeof(driver->name), path);
    return find_entry(driver, path);
}

void driver_close(struct driver *driver)
{
    dlclose(driver->module);
}
