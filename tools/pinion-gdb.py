# SPDX-License-Identifier: MIT
"""Commands of gdb for a process that runs Pinion: `help pinion` lists them.

Each calls one of the printers of pinion/debug.h in the process, with all other threads held, and prints what it has left in memory. Places
in the code come as addresses in angle brackets, and are named here: so nothing that a stopped thread may keep locked is needed there.

gdb loads this file by itself where it is installed, under share/gdb/auto-load by the path of libpinion.so; otherwise `gdb -x` does.
"""

import re

import gdb


def name_of_place(address):
    """"function (file:line)" of an address in the code."""
    line = gdb.find_pc_line(address)
    symbol = gdb.execute(f"info symbol {address:#x}", to_string=True)
    name = re.sub(r" (\+ \d+ )?in section .*", "", symbol.strip())
    if symbol.startswith("No symbol"):
        return f"{address:#x}"
    if line.symtab is None:
        return name
    return f"{name} ({line.symtab.filename.rsplit('/', 1)[-1]}:{line.line})"


def call(routine, argument=""):
    """What a routine of the process returns, as text if it is one; it takes one word or nothing."""
    return gdb.parse_and_eval(f"((const char *(*)({'unsigned long' if argument != '' else 'void'})) {routine})({argument})")


class Held:
    """Other threads stand still, so that none meets a breakpoint in the middle of a call; and the frame that is looked at stays selected,
    for which gdb itself does not care where a call is inlined at the breakpoint."""

    def __enter__(self):
        self.locking = gdb.parameter("scheduler-locking")
        self.frame = gdb.selected_frame()
        gdb.execute("set scheduler-locking on", to_string=True)

    def __exit__(self, *_):
        gdb.execute(f"set scheduler-locking {self.locking}", to_string=True)
        if self.frame.is_valid():
            self.frame.select()


def print_by(routine, argument):
    if gdb.selected_inferior().pid == 0:
        raise gdb.GdbError("no process is running: Pinion's printers are routines that are called in it")
    try:
        gdb.parse_and_eval("&pinion_print_to_debugger")
    except gdb.error:
        raise gdb.GdbError("this process has no libpinion (yet)")
    with Held():
        text = call("pinion_print_to_debugger", 1)
        try:
            call(routine, argument)
            text = text.string(errors="replace")
        finally:
            call("pinion_print_to_debugger", 0)
    gdb.write(re.sub(r"<(0x[0-9a-f]+)>", lambda place: name_of_place(int(place[1], 16)), text))


class Printer(gdb.Command):
    """A command that calls one printer."""

    def __init__(self, name, routine, takes, doc):
        self.__doc__ = doc
        self.name, self.routine, self.takes = name, routine, takes
        completes = gdb.COMPLETE_EXPRESSION if takes != "nothing" else gdb.COMPLETE_NONE
        super().__init__(f"pinion {name}", gdb.COMMAND_DATA, completes)

    def invoke(self, argument, _from_tty):
        if self.takes == "nothing" and argument:
            raise gdb.GdbError(f"pinion {self.name} takes no argument")
        if self.takes == "address" and not argument:
            raise gdb.GdbError(f"pinion {self.name} ADDRESS: an address, or an expression that has one")
        try:
            address = int(gdb.parse_and_eval(argument)) & (1 << 64) - 1 if argument else 0
            print_by(self.routine, "" if self.takes == "nothing" else address)
        except gdb.error as error:
            raise gdb.GdbError(f"pinion {self.name}: {error}")


class Pinion(gdb.Command):
    """What Pinion's machine holds: MDLs, IRPs, adapters, locked pages, mappings, the verifier's table."""

    def __init__(self):
        super().__init__("pinion", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


Pinion()
Printer("mdl", "pinion_print_mdl", "address", """One MDL: its fields, its pages, its chain, and who did what to it.
Usage: pinion mdl ADDRESS""")
Printer("irp", "pinion_print_irp", "address", """One IRP and its stack locations, as !irp.
Usage: pinion irp ADDRESS""")
Printer("dma", "pinion_print_adapter", "perhaps an address", """One DMA adapter with what is out, as !dma; without an address, all adapters.
Usage: pinion dma [ADDRESS]""")
Printer("lockedpages", "pinion_print_locked_pages", "nothing", """Locked pages by process, and the MDLs that lock them.""")
Printer("sysptes", "pinion_print_system_ptes", "nothing", """What is mapped into system space, as !sysptes 4.""")
Printer("verifier", "pinion_print_verifier", "nothing", """Settings, what was counted, and the MDLs that are alive, as !verifier 3.""")
