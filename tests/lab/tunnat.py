"""NATs that the kernel's cannot imitate: a line between two TUN devices that also translates, in user space.

`python tunnat.py SHAPE LEFT:RIGHT[:OUTSIDE:KIND]...` is the program of `delay`, but for pairs with more words: there
the left end is the inside, and OUTSIDE the one outside address. Such a NAT passes TCP only, forgets nothing while it
runs but the oldest of `MOST` flows, and drops what is unsolicited.

Like `delay` it imports little and nothing of this package, as it is started alone.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING or __package__:
    from tests.lab import delay
else:  # started as a program, without a path to anything
    sys.path.insert(0, str(Path(__file__).parent))
    import delay  # the same file, found in another way

TunMapping = Literal["by-connection", "first-preserved"]
MOST: Final = 100_000
"""Flows that one NAT remembers."""
_VNET: Final = 10
"""Bytes of the virtio header in front of every packet."""
_NEEDS_CSUM: Final = 1
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_TCP: Final = 6

Endpoint = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class TunKind:
    """How such a NAT chooses the outside port of a connection; only the endpoint that was dialled may answer.

    `mapping`: "by-connection" draws one at random from `low` to `high` for every new connection, also for one between
    endpoints that had one before: a SYN with another sequence number is a new one, one with the same is repeated.
    With a reset, either way, a connection gives its port back.
    "first-preserved" keeps the inside port for the first connection from it, and draws for all others, since it gives
    no port to two connections at a time; the same two endpoints keep theirs.
    """

    mapping: TunMapping
    low: int = 1024
    high: int = 65535

    @property
    def name(self) -> str:
        """The short name, as in the table of kinds."""
        return self.mapping if (self.low, self.high) == (1024, 65535) else f"{self.mapping}-{self.high - self.low + 1}"

    def encode(self) -> str:
        """The kind as one command-line word."""
        return f"{self.mapping},{self.low},{self.high}"

    @classmethod
    def decode(cls, word: str) -> TunKind:
        """The kind that `encode` wrote. Raises `ValueError` for anything else."""
        name, low, high = word.split(",")
        mappings: tuple[TunMapping, ...] = get_args(TunMapping)
        for mapping in mappings:
            if mapping == name:
                return cls(mapping, int(low), int(high))
        raise ValueError(f"no such mapping: {name}")


@dataclass(slots=True)
class _Flow:
    """One connection from inside: its outside port, and the sequence number of the SYN that made it."""

    port: int
    number: int


class TunNat:
    """The state of one NAT; `draw` returns a uniform number in [0, 1)."""

    def __init__(self, kind: TunKind, outside: str, draw: Callable[[], float]) -> None:
        self._kind = kind
        self._outside = socket.inet_aton(outside)
        self._draw = draw
        self._flows: dict[tuple[Endpoint, Endpoint], _Flow] = {}
        self._inside: dict[tuple[int, Endpoint], Endpoint] = {}
        self._users: dict[int, int] = {}
        """Outside port -> how many flows have it."""

    def out(self, packet: bytes) -> bytes | None:
        """The packet from inside as it leaves; None if it does not."""
        found = _Packet.parse(packet)
        if found is None:
            return None
        flow = self._flows.get((found.source, found.target))
        if found.opens and (flow is None or self._is_new(flow, found.number)):
            if flow is not None:
                self._forget(found.source, found.target)
            flow = self._remember(found, self._choose(found.source[1]))
        if flow is None:
            return None
        self._ends(found, found.source, found.target)
        return found.rewritten(source=(self._outside, flow.port))

    def back(self, packet: bytes) -> bytes | None:
        """The packet from outside as it comes in; None if it may not."""
        found = _Packet.parse(packet)
        if found is None or found.target[0] != self._outside:
            return None
        inside = self._inside.get((found.target[1], found.source))
        if inside is None:
            return None
        self._ends(found, inside, found.source)
        return found.rewritten(target=inside)

    def _ends(self, found: _Packet, inside: Endpoint, there: Endpoint) -> None:
        if self._kind.mapping == "by-connection" and found.flags & _RST:
            self._forget(inside, there)

    def _is_new(self, flow: _Flow, number: int) -> bool:
        return self._kind.mapping == "by-connection" and number != flow.number

    def _choose(self, inside: int) -> int | None:
        if self._kind.mapping == "first-preserved" and inside not in self._users:
            return inside
        for _ in range(256):
            port = self._kind.low + int(self._draw() * (self._kind.high - self._kind.low + 1))
            if port not in self._users:
                return port
        return None

    def _remember(self, found: _Packet, port: int | None) -> _Flow | None:
        if port is None:
            return None
        if len(self._flows) >= MOST:
            self._forget(*next(iter(self._flows)))
        flow = self._flows[found.source, found.target] = _Flow(port, found.number)
        self._inside[port, found.target] = found.source
        self._users[port] = self._users.get(port, 0) + 1
        return flow

    def _forget(self, source: Endpoint, target: Endpoint) -> None:
        flow = self._flows.pop((source, target))
        del self._inside[flow.port, target]
        self._users[flow.port] -= 1
        if not self._users[flow.port]:
            del self._users[flow.port]


@dataclass(frozen=True, slots=True)
class _Packet:
    """A TCP segment behind its virtio and IPv4 headers; `transport` is where the TCP header begins."""

    data: bytes
    transport: int
    source: Endpoint
    target: Endpoint
    number: int
    flags: int

    @property
    def opens(self) -> bool:
        """It is a bare SYN."""
        return self.flags & (_FIN | _SYN | _RST | _ACK) == _SYN

    @classmethod
    def parse(cls, data: bytes) -> _Packet | None:
        """The segment; None for what is none."""
        if len(data) < _VNET + 40 or data[_VNET] >> 4 != 4 or data[_VNET + 9] != _TCP:
            return None
        transport = _VNET + (data[_VNET] & 15) * 4
        sport, dport, number = struct.unpack_from("!HHI", data, transport)
        source, target = (data[_VNET + at : _VNET + at + 4] for at in (12, 16))
        return cls(data, transport, (source, sport), (target, dport), number, data[transport + 13])

    def rewritten(self, source: Endpoint | None = None, target: Endpoint | None = None) -> bytes:
        """The same with another source or target, and checksums that fit (RFC 1624)."""
        data = bytearray(self.data)
        addresses = ports = 0
        for new, old, host_at, port_at in ((source, self.source, 12, 0), (target, self.target, 16, 2)):
            if new is not None:
                addresses += _sum(new[0]) - _sum(old[0])
                ports += new[1] - old[1]
                data[_VNET + host_at : _VNET + host_at + 4] = new[0]
                struct.pack_into("!H", data, self.transport + port_at, new[1])
        _adjust(data, _VNET + 10, addresses)
        if data[0] & _NEEDS_CSUM:
            # The kernel has summed up the pseudo header only, and whoever sends the packet completes it.
            (summed,) = struct.unpack_from("!H", data, self.transport + 16)
            struct.pack_into("!H", data, self.transport + 16, _folded(summed + addresses))
        else:
            _adjust(data, self.transport + 16, addresses + ports)
        return bytes(data)


def _sum(address: bytes) -> int:
    return sum(struct.unpack("!HH", address))


def _folded(value: int) -> int:
    """A sum in ones' complement; negative ones wrap round as well."""
    return value % 0xFFFF or (0xFFFF if value else 0)


