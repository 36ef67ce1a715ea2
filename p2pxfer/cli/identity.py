"""``p2pxfer id``: this machine's peer id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.settings import Global

if TYPE_CHECKING:
    from p2pxfer.net.private.home import Home


@click.command("id")
@click.pass_obj
def command(options: Global) -> None:
    """Show the peer id of this machine: the fingerprint of its key, with check characters."""
    home = options.open_home()
    if options.json:
        print_identity(home)
    else:
        click.echo(str(home.identity().id))


def print_identity(home: Home) -> None:
    """This machine as an event."""
    from p2pxfer.inventory import Identity

    stored = home.settings()
    print_event(Identity(str(home.identity().id), stored.name or "", stored.server or "", str(home.path)))
