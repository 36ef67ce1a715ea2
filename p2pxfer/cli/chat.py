"""``p2pxfer chat``: lines of text with one contact."""

from __future__ import annotations

import sys
from typing import Literal

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, Seconds, approach_options, machine_of
from p2pxfer.core.approach import Approach
from p2pxfer.core.contact.rights import Right
from p2pxfer.errors import UsageError


@click.command("chat")
@click.argument("peer", shell_complete=contact_names)
@click.option(
    "--to", "destination", metavar="DIR", default=".", show_default="here", type=click.Path(readable=False),
    help="Store the files that the peer sends in this directory.",
)  # fmt: skip
@click.option(
    "--accept", "acceptance", type=click.Choice(["ask", "contacts", "none"]), default="contacts", show_default=True,
    help="Files of the peer: ask: /accept or /refuse each; contacts: take them; none: refuse them.",
)  # fmt: skip
@click.option(
    "--history/--no-history",
    "history",
    default=None,
    help="Keep what is said on this machine.  [default: as init says]",
)
@click.option("--commands", is_flag=True, help="Lines that begin with / are commands, although no terminal is there.")
@click.option("--verify", is_flag=True, help="Compare eight words by voice before anything is said.")
@click.option("--stay", is_flag=True, help="After the end of the input stay until the peer has no more lines either.")
@approach_options
@click.option(
    "--timeout", metavar="S", default=60.0, show_default=True, type=Seconds(),
    help="Longest time in which nothing of the input is delivered, after its end or when it must wait, seconds.",
)  # fmt: skip
@click.pass_obj
def command(
    options: Global, peer: str, destination: str, acceptance: Literal["ask", "contacts", "none"], history: bool | None,
    commands: bool, verify: bool, stay: bool, approach: Approach, timeout: float,
) -> None:  # fmt: skip
    """Talk with PEER, a contact that runs chat as well: each line typed is shown there, and the other way round.

    Lines for a peer that is not there wait on this machine and are delivered when both chat again.  At a terminal /send
    PATH sends a file, /history shows what was said last, /quit ends it, /help tells more.  Without a terminal every
    line of standard input is one of text, and what the peer says is written to standard output.
    """
    from p2pxfer.cli.receive import check_destination
    from p2pxfer.net.session.knownpeers import known_peer

    check_destination(destination)
    if verify and not (commands or sys.stdin.isatty()):
        raise UsageError("--verify needs somebody who answers: a terminal, or --commands")
    home = options.open_home()
    line = options.server_line(home)
    whom = known_peer(home, peer, "a chat", Right.CHAT)
    from p2pxfer.cli.chatmanners import Manners
    from p2pxfer.cli.chatroom import ChatRoom
    from p2pxfer.cli.run import run
    from p2pxfer.net.services.chatstore import ChatStore

    kept = home.settings().history if history is None else history
    manners = Manners(destination, acceptance, kept, commands, verify, stay, timeout)
    made = machine_of(options, home, line, approach)
    room = ChatRoom(options, ChatStore(home.path, whom.key), whom, manners)
    run(lambda reactor: room.run(made(reactor)), options.verbose)