def _adjust(data: bytearray, at: int, difference: int) -> None:
    (old,) = struct.unpack_from("!H", data, at)
    struct.pack_into("!H", data, at, ~_folded((~old & 0xFFFF) + difference) & 0xFFFF)


class Translated(delay.Direction):
    """A direction of a line behind whose source the packets are translated."""

    __slots__ = ("_translate",)

    def __init__(
        self, source: int, target: int, shape: delay.Shape, number: int, translate: Callable[[bytes], bytes | None]
    ) -> None:
        super().__init__(source, target, shape, number)
        self._translate = translate

    def _accept(self, packet: bytes, now: float) -> None:
        translated = self._translate(packet)
        if translated is not None:
            super()._accept(translated, now)


def main(argv: list[str]) -> None:
    """Run the lines given as a shape and pairs of inherited descriptors, `left:right[:outside:kind]`."""
    shape = delay.Shape.decode(argv[0])
    directions: list[delay.Direction] = []
    for word in argv[1:]:
        left, right, *more = word.split(":")
        ends = (int(left), int(right))
        ways: list[Callable[[bytes], bytes | None] | None] = [None, None]
        if more:
            nat = TunNat(TunKind.decode(more[1]), more[0], random.random)
            ways = [nat.out, nat.back]
        for (source, target), way in zip((ends, ends[::-1]), ways, strict=True):
            number = len(directions)
            if way is None:
                directions.append(delay.Direction(source, target, shape, number))
            else:
                directions.append(Translated(source, target, shape, number, way))
    delay.carry(directions, sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1:])
