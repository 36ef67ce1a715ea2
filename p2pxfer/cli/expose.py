"""``p2pxfer expose``: TCP services of this machine for some contacts."""

from __future__ import annotations

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, Seconds, approach_options, machine_of
from p2pxfer.core.approach import Approach
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.session.services import DEFAULT_SERVICE, parse_offered


@click.command("expose")
@click.argument("targets", metavar="[NAME=]HOST:PORT...", nargs=-1, required=True)
@click.option(
    "--to", "peers", metavar="PEER", multiple=True, required=True, shell_complete=contact_names,
    help="Who may use them, a contact; once for each.  Nobody else may.",
)  # fmt: skip
@click.option(
    "--as", "called", metavar="NAME", show_default=DEFAULT_SERVICE,
    help="What they call a single HOST:PORT without NAME: p2pxfer connect THIS-MACHINE:NAME.",
)  # fmt: skip
@approach_options
@click.option(
    "--timeout", metavar="S", default=60.0, show_default=True, type=Seconds(),
    help="How long the connections of a PEER are kept without any path to it, seconds.",
)  # fmt: skip
@click.pass_obj
def command(
    options: Global, targets: tuple[str, ...], peers: tuple[str, ...], called: str | None,
    approach: Approach, timeout: float,
) -> None:  # fmt: skip
    """Let each PEER connect to HOST:PORT as this machine does, with p2pxfer connect, until this command is stopped.

    Several get a NAME each, by which PEER asks for them: web=127.0.0.1:80 ssh=127.0.0.1:22.  Nothing but each HOST:PORT
    can be reached.
    """
    offered = parse_offered(targets, called)
    home = options.open_home()
    line = options.server_line(home)
    from p2pxfer.net.session.knownpeers import known_peer

    guests = [known_peer(home, peer, "a service", Right.SERVICES) for peer in peers]
    from p2pxfer.cli.exposing import Exposing
    from p2pxfer.cli.run import run

    exposing = Exposing(options, offered, guests)
    made = machine_of(options, home, line, approach, timeout)
    run(lambda reactor: exposing.run(made(reactor)), options.verbose)
