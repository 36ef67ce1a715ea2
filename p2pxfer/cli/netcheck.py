"""``p2pxfer netcheck``: what the network does with connections from this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2pxfer.cli.settings import Global, Seconds

if TYPE_CHECKING:
    from p2pxfer.net.types import Reactor


@click.command("netcheck")
@click.option(
    "--timeout", metavar="S", type=Seconds(), default=20.0, show_default=True,
    help="Longest time for all of it, seconds; what is not known by then is unknown.",
)  # fmt: skip
@click.pass_obj
def command(options: Global, timeout: float) -> None:
    """Find out how the NAT in front of this machine treats TCP connections, and what follows for direct paths.

    Talks to the rendezvous server only, and registers no name there.
    """
    home = options.open_home()
    line = options.server_line(home)
    from p2pxfer.cli.checking import Checking
    from p2pxfer.cli.run import run

    checking = Checking(options, home, line, timeout)

    async def main(reactor: Reactor) -> None:
        await checking.run(reactor)

    run(main, options.verbose)
