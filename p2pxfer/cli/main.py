"""The ``p2pxfer`` command: global options, lazily imported subcommands, and the one place where errors become text.

``--help`` must not cost an import of Twisted: each subcommand's module is imported when the subcommand is used.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import re
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn, TextIO

import click

from p2pxfer import __version__
from p2pxfer.cli.settings import Global
from p2pxfer.cli.start import ENDING
from p2pxfer.core.text import safe_text
from p2pxfer.errors import DiskError, Interrupted, NoMemory, P2pxferError, is_no_memory

_COMMANDS = {
    "init": ("p2pxfer.cli.init", "Store the server, the private directory and this machine's name."),
    "id": ("p2pxfer.cli.identity", "Show this machine's peer id."),
    "receive": ("p2pxfer.cli.receive", "Wait for files and store them."),
    "send": ("p2pxfer.cli.send", "Send files or directories to a peer."),
    "pair": ("p2pxfer.cli.pair", "Become contacts with another machine, by a one-time code."),
    "pipe": ("p2pxfer.cli.pipe", "Join standard input and output with those of a contact."),
    "expose": ("p2pxfer.cli.expose", "Let contacts connect to a TCP service of this machine."),
    "connect": ("p2pxfer.cli.connect", "Connect to a service that a contact exposes."),
    "chat": ("p2pxfer.cli.chat", "Talk with a contact, and send files meanwhile."),
    "netcheck": ("p2pxfer.cli.netcheck", "Show what the NAT here does, and what follows for direct paths."),
    "jobs": ("p2pxfer.cli.jobs", "List, continue and drop transfers that were cut."),
    "agent": ("p2pxfer.cli.agent", "Show what the agent of this home does, which receives with nobody there."),
    "completion": ("p2pxfer.cli.completion", "Print the script for completion in bash, zsh or fish."),
    "contacts": ("p2pxfer.cli.contacts", "List verified peers, add, rename and remove them, say what each may do."),
}


_EXIT_CODES = (
    "Exit codes: 0 done, 1 a fault of the program, 2 wrong use, 3 unreachable, 4 refused, 5 wrong key, code"
    " or words,"
    " 6 damaged data, 7 no path that --path allows, 8 a local file or disk, 9 a limit, 75 incomplete: run again, a file"
    " goes on and a stream begins anew, 130 interrupted."
)


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; of one that is mistyped, what may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]!r}?" if near else "p2pxfer --help lists them"
            raise click.UsageError(f"No such command {args[0]!r}; {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p2pxfer")
@click.option("--server", metavar="HOST:PORT[#PIN]", help="The rendezvous server; also P2PXFER_SERVER.")
@click.option(
    "--home", metavar="DIR", type=click.Path(readable=False), help="The private directory; also P2PXFER_HOME."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON event a line on standard output.")
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Say only what went wrong, what is asked, and codes, words, addresses to pass on.",
)
@click.option("-v", "--verbose", count=True, help="Log what happens to standard error; twice for more.")
@click.pass_context
def cli(ctx: click.Context, server: str | None, home: str | None, as_json: bool, quiet: bool, verbose: int) -> None:
    """Move files between two machines behind NATs, directly where any TCP path exists."""
    if quiet and as_json:
        raise click.UsageError("--quiet and --json: one of them")
    ctx.obj = Global(server=server, home=home, json=as_json, verbose=verbose, quiet=quiet)


def main() -> NoReturn:
    """Entry point: run the command line and end with the documented exit code."""
    gc.disable()  # until `run` has everything imported: modules are no garbage
    open_standard_streams()
    as_json = "--json" in sys.argv[1:]
    try:
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background, and under nohup
                signal.signal(number, interrupt_once)
        code = run_command_line(as_json)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = report_error(Interrupted.word, "interrupted", Interrupted.retry, Interrupted.exit_code, as_json)
    except BrokenPipeError:
        # Nobody reads our output any more: say nothing, and end as if that reader had interrupted us.
        silence(sys.stdout, sys.stderr)
        code = Interrupted.exit_code
    except OSError as error:
        silence(sys.stdout)
        why = f"standard output cannot be written: {error.strerror or error}"
        code = report_error(DiskError.word, why, False, DiskError.exit_code, as_json=False)
    leave(code)


def interrupt_once(number: int, frame: object) -> NoReturn:
    """End what runs, outside the reactor; a second one would meet the report of the first."""
    ignore_interrupts()
    raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """The command is over, and what follows is its last word."""
    for number in ENDING:
        if signal.getsignal(number) is interrupt_once:
            signal.signal(number, signal.SIG_IGN)


def silence(*streams: TextIO) -> None:
    """Let these lead nowhere, what they hold back included."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave(code: int) -> NoReturn:
    """End the process: what was registered for the end is done, what is left in memory goes as a whole.

    To take every module and object apart would take the interpreter longer than a small file takes to be sent.  It does
    that where threads are to end first; those of a program that was interrupted, or had no memory, may never do.
    """
    gc.freeze()
    threads = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    if threads and code not in (Interrupted.exit_code, NoMemory.exit_code):
        sys.exit(code)
    if not threads:  # else the system keeps one in a call, such as a sync, for as long as it likes, maybe with a lock
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_command_line(as_json: bool) -> int:
    """Run the command; returns the exit code, and every failure has become text or an event."""
    if "_P2PXFER_COMPLETE" in os.environ:
        from p2pxfer.cli.completing import prepare

        prepare()
    try:
        code = cli.main(prog_name="p2pxfer", standalone_mode=False)
    except P2pxferError as error:
        return report_error(error.word, error.message, error.retry, error.exit_code, as_json)
    except click.exceptions.Abort:
        return report_error(Interrupted.word, "interrupted", Interrupted.retry, Interrupted.exit_code, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return report_error("E_USAGE", safe_text(usage_text(error)), False, 2, as_json)
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        raise
    except OSError as fault:
        if isinstance(fault.__context__, KeyboardInterrupt):  # click ends the line then, on a terminal that was closed
            return report_error(Interrupted.word, "interrupted", Interrupted.retry, Interrupted.exit_code, as_json)
        sys.stdout.flush()  # fails too where that is what cannot be written
        return report_fault(fault, as_json)
    except Exception as fault:
        return report_fault(fault, as_json)
    return code if isinstance(code, int) else 0


def usage_text(error: click.ClickException) -> str:
    """What is wrong with the words of the command, in one line."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and error.ctx.parent is not None:
        own = next((param for param in cli.params if error.option_name in param.opts), None)
        if own is not None:
            return (
                f"{error.option_name} stands before the command: p2pxfer {error.option_name} ... {error.ctx.info_name}"
            )
    return " ".join(error.format_message().split())


def open_standard_streams() -> None:
    """Whoever started us may have closed some of them; no socket or file of ours may take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, mode))


