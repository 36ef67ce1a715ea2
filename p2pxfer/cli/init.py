"""``p2pxfer init``: store the server and the name, make the identity."""

from __future__ import annotations

import os

import click

from p2pxfer.cli.settings import Global
from p2pxfer.core.names import normalise_name
from p2pxfer.core.serveraddress import parse_server_line


@click.command("init")
@click.option("--as", "name", metavar="NAME", help="The name under which peers find this machine.")
@click.option("--history/--no-history", "history", default=None, help="Whether chats are kept on this machine.")
@click.pass_obj
def command(options: Global, name: str | None, history: bool | None) -> None:
    """Store --server and the name in the private directory and make this machine's key.

    What is not given stays as it is, and what was stored before stays beside it, in settings.json.bak.  The private
    directory itself is chosen by --home or P2PXFER_HOME.
    """
    from p2pxfer.net.private.home import Settings

    given = options.server or os.environ.get("P2PXFER_SERVER")
    if given:
        parse_server_line(given)  # before there is a directory: nothing is left of a slip
    called = None if name is None else normalise_name(name)
    home = options.open_home()
    old = home.settings()
    server, chosen = given or old.server, called or old.name
    line = parse_server_line(server) if server else None
    new = Settings(server=server, name=chosen, history=old.history if history is None else history)
    if new != old:  # else the settings before these would give way to the same ones
        home.save_settings(new)
    if options.json:
        from p2pxfer.cli.identity import print_identity

        print_identity(home)
        return
    click.echo(f"this machine   {home.identity().id}")
    click.echo(f"name           {chosen or '(user name)'}")
    click.echo(f"server         {server or '(none yet: give --server HOST:PORT#PIN)'}")
    click.echo(f"private files  {home.path}")
    if line is not None and line.pin is None:
        click.echo(
            "without a #PIN in its address the server must show a certificate that this machine trusts", err=True
        )
