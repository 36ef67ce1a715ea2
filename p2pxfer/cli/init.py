"""``p2pxfer init``: store the server and the name, make the identity."""

from __future__ import annotations

import os

import click

from p2pxfer.cli.settings import Global
from p2pxfer.core.names import check_name, normalise_name
from p2pxfer.core.serveraddress import parse_server_line


@click.command("init")
@click.option("--as", "name", metavar="NAME", help="The name under which peers find this machine.")
@click.pass_obj
def command(options: Global, name: str | None) -> None:
    """Store --server and the name in the private directory and make this machine's key.

    What is not given stays as it is.  The private directory itself is chosen by --home or P2PXFER_HOME.
    """
    from p2pxfer.net.home import Settings

    home = options.open_home()
    old = home.settings()
    server = options.server or os.environ.get("P2PXFER_SERVER") or old.server
    if server:
        parse_server_line(server)
    chosen = check_name(normalise_name(name)) if name else old.name
    home.save_settings(Settings(server=server, name=chosen))
    identity = home.identity()
    click.echo(f"this machine   {identity.id}", err=options.json)
    click.echo(f"name           {chosen or '(user name)'}", err=options.json)
    click.echo(f"server         {server or '(none yet: give --server HOST:PORT#PIN)'}", err=options.json)
    click.echo(f"private files  {home.path}", err=options.json)
