"""``p2pxfer netcheck``: what the network does with connections from this machine, and between it and a peer."""

from __future__ import annotations

import click

from p2pxfer.cli.completing import contact_names
from p2pxfer.cli.settings import Global, Seconds, gentle_option, machine_of, mapping_option, path_option
from p2pxfer.core.approach import Approach
from p2pxfer.core.messages import PathPolicy
from p2pxfer.errors import UsageError
from p2pxfer.net.session.knownpeers import known_peer

ALONE_S, WITH_PEER_S = 20.0, 90.0


@click.command("netcheck")
@click.argument("peer", required=False, shell_complete=contact_names)
@path_option
@gentle_option
@click.option(
    "--timeout", metavar="S", type=Seconds(),
    help=f"Longest time for all of it, seconds.  [default: {ALONE_S:g}, with PEER {WITH_PEER_S:g}]",
)  # fmt: skip
@mapping_option
@click.pass_obj
def command(
    options: Global, peer: str | None, policy: PathPolicy, gentle: bool, timeout: float | None, port_mapping: bool
) -> None:
    """Find out how the NAT in front of this machine treats TCP connections, and what follows for direct paths.

    Talks to the rendezvous server, where it registers no name, and to the router.  With PEER, a contact that runs
    p2pxfer receive, the two connect as for a transfer, though nothing is offered: which path they get, how fast, and
    why.
    """
    if peer is None and (policy != "auto" or gentle):
        raise UsageError("--path and --gentle are about a check with a PEER")
    home = options.open_home()
    line = options.server_line(home)
    whom = None if peer is None else known_peer(home, peer, "a check")
    made = machine_of(options, home, line, Approach(policy, gentle, port_mapping))
    from p2pxfer.cli.checking import Checking
    from p2pxfer.cli.run import run

    checking = Checking(options, timeout or (ALONE_S if whom is None else WITH_PEER_S), whom)
    run(lambda reactor: checking.run(made(reactor)), options.verbose)
