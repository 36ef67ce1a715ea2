"""``p2pxfer pipe``: standard input and output of two machines, joined."""

from __future__ import annotations

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, Seconds, approach_options, machine_of
from p2pxfer.core.approach import Approach
from p2pxfer.core.contact.rights import Right
from p2pxfer.errors import UsageError
from p2pxfer.net.session.knownpeers import known_peer


@click.command("pipe")
@click.argument("peer", shell_complete=contact_names)
@approach_options
@click.option(
    "--timeout", metavar="S", default=60.0, show_default=True, type=Seconds(),
    help="Longest time without any path to the peer, seconds; also how long the first side waits for the other one.",
)  # fmt: skip
@click.pass_obj
def command(options: Global, peer: str, approach: Approach, timeout: float) -> None:
    """Send standard input to PEER and write what it sends to standard output; PEER is a contact that does the same.

    Whoever writes waits for who reads.  A path that is lost costs no byte and doubles none.  It ends when both inputs
    have ended and everything was written at the other end; a terminal is no input.  Where PEER does not run pipe within
    the --timeout, the exit code is 3.
    """
    if options.json:
        raise UsageError("the standard output of pipe is what the peer sends; --json has no place there")
    home = options.open_home()
    line = options.server_line(home)
    whom = known_peer(home, peer, "a pipe", Right.PIPE)
    made = machine_of(options, home, line, approach, timeout)
    from p2pxfer.cli.piping import Piping
    from p2pxfer.cli.run import run

    piping = Piping(options, whom)
    run(lambda reactor: piping.run(made(reactor)), options.verbose)
