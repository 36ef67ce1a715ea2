"""``p2pxfer netcheck``: what the network does with connections from this machine, and between it and a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2pxfer.cli.settings import Global, Seconds, gentle_option, mapping_option, path_option
from p2pxfer.core.messages import PathPolicy
from p2pxfer.errors import Refused, UsageError

if TYPE_CHECKING:
    from p2pxfer.core.rights import Right
    from p2pxfer.net.home import Home
    from p2pxfer.net.peercheck import Checkee
    from p2pxfer.net.types import Reactor

ALONE_S, WITH_PEER_S = 20.0, 90.0


@click.command("netcheck")
@click.argument("peer", required=False)
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
    checkee = None if peer is None else known_peer(home, peer, "a check")
    from p2pxfer.cli.checking import Checking, Pair
    from p2pxfer.cli.run import run

    pair = None if checkee is None else Pair(checkee, options.own_name(home, None), policy, gentle)
    timeout = timeout or (ALONE_S if pair is None else WITH_PEER_S)
    checking = Checking(options, home, line, timeout, port_mapping, pair)

    async def main(reactor: Reactor) -> None:
        await checking.run(reactor)

    run(main, options.verbose)


def known_peer(home: Home, peer: str, what: str, right: Right | None = None) -> Checkee:
    """The contact ``peer``, by its name or id, or whoever has that id; ``what`` is to be done with it.

    ``right`` is what the contact must be allowed here for that.

    Raises:
        UsageError: it is no contact: no code is used, and a receiver answers nobody else.
        Refused: it is denied that.
    """
    from p2pxfer.cli.send import as_id
    from p2pxfer.core.names import check_name, normalise_name
    from p2pxfer.net.peercheck import Checkee

    number = as_id(peer)
    name = "" if number is not None else check_name(normalise_name(peer))
    contact = home.contact(name) if number is None else home.contact_by_id(number)
    if contact is not None:
        if right is not None and not contact.allows(right):
            raise Refused(f"{contact.name} is denied {right} here; p2pxfer contacts allow {contact.name} {right}")
        return Checkee(contact.id.digest, contact.name, "contact")
    if number is not None:
        return Checkee(number.digest, None, "id")
    raise UsageError(
        f"{name} is not a contact, and {what} is made between contacts only: send {name} something first, with its"
        " one-time code"
    )
