"""``p2pxfer connect``: a service that a contact exposes, at a port of this machine or at standard input and output."""

from __future__ import annotations

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, Seconds, approach_options, machine_of
from p2pxfer.core.approach import Approach
from p2pxfer.core.session.services import parse_target, parse_wanted
from p2pxfer.errors import Interrupted, UsageError


@click.command("connect")
@click.argument("wanted", metavar="PEER[:SERVICE]", shell_complete=contact_names)
@click.option(
    "--listen", "listen", metavar="[HOST:]PORT", required=True,
    help="Where connections are taken, at 127.0.0.1 unless HOST says otherwise; - for standard input and output.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for a PEER that does not expose the service yet.")
@approach_options
@click.option(
    "--timeout", metavar="S", default=60.0, show_default=True, type=Seconds(),
    help="How long connections are kept, and new ones wait, without any path to the peer, seconds.",
)  # fmt: skip
@click.pass_context
def command(ctx: click.Context, wanted: str, listen: str, wait: bool, approach: Approach, timeout: float) -> None:
    """Connect to SERVICE, which PEER, a contact, exposes to this machine.

    Paths may change and the server may be started anew meanwhile: connections go on.  If PEER exposes the service anew,
    connections are reset, and new ones go there.  For ssh:

    ssh -o ProxyCommand='p2pxfer connect alice:ssh --listen -' alice
    """
    options: Global = ctx.obj
    peer, service = parse_wanted(wanted)
    if options.json and listen == "-":
        raise UsageError("the standard output is what the service sends; --json has no place there")
    at = None if listen == "-" else parse_target(listen, "127.0.0.1")
    home = options.open_home()
    line = options.server_line(home)
    from p2pxfer.net.session.knownpeers import known_peer

    whom = known_peer(home, peer, "a service")
    made = machine_of(options, home, line, approach, timeout)
    from p2pxfer.cli.run import run

    if at is not None:
        from p2pxfer.cli.connecting import Connecting

        connecting = Connecting(options, whom, service, *at, expected=wait)
        run(lambda reactor: connecting.run(made(reactor)), options.verbose)
        return
    from p2pxfer.cli.piping import Piping, Wanted

    piping = Piping(options, whom, Wanted(service, wait))
    try:
        run(lambda reactor: piping.run(made(reactor)), options.verbose)
    except Interrupted as end:
        # ssh ends its proxy in this way, and its user should not read about it.
        ctx.exit(end.exit_code)
