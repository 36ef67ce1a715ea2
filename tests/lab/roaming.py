"""Bob's laptop at a cable of alice's LAN, and carried to another network, behind a router of its own."""

from __future__ import annotations

from tests.lab.topology import Lab

ROUTER, GUEST = 1, 30
"""The last numbers of a router's address in its LAN, and of bob's in alice's."""


def visit(lab: Lab) -> None:
    """Plug bob's cable, which leads to nat_b, into alice's LAN.

    What alice's router has as `lan` is a bridge of both cables from then on: what the two send each other passes none
    of its rules.
    """
    lab.ip("nat_a", "addr flush dev lan\nlink set lan down\nlink set lan name lan-1\n")
    lab.ip("nat_b", f"link set lan netns {lab.names['nat_a']} name lan-2\n")
    cables = "".join(f"link set {cable} master lan up\n" for cable in ("lan-1", "lan-2"))
    router = _in_lan_of(lab, "alice", ROUTER)
    lab.ip("nat_a", f"link add name lan type bridge\n{cables}link set lan up\naddr add {router}/24 dev lan\n")
    _come_up(lab, _in_lan_of(lab, "alice", GUEST), router)


def leave(lab: Lab) -> None:
    """Carry bob to the network behind nat_b: his link goes down, and comes up there with another address."""
    lab.ip("bob", "link set eth0 down\n")
    lab.ip("nat_a", f"link set lan-2 nomaster down\nlink set lan-2 netns {lab.names['nat_b']} name lan\n")
    router = _in_lan_of(lab, "bob", ROUTER)
    lab.ip("nat_b", f"link set lan up\naddr add {router}/24 dev lan\n")
    _come_up(lab, lab.addr("bob"), router)


def _in_lan_of(lab: Lab, role: str, number: int) -> str:
    return f"{lab.addr(role).rpartition('.')[0]}.{number}"


def _come_up(lab: Lab, address: str, router: str) -> None:
    made = f"addr add {address}/24 dev eth0\nroute replace default via {router}\n"
    lab.ip("bob", f"addr flush dev eth0\nlink set eth0 up\n{made}")
