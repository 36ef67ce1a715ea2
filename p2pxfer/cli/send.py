"""``p2pxfer send``: files and directories to one peer."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict

from p2pxfer.cli.completing import codes_at_the_prompt, paths_and_contacts
from p2pxfer.cli.inputs import check_answerable, read_code
from p2pxfer.cli.settings import Global, Seconds, approach_options, limit_option, machine_of, was_closed
from p2pxfer.core.approach import Approach
from p2pxfer.core.contact.codes import Code, typed_code
from p2pxfer.core.text import safe_text
from p2pxfer.errors import CodeInvalid, PathRefused, UsageError
from p2pxfer.net.session.knownpeers import check_other, look_up, meant_by, not_a_contact

if TYPE_CHECKING:
    from p2pxfer.cli.fileload import FileLoad
    from p2pxfer.cli.run import Main
    from p2pxfer.cli.sending import Load
    from p2pxfer.cli.sendmemory import SendMemory
    from p2pxfer.net.private.home import Home
    from p2pxfer.net.queue.sendjobs import SendJob
    from p2pxfer.net.session.seeking import Target
    from p2pxfer.net.transfer.scan import Links

NO_PATH_S = 60.0


@click.command("send")
@click.argument(
    "paths", metavar="PATH...", nargs=-1, type=click.Path(readable=False), shell_complete=paths_and_contacts
)
@click.argument("peer")
@click.option(
    "--code-file", metavar="F", type=click.Path(readable=False), help="Read the one-time code from this file."
)
@click.option("--name", metavar="NAME", help="What standard input is called at the receiver.  [default: stdin]")
@click.option(
    "--links", type=click.Choice(["skip", "keep", "follow"]), default="skip", show_default=True,
    help="Symbolic links inside directories: skip: leave them out and say so; keep: send them as links, unless they"
    " lead out of what is sent; follow: send what they point to.",
)  # fmt: skip
@click.option(
    "--delta", is_flag=True,
    help="Where PEER has an older version under the same name, send only what differs; the old one stays as it is.",
)  # fmt: skip
@limit_option
@approach_options
@click.option("--verify", is_flag=True, help="Compare eight words by voice before anything is sent.")
@click.option("--wait", is_flag=True, help="Wait for the peer, however long, where it is not there yet or any more.")
@click.option(
    "--queue", is_flag=True,
    help="Leave it to the agent of this machine, which sends it as soon as PEER, a contact, is there.",
)  # fmt: skip
@click.option(
    "--timeout", metavar="S", type=Seconds(), default=NO_PATH_S, show_default=True,
    help="Longest time without any path to the peer, seconds; with --wait there is no such time.",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context, paths: tuple[str, ...], peer: str, code_file: str | None, name: str | None, links: Links,
    delta: bool, limit: int, approach: Approach, verify: bool, wait: bool, timeout: float, queue: bool,
) -> None:  # fmt: skip
    """Send every PATH to PEER: a contact, a registered name, or a peer id.  The PATH - is standard input.

    The first time, PEER's one-time code is asked for; it may also come from P2PXFER_CODE or --code-file.  A transfer
    that was cut goes on when the same command is run again; standard input goes on over lost connections for as long as
    both programs live.  With --queue nothing is sent by this command: p2pxfer jobs shows what becomes of it.
    """
    if not paths:
        raise UsageError("send needs at least one PATH and a PEER")
    options: Global = ctx.obj
    home = options.open_home()
    check_order(home, paths, peer)
    if queue and verify:
        raise UsageError("--verify needs somebody who compares words, and with --queue nobody is there")
    if queue:
        from p2pxfer.cli.queueing import check_queueable, put

        given = ctx.get_parameter_source("timeout") is not click.core.ParameterSource.DEFAULT
        check_queueable(paths, name, code_file, timed=given)
        put(options, home, list(paths), peer, links, delta, limit, approach)
        return
    from p2pxfer.cli.run import run

    main = prepared(
        options, home, paths, peer, read_code(code_file), name=name, links=links, delta=delta, limit=limit,
        approach=approach, verify=verify, wait=wait, timeout=timeout,
    )  # fmt: skip
    run(main, options.verbose)


def prepared(
    options: Global, home: Home, paths: tuple[str, ...], peer: str, code: Code | None, *, name: str | None,
    links: Links, delta: bool, limit: int, approach: Approach, verify: bool, wait: bool, timeout: float,
) -> Main:  # fmt: skip
    """What such a command runs; all that can be is checked, and a code asked for where one is needed.

    Raises:
        UsageError: it contradicts itself, or there is nothing to send, or no such peer.
        ConfigError: the settings cannot be used.
        DiskError: something cannot be read.
    """
    line = options.server_line(home)
    stream = stream_name(paths, name)
    check_together(stream, delta=delta, verify=verify)
    load: Load
    memory: SendMemory | None = None
    if stream is not None:
        from p2pxfer.cli.streamload import StreamLoad

        load, target = StreamLoad(sys.stdin.fileno(), stream), resolve(home, peer, code)
    else:
        from p2pxfer.net.queue.sendjobs import SendJob, kept_paths

        job = SendJob(
            kept_paths(paths), peer, links, limit, delta=delta, wait=wait, timeout=timeout, verify=verify,
            **asdict(approach),
        )  # fmt: skip
        load, target, memory = files_of(home, paths, job, code)
    from p2pxfer.cli.sending import Sending

    sending = Sending(options, load, target, wait=wait, limit=limit, memory=memory, verify=verify)
    made = machine_of(options, home, line, approach, timeout)
    return lambda reactor: sending.run(made(reactor))


def check_order(home: Home, paths: tuple[str, ...], peer: str) -> None:
    """Fail where PEER was named first, as other programs have it.

    Raises:
        UsageError: the first path is a contact and no file, and the last word is one.
    """
    first = paths[0]
    named = os.path.lexists(peer) and not os.path.lexists(first)
    if named and any(contact.name == first.lower() for contact in home.contacts()):
        raise UsageError(f"PEER comes last: p2pxfer send PATH... {safe_text(first, 64)}")


def check_together(stream: str | None, *, delta: bool, verify: bool) -> None:
    """Whether what was asked for goes together, and there is somebody who compares words.

    Raises:
        UsageError: it does not.
    """
    if delta and stream is not None:
        raise UsageError("--delta is for files; standard input is sent whole")
    if verify and stream is not None:
        raise UsageError("--verify asks at standard input, which is what is sent here")
    check_answerable(verify)


def files_of(
    home: Home, paths: tuple[str, ...], job: SendJob, code: Code | None
) -> tuple[FileLoad, Target, SendMemory]:
    """What ``job`` sends and to whom, and the record of it, which is begun when both are known.

    Raises:
        P2pxferError: see :meth:`~p2pxfer.net.transfer.source.Source.open` and :func:`resolve`; the same is being sent.
    """
    from p2pxfer.cli.fileload import FileLoad
    from p2pxfer.cli.sendmemory import SendMemory
    from p2pxfer.net.transfer.source import Source

    source = Source.open(list(paths), job.links)
    try:
        target = resolve(home, job.peer, code)
        memory = SendMemory(home, job, source)
    except BaseException:
        source.close()
        raise
    return FileLoad(source, home.path, delta=job.delta), target, memory


def stream_name(paths: tuple[str, ...], name: str | None) -> str | None:
    """What standard input is to be called, ``None`` where it is not what is sent.

    Raises:
        UsageError: it cannot be sent, or not in this way, or not under this name.
    """
    from p2pxfer.core.transfer.streams import DEFAULT_NAME, check_stream_name

    if "-" not in paths:
        if name is not None:
            raise UsageError("--name is for standard input; a file is sent under its own name")
        return None
    if len(paths) > 1:
        raise UsageError("standard input (-) is sent alone, without other paths; ./- is a file of that name")
    if was_closed(sys.stdin):
        raise UsageError("standard input is closed")
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; - sends what another program or a file gives to it")
    try:
        check_stream_name(name or DEFAULT_NAME)
    except PathRefused as error:
        raise UsageError(error.message) from error
    return name or DEFAULT_NAME


def resolve(home: Home, peer: str, code: Code | None) -> Target:
    """Who PEER is, and how its key is known; asks for a code when it is not.

    Raises:
        UsageError: no such peer can exist, or there is nobody to ask for a code.
    """
    from p2pxfer.net.session.seeking import Target

    check_other(home, peer)
    number, name, contact = look_up(home, peer)
    if contact is not None:
        # A code at hand is kept for the case that the peer has forgotten this machine: a spent one from the
        # environment must not stop a transfer that goes on.
        return Target(str(contact.id), contact.id.digest, None, contact.name, "contact", code)
    if number is not None:
        return Target(str(number), number.digest, None, None, "code" if code else "id", code)
    return Target(name, None, name, None, "code", code or ask_code(home, name))


def ask_code(home: Home, name: str) -> Code:
    """Ask the person at the terminal for the code of ``name``, who is no contact, which may be a slip."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"{not_a_contact(home, name)}: give the one-time code that {name} shows, in P2PXFER_CODE or with"
            " --code-file"
        )
    meant = meant_by(home, name)
    click.echo(f"no contact is called {name}{f'; {meant}' if meant else ' yet'}", err=True)
    try:
        with codes_at_the_prompt():
            return prompted_code(name)
    except click.Abort:
        with suppress(OSError):  # the terminal may be closed
            click.echo(err=True)  # what follows is not part of the prompt's line
        raise
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise click.Abort from error  # the terminal is closed; its signal may come later


def prompted_code(name: str) -> Code:
    """The code of ``name`` that is typed, asked for until it is one; click's own word for what is none would be another
    than that of every other error here.

    Raises:
        click.Abort: the person gave up.
    """
    while True:
        text: str = click.prompt(f"one-time code of {name}", hide_input=False, err=True)
        try:
            return typed_code(text)
        except CodeInvalid as error:
            click.echo(f"p2pxfer: {error.message}", err=True)
