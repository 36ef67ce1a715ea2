"""``p2pxfer receive``: wait for files and store them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from msgspec.structs import asdict

from p2pxfer.cli import inputs
from p2pxfer.cli.settings import Global, Seconds, approach_options, limit_option, machine_of, was_closed
from p2pxfer.core.approach import Approach
from p2pxfer.core.text import safe_text
from p2pxfer.errors import DiskError, UsageError

if TYPE_CHECKING:
    from p2pxfer.cli.run import Main
    from p2pxfer.net.transfer.places import Place


@click.command("receive")
@click.option("--as", "name", metavar="NAME", help="Register under this name (default: stored name, user name).")
@click.option(
    "--to", "destination", metavar="DIR", default=".", show_default="here", type=click.Path(readable=False),
    help="Store what arrives in this directory, which must exist.",
)  # fmt: skip
@click.option(
    "--stdout", "to_stdout", is_flag=True,
    help="Write one file, or the standard input of a sender, to standard output, and end.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Compare eight words by voice with each sender before a file is taken.")
@click.option("--once", is_flag=True, help="End after one whole transfer.")
@click.option(
    "--accept", "acceptance", type=click.Choice(["ask", "contacts", "all"]), default="contacts", show_default=True,
    help="ask: ask for every transfer; contacts: take what contacts send; all: take what anybody sends.",
)  # fmt: skip
@click.option("--code", "code_words", metavar="WORDS", help="Use this one-time code, for tests and scripts.")
@click.option("--no-code", is_flag=True, help="Offer no code: only contacts may send.")
@limit_option
@approach_options
@click.option(
    "--timeout",
    metavar="S",
    type=Seconds(),
    help="Stop when nothing has come for S seconds; an error only if nothing came at all.",
)
@click.pass_obj
def command(
    options: Global, name: str | None, destination: str, to_stdout: bool, verify: bool, once: bool,
    acceptance: Literal["ask", "contacts", "all"], code_words: str | None, no_code: bool, limit: int,
    approach: Approach, timeout: float | None,
) -> None:  # fmt: skip
    """Register with the server, show a one-time code for new senders, and store what arrives in DIR.

    Nothing is overwritten.  A transfer that was cut goes on when its sender comes back.  With --stdout what was written
    is whole only if the exit code is 0.
    """
    from p2pxfer.cli.run import run

    main = prepared(
        options, name, destination, acceptance, to_stdout=to_stdout, verify=verify, once=once, code_words=code_words,
        no_code=no_code, limit=limit, approach=approach, timeout=timeout,
    )  # fmt: skip
    run(main, options.verbose)


def prepared(
    options: Global, name: str | None, destination: str, acceptance: Literal["ask", "contacts", "all"], *,
    to_stdout: bool, verify: bool, once: bool, code_words: str | None, no_code: bool, limit: int, approach: Approach,
    timeout: float | None,
) -> Main:  # fmt: skip
    """What such a command runs; all that can be is checked.

    Raises:
        UsageError: it contradicts itself, or cannot be carried out here.
        ConfigError: the settings cannot be used, or an agent has the name.
        DiskError: the destination cannot be written.
    """
    check_together(options, destination, to_stdout=to_stdout, code=code_words is not None, no_code=no_code)
    from p2pxfer.net.agent.asking import check_name_is_free

    home = options.open_home()
    line = options.server_line(home)
    own_name = options.own_name(home, name)
    check_name_is_free(home.path, own_name)
    check_questions(acceptance, verify=verify)
    place: Place
    if to_stdout:
        from p2pxfer.net.transfer.outlet import Outlet

        place = Outlet(sys.stdout.fileno())
    else:
        from p2pxfer.net.staging.partials import Destination, remember
        from p2pxfer.net.transfer.folder import Folder

        place = Folder(destination, home.identity().id.digest)
        used = Destination(
            destination, own_name, acceptance, no_code, limit, timeout=timeout, verify=verify, **asdict(approach)
        )
        remember(home.path, used)
    from p2pxfer.cli.receiving import Receiving

    receiving = Receiving(
        options, place, once=once or to_stdout, acceptance=acceptance, code_words=code_words, no_code=no_code,
        timeout=timeout, limit=limit, verify=verify,
    )  # fmt: skip
    made = machine_of(options, home, line, approach, name=own_name)
    return lambda reactor: receiving.run(made(reactor))


def check_together(options: Global, destination: str, *, to_stdout: bool, code: bool, no_code: bool) -> None:
    """Whether what was asked for goes together, and there is something to receive into; ``code``: one was given.

    Raises:
        UsageError: it does not.
        DiskError: see :func:`check_destination`.
    """
    if code and no_code:
        raise UsageError("--code and --no-code contradict each other")
    if to_stdout:
        check_output(options, destination)
    else:
        check_destination(destination)


def check_questions(acceptance: str, *, verify: bool) -> None:
    """Fail early where somebody is to be asked and nobody is there.

    Raises:
        UsageError: that is so.
    """
    if acceptance == "ask" and not inputs.can_answer(0):
        raise UsageError(
            "--accept ask needs somebody to ask, and standard input is no terminal: use --accept contacts (take what"
            " contacts send) or --accept all"
        )
    inputs.check_answerable(verify)


def check_output(options: Global, destination: str) -> None:
    """Fail early where standard output cannot be what is received into.

    Raises:
        UsageError: it is something else already, or nothing.
    """
    if options.json:
        raise UsageError("--stdout makes standard output what is received; --json has no place there")
    if destination != ".":
        raise UsageError("--stdout and --to contradict each other")
    if was_closed(sys.stdout):
        raise UsageError("standard output is closed")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal, which may not get what somebody sends as it is; redirect it")


def check_destination(destination: str) -> None:
    """Fail early where the destination cannot take files.

    Raises:
        UsageError: it is missing or not a directory.
        DiskError: it may not be written, or nothing can be kept there, as in ``/proc``.
    """
    shown = safe_text(destination, 300)
    path = Path(destination)
    if not path.exists():
        raise UsageError(f"the destination {shown} does not exist")
    if not path.is_dir():
        raise UsageError(f"the destination {shown} is not a directory")
    system = os.statvfs(path)
    if not system.f_blocks:
        raise DiskError(f"the destination {shown} is on a file system that holds no data; choose another with --to")
    read_only = system.f_flag & os.ST_RDONLY
    if read_only or not os.access(path, os.W_OK | os.X_OK):
        raise DiskError(f"the destination {shown} cannot be written; choose another with --to")
