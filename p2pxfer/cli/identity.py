"""``p2pxfer id``: this machine's peer id."""

from __future__ import annotations

import click

from p2pxfer.cli.settings import Global


@click.command("id")
@click.pass_obj
def command(options: Global) -> None:
    """Show the peer id of this machine: the fingerprint of its key, with check characters."""
    click.echo(str(options.open_home().identity().id))