def report_fault(fault: Exception, as_json: bool) -> int:
    """One line about a fault of the program itself."""
    said = fault_text(fault)
    if is_no_memory(fault):
        short = NoMemory()
        return report_error(short.word, short.message, short.retry, short.exit_code, as_json)
    return report_error("E_INTERNAL", said, False, 1, as_json)


def fault_text(fault: Exception) -> str:
    """What is said of a fault of the program itself; those who asked for details are shown where it happened."""
    verbose = any(re.fullmatch(r"--verbose|-v+", word) for word in sys.argv[1:])
    if verbose:
        import traceback

        traceback.print_exception(fault, file=sys.stderr)
    hint = "" if verbose else "; run it again with -v before the command to see where"
    return f"a fault inside the program ({type(fault).__name__}){hint}"


def report_error(word: str, message: str, retry: bool, exit_code: int, as_json: bool) -> int:
    """The last word of a command that failed; returns its exit code."""
    ignore_interrupts()
    say_error(word, message, retry, as_json)
    return exit_code


def say_error(word: str, message: str, retry: bool, as_json: bool) -> None:
    """One line about a failure, as an event on standard output or as text on standard error."""
    if as_json:
        from p2pxfer.cli.eventline import print_event
        from p2pxfer.status import Failed

        print_event(Failed(word, message, retry))
    else:
        try:
            click.echo(f"p2pxfer: {message}", err=True)
        except OSError as error:
            if error.errno != errno.EIO:  # of a terminal that was closed, where nobody reads it
                raise
