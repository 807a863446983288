/* SPDX-License-Identifier: MIT */
/* The command's front door: which subcommand is meant. */

#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static void print_help(void)
{
    puts("pinion: the memory path of Windows drivers, on Linux\n"
         "\n"
         "  pinion run DRIVER.so --file PATH [OPTION...]   use a driver over a file, and check what comes back\n"
         "  pinion cc ARGUMENT...                          compile as cc does, with Pinion's headers, and __try and __except understood\n"
         "  pinion explain [RULE]                          what a bug check or a warning means, wrong and right code; or all rules\n"
         "  pinion help [COMMAND]                          this text, or all about one command\n"
         "  pinion version                                 the version\n"
         "\n"
         "Exit code: 0 all is well, 1 the driver did something wrong, 2 the command line was not understood, 130 interrupted.");
}

static int command_help(int argc, char **argv)
{
    if (argc < 2)
        print_help();
    else if (strcmp(argv[1], "run") == 0)
        options_help();
    else if (strcmp(argv[1], "cc") == 0)
        cc_help();
    else if (strcmp(argv[1], "explain") == 0)
        explain_help();
    else if (strcmp(argv[1], "help") == 0)
        puts("pinion help [COMMAND]: what the commands are, or all about one of them.");
    else if (strcmp(argv[1], "version") == 0)
        puts("pinion version: print the version.");
    else
        return cli_complain(CLI_USAGE, "there is no command '%s'; 'pinion help' lists the commands", argv[1]);
    return CLI_CLEAN;
}

static int command_version(void)
{
    puts("pinion " PINION_VERSION);
    return CLI_CLEAN;
}

static int command_run(int argc, char **argv)
{
    struct cli_options options;
    int code;

    return options_parse(argc, argv, &options, &code) ? run_main(&options) : code;
}

static int run_command(const char *command, int argc, char **argv)
{
    if (strcmp(command, "run") == 0)
        return command_run(argc - 1, argv + 1);
    if (strcmp(command, "cc") == 0)
        return cc_main(argc - 1, argv + 1);
    if (strcmp(command, "explain") == 0)
        return explain_main(argc - 1, argv + 1);
    if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0)
        return command_help(argc - 1, argv + 1);
    if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0)
        return command_version();
    if (*command == '\0')
        return cli_complain(CLI_USAGE, "say what to do: 'pinion run DRIVER.so --file PATH'; 'pinion help' tells more");
    return cli_complain(CLI_USAGE, "there is no command '%s'; 'pinion help' lists the commands", command);
}

int main(int argc, char **argv)
{
    return cli_end(run_command(argc < 2 ? "" : argv[1], argc, argv));
}
