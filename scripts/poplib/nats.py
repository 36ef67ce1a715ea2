"""Modelled NATs and firewalls: what a box makes of a SYN that leaves and of one that comes.

The words are those of RFC 4787 and RFC 5382.  Nothing here knows of sockets or of time but as an argument; a box keeps
what it has seen for as long as the model runs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Address = tuple[str, int]
Mapping = Literal["none", "endpoint-independent", "address-dependent", "port-dependent", "connection-dependent"]
Ports = Literal["preserving", "random", "sequential", "first-preserved"]
Answer = Literal["drop", "rst", "icmp", "rst-limited"]

RST_RATE, RST_BURST = 25.0, 50.0
"""How many RST a box sends that limits them, a second and at once (the defaults of OpenWrt)."""
_DRAWS = 64
"""How often a box draws again for a port that is taken; then it has none and the SYN is lost."""


@dataclass(frozen=True)
class NatKind:
    """One kind of box.

    ``mapping``: one port for all destinations, one for each address, for each endpoint, or for each connection even
    between the same endpoints; ``none`` translates nothing and only filters.  ``ports``: how a port is chosen, from
    ``low`` to ``high`` if at random, each ``step`` above the last if in sequence, after ``high`` from ``low`` on;
    ``first-preserved`` keeps the number for the first mapping of a local port and draws for the others, as no two
    mappings get one port.  ``filtering``: who may send to a mapped port.  ``unsolicited``: the answer to a SYN that may
    not pass.  ``simo``: a bare SYN may enter a flow that was opened from inside (simultaneous open).  ``busy``:
    connections of other machines behind the same box, each second.  ``addresses``: outside addresses, of which every
    new mapping gets any.
    """

    mapping: Mapping = "endpoint-independent"
    ports: Ports = "preserving"
    filtering: Literal["none", "address", "port"] = "port"
    unsolicited: Answer = "drop"
    simo: bool = True
    low: int = 1024
    high: int = 65535
    step: int = 1
    busy: float = 0.0
    addresses: int = 1


OPEN = NatKind(mapping="none", filtering="none")
"""No box at all."""


class Nat:
    """One box; ``hosts`` are its outside addresses."""

    def __init__(self, kind: NatKind, address: str, rng: random.Random) -> None:
        self.kind = kind
        self.hosts = [address, *(f"{address}{number}" for number in range(1, kind.addresses))]
        self.rng = rng
        self.mapping: dict[object, Address] = {}
        self.inside: dict[Address, int] = {}
        self.flows: dict[tuple[Address, Address], int] = {}
        self.permitted: set[tuple[Address, str]] = set()
        self._next = rng.randrange(40000, 41000)
        self._since = 0.0
        self._tokens, self._refilled = RST_BURST, 0.0
        self._mapped: Address | None = None
        self.latest = 0

    @property
    def address(self) -> str:
        return self.hosts[0]

    @property
    def tracks(self) -> bool:
        """Whether it keeps connections in mind at all."""
        return self.kind.mapping != "none" or self.kind.filtering != "none"

    def out(self, local: int, remote: Address, now: float) -> Address | None:
        """The outside endpoint of a SYN from ``local`` to ``remote``, whose flow exists from now on.

        ``None`` if all ports are taken.
        """
        key = self._key(local, remote)
        outside = self.mapping.get(key)
        if outside is None:
            if (outside := self._choose(local, remote, now)) is None:
                return None
            self.mapping[key] = outside
            self.inside[outside] = local
            self.latest = outside[1]
        self.flows[outside, remote] = local
        self.permitted.add((outside, remote[0]))
        return outside

    def open_port(self, local: int, outside: int) -> Address:
        """Map ``outside`` to ``local`` for everybody, as a router does when it is asked by UPnP, NAT-PMP or PCP."""
        self.inside[self.address, outside] = local
        self._mapped = (self.address, outside)
        return self._mapped

    def forget(self, local: int, remote: Address) -> Address | None:
        """A RST passed: the flow is gone, and its mapping if it was of this destination alone; where it was."""
        key = self._key(local, remote)
        outside = self.mapping.get(key)
        if outside is not None:
            self.flows.pop((outside, remote), None)
            if self.kind.mapping in ("port-dependent", "connection-dependent"):
                del self.mapping[key]
                if self.kind.ports == "first-preserved":
                    del self.inside[outside]
        return outside

    def closed(self, local: int, remote: Address) -> Address | None:
        """The connection from ``local`` to ``remote`` was given up; where its SYNs came from."""
        outside = self.mapping.get(self._key(local, remote))
        if self.kind.mapping == "connection-dependent":
            self.mapping.pop((local, remote), None)
        return outside

    def lets_in(self, to: Address, source: Address) -> int | None:
        """The inside port that a bare SYN from ``source`` to the outside endpoint ``to`` reaches."""
        if to == self._mapped:
            return self.inside[to]
        if (to, source) in self.flows:
            return self.flows[to, source] if self.kind.simo else None
        filtering = self.kind.filtering
        if filtering == "none" or (filtering == "address" and (to, source[0]) in self.permitted):
            return to[1] if self.kind.mapping == "none" else self.inside.get(to)
        return None

    def answer(self, to: Address, source: Address, now: float) -> Literal["drop", "rst", "icmp"]:
        """What is sent back to a SYN that was not let in."""
        kind = self.kind.unsolicited
        if (to, source) in self.flows:
            return "drop"  # The SYN of a simultaneous open, which this box does not know.
        if kind != "rst-limited":
            return kind
        self._tokens = min(RST_BURST, self._tokens + (now - self._refilled) * RST_RATE)
        self._refilled = now
        if self._tokens < 1:
            return "drop"
        self._tokens -= 1
        return "rst"

    def _key(self, local: int, remote: Address) -> object:
        match self.kind.mapping:
            case "none" | "endpoint-independent":
                return local
            case "address-dependent":
                return local, remote[0]
            case _:
                return local, remote

    def _choose(self, local: int, remote: Address, now: float) -> Address | None:
        host = self.hosts[int(self.rng.random() * len(self.hosts))] if len(self.hosts) > 1 else self.hosts[0]
        kind = self.kind
        if kind.mapping == "none" or kind.ports == "preserving":
            return host, local
        if kind.ports == "first-preserved" and (host, local) not in self.inside:
            return host, local
        if kind.ports != "sequential":
            for _ in range(_DRAWS):
                outside = host, kind.low + int(self.rng.random() * (kind.high - kind.low + 1))
                if (outside, remote) not in self.flows and (kind.ports == "random" or outside not in self.inside):
                    return outside
            return None
        while kind.busy:
            gap = self.rng.expovariate(kind.busy)
            if self._since + gap > now:
                break
            self._since += gap
            self._step()
        self._since = now
        return host, self._step()

    def _step(self) -> int:
        self._next += self.kind.step
        if self._next > self.kind.high:
            self._next = self.kind.low
        return self._next
