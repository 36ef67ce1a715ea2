"""Machines that change their place: a host that gets another address, and bob's laptop, which leaves alice's LAN."""

from __future__ import annotations

import ipaddress

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


def move(lab: Lab, role: str) -> None:
    """Give a host of a home another address, and take away the one that it has."""
    shown = lab.run(role, ["ip", "-o", "-4", "addr", "show", "dev", "eth0"], check=True).stdout
    old = ipaddress.ip_interface(shown.split()[3])
    new = old.ip + 20
    router = lab.run(role, ["ip", "-o", "route", "show", "default"], check=True).stdout.split()[2]
    for words in (f"addr del {old} dev eth0", f"addr add {new}/24 dev eth0", f"route replace default via {router}"):
        lab.run(role, ["ip", *words.split()], check=True)
