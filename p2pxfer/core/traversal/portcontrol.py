"""Asks one router for one TCP port by PCP and NAT-PMP: what to send when, and what has come of it.  No sockets.

Transcript (``>`` to the router, ``<`` from it)::

    begin               > PCP MAP, > NAT-PMP address       at once and together; each again after 0.25, 0.75 and 1.5 s
                        < PCP mapped                       granted
    or                  < unsupported version, or a refusal, or silence for ``PATIENCE_S``
                        < NAT-PMP address
                        > NAT-PMP map      < mapped        granted
    half the lifetime   > the same again                   and at half of what is left, while nobody answers
    release             > the same with lifetime 0

Laws of this machine:

1. ``_NEXT`` says which event is legal in which state; every other one changes nothing.
2. Every question ends: with its answer, with ICMP's word that nobody is there, or after ``GIVE_UP_S``.
3. An answer counts only if it was asked for: same nonce, same protocol, same inside port (RFC 6887, section 11.4).
4. What was ever asked for is deleted in the end, whether an answer came or not.
5. An answer that grants a port for less than ``SHORTEST_S``, or port 0, is a refusal.

RFC 6887 would have a first question repeated after three seconds only; the times here are those of RFC 6886, section
3.1, cut off after two seconds, since nobody wants to wait longer for a path.  The epoch of an answer (RFC 6887, section
8.5) tells that the router has lost its state.  It comes with the answer that has repaired that, so nothing is made of
it; what a restarted router also loses is the connection to the server, and every new one asks again.

It does not know: sockets, the clock, whether the outside address is the one that the world sees.
"""

from __future__ import annotations

from enum import Enum, auto
from ipaddress import IPv4Address
from typing import Final, Literal

from msgspec import Struct

from p2pxfer.core.addresses import Endpoint
from p2pxfer.core.traversal import pcp
from p2pxfer.core.traversal.pcp import PcpMapped, PmpAddress, PmpMapped, Unsupported

Protocol = Literal["pcp", "nat-pmp", "upnp"]
Question = Literal["pcp-map", "pmp-address", "pmp-map", "pcp-delete", "pmp-delete"]

LIFETIME_S: Final = 3600
"""For how long a port is asked for: what a program that is killed leaves behind is gone after so long."""
SHORTEST_S: Final = 60
LONGEST_S: Final = 86_400.0
SEND_AT: Final = (0.0, 0.25, 0.75, 1.5)
"""When a question is sent, seconds after the first time."""
GIVE_UP_S: Final = 2.0
PATIENCE_S: Final = 0.5
"""How long PCP may be silent before NAT-PMP, which has answered, is asked for the port."""
LEAST_PAUSE_S: Final = 15.0
"""Shortest time between two renewals."""

_REFUSALS: Final = {
    2: "the router does not allow it",
    3: "the router does not allow it",
    8: "the router has no port left",
    10: "the router gives this machine no more ports",
    11: "the router has no outside port to give",
    12: "another NAT is between this machine and the router",
}
"""Result codes of RFC 6887, section 7.4; NAT-PMP's 2 means the same (RFC 6886, section 3.5)."""


class State(Enum):
    """Where the machine is."""

    IDLE = auto()
    ASKING = auto()
    MAPPED = auto()
    NOTHING = auto()
    RELEASED = auto()


class _Event(Enum):
    BEGIN = auto()
    GRANTED = auto()
    ALL_ANSWERED = auto()
    EXPIRED = auto()
    RELEASE = auto()


_NEXT: Final[dict[tuple[State, _Event], State]] = {
    (State.IDLE, _Event.BEGIN): State.ASKING,
    (State.NOTHING, _Event.BEGIN): State.ASKING,
    (State.ASKING, _Event.GRANTED): State.MAPPED,
    (State.ASKING, _Event.ALL_ANSWERED): State.NOTHING,
    (State.MAPPED, _Event.GRANTED): State.MAPPED,
    (State.MAPPED, _Event.EXPIRED): State.NOTHING,
    **{(state, _Event.RELEASE): State.RELEASED for state in State if state is not State.RELEASED},
}


class Granted(Struct, frozen=True):
    """A port that a router leads here: by which protocol it was asked for, and where it is outside."""

    protocol: Protocol
    external: Endpoint


class _Asked(Struct):
    """A question that has no answer yet."""

    request: bytes
    began: float
    sent: int = 0

    @property
    def due(self) -> float:
        """When it is sent again, or given up, on the clock of ``now``."""
        return self.began + (SEND_AT[self.sent] if self.sent < len(SEND_AT) else GIVE_UP_S)


class PortControl:
    """One router, asked for the TCP port ``port`` of ``client``; ``nonce`` is 12 random bytes, ``now`` monotonic."""

    def __init__(self, client: IPv4Address, port: int, nonce: bytes) -> None:
        self.state = State.IDLE
        self.granted: Granted | None = None
        self.speaks: set[Protocol] = set()
        """The protocols in which the router has answered."""
        self.refusal = ""
        """Why there is no port, as a phrase for people; empty if the router says nothing at all."""
        self._client = client
        self._port = port
        self._nonce = nonce
        self._open: dict[Question, _Asked] = {}
        self._used: set[Protocol] = set()
        self._map_asked = False
        self._outside: IPv4Address | None = None
        self._renew_at: float | None = None
        self._expires = 0.0

    @property
    def outside(self) -> IPv4Address | None:
        """The router's outside address, as far as it has told."""
        granted = None if self.granted is None else self.granted.external.host
        return granted if isinstance(granted, IPv4Address) else self._outside

    @property
    def under_way(self) -> bool:
        """Something was asked and may still be answered."""
        return bool(self._open)

    @property
    def parting(self) -> bool:
        """The router has not yet confirmed that a port is closed again, and it may be expected to."""
        spoken = {"pcp-delete": "pcp", "pmp-delete": "nat-pmp"}
        return any(spoken.get(question) in self.speaks for question in self._open)

    # -- what happens --------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Ask; if a port stands already, ask for it again, since the router may have lost it."""
        if self.state is State.MAPPED:
            self._renew_at = now
        elif self._enter(_Event.BEGIN):
            self.speaks.clear()
            self.refusal = ""
            self._outside = None
            self._map_asked = False
            self._ask("pcp-map", now)
            self._ask("pmp-address", now)

    def receive(self, datagram: bytes, now: float) -> None:
        """The router sent something."""
        match pcp.decode(datagram):
            case Unsupported(version):
                self._not_spoken("nat-pmp" if version == 2 else "pcp")
            case PcpMapped() as answer if answer.nonce == self._nonce and answer.protocol == pcp.TCP:
                self._pcp_mapped(answer, now)
            case PmpAddress() as answer:
                self._pmp_address(answer)
            case PmpMapped() as answer:
                self._pmp_mapped(answer, now)
            case _:
                pass
        self._advance(now)

    def nobody_there(self, now: float) -> None:
        """ICMP says that nothing listens at the router's port."""
        self._open.clear()
        self._advance(now)

    def due(self, now: float) -> list[bytes]:
        """The datagrams to send at ``now``."""
        if self.state is State.MAPPED and now >= self._expires:
            self._enter(_Event.EXPIRED)
            self._renew_at = self.granted = None
            self._open.clear()
        if self._renew_at is not None and now >= self._renew_at:
            self._renew(now)
        datagrams = []
        for question, asked in list(self._open.items()):
            if now >= asked.began + GIVE_UP_S:
                del self._open[question]
            elif now >= asked.due and asked.sent < len(SEND_AT):
                asked.sent += 1
                datagrams.append(asked.request)
        self._advance(now)
        # The last question may have begun just now.
        for asked in self._open.values():
            if not asked.sent:
                asked.sent = 1
                datagrams.append(asked.request)
        return datagrams

    def wake(self) -> float | None:
        """When :meth:`due` has something next."""
        times = [asked.due for asked in self._open.values()]
        first = self._open.get("pcp-map")
        if self.state is State.ASKING and self._outside is not None and not self._map_asked and first is not None:
            times.append(first.began + PATIENCE_S)
        if self.state is State.MAPPED:
            times.append(self._expires)
        if self._renew_at is not None:
            times.append(self._renew_at)
        return min(times, default=None)

    def release(self, now: float) -> None:
        """Give the port back, and whatever else was asked for."""
        if not self._enter(_Event.RELEASE):
            return
        self._renew_at = self.granted = None
        self._open.clear()
        if "pcp" in self._used:
            self._ask("pcp-delete", now)
        if "nat-pmp" in self._used:
            self._ask("pmp-delete", now)

    # -- answers -------------------------------------------------------------------------------------------------

    def _pcp_mapped(self, answer: PcpMapped, now: float) -> None:
        self.speaks.add("pcp")
        if self.state is State.RELEASED:
            self._close("pcp-delete")
        elif answer.internal == self._port and self._close("pcp-map"):
            host = answer.external_host
            self._judge("pcp", answer.result, answer.lifetime, host, answer.external_port, now)

    def _pmp_address(self, answer: PmpAddress) -> None:
        self.speaks.add("nat-pmp")
        if not self._close("pmp-address"):
            return
        if answer.result:
            self.refusal = _refusal(answer.result)
            return
        self._outside = answer.host
        if self.granted is not None and self.granted.protocol == "nat-pmp":
            self.granted = Granted("nat-pmp", Endpoint(answer.host, self.granted.external.port))

    def _pmp_mapped(self, answer: PmpMapped, now: float) -> None:
        self.speaks.add("nat-pmp")
        if self.state is State.RELEASED:
            self._close("pmp-delete")
        elif (answer.internal == self._port or answer.result) and self._close("pmp-map"):
            self._judge("nat-pmp", answer.result, answer.lifetime, self._outside, answer.external_port, now)

    def _not_spoken(self, protocol: Protocol) -> None:
        """Nothing can have been granted by it."""
        self._used.discard(protocol)
        questions: tuple[Question, ...] = ("pcp-map", "pcp-delete")
        if protocol == "nat-pmp":
            questions = ("pmp-address", "pmp-map", "pmp-delete")
        for question in questions:
            self._close(question)

    def _judge(self, protocol: Protocol, result: int, lifetime: int, host: object, port: int, now: float) -> None:
        if result:
            self.refusal = _refusal(result)
        elif not isinstance(host, IPv4Address) or not port or lifetime < SHORTEST_S:
            self.refusal = "the router's answer makes no sense"
        elif self._enter(_Event.GRANTED):
            self.refusal = ""
            self.granted = Granted(protocol, Endpoint(host, port))
            lasts = min(float(lifetime), LONGEST_S)
            self._renew_at, self._expires = now + lasts / 2, now + lasts

    def _advance(self, now: float) -> None:
        """Ask NAT-PMP for the port when PCP will not give it; see whether everything is answered."""
        if self.state is not State.ASKING:
            return
        first = self._open.get("pcp-map")
        if self._outside is not None and not self._map_asked:
            if first is None or now >= first.began + PATIENCE_S:
                self._ask("pmp-map", now)
        elif not self._open:
            self._enter(_Event.ALL_ANSWERED)

    # -- questions -----------------------------------------------------------------------------------------------

    def _renew(self, now: float) -> None:
        assert self.granted is not None
        left = self._expires - now
        self._renew_at = now + max(left / 2, LEAST_PAUSE_S)
        if self.granted.protocol == "pcp":
            self._ask("pcp-map", now)
        else:
            # The answer to the first may be a new address: it is asked for before the port.
            self._ask("pmp-address", now)
            self._ask("pmp-map", now)

    def _ask(self, question: Question, now: float) -> None:
        if question in self._open:
            return
        self._open[question] = _Asked(self._request(question), now)
        if question in ("pcp-map", "pmp-map"):
            self._used.add("pcp" if question == "pcp-map" else "nat-pmp")
        if question == "pmp-map":
            self._map_asked = True

    def _request(self, question: Question) -> bytes:
        wish = self.granted.external.port if self.granted is not None else self._port
        match question:
            case "pcp-map":
                return pcp.pcp_map(self._client, self._nonce, self._port, wish, LIFETIME_S)
            case "pcp-delete":
                return pcp.pcp_map(self._client, self._nonce, self._port, 0, 0)
            case "pmp-address":
                return pcp.pmp_address()
            case "pmp-map":
                return pcp.pmp_map(self._port, wish, LIFETIME_S)
            case "pmp-delete":
                return pcp.pmp_map(self._port, 0, 0)

    def _close(self, question: Question) -> bool:
        return self._open.pop(question, None) is not None

    def _enter(self, event: _Event) -> bool:
        following = _NEXT.get((self.state, event))
        if following is None:
            return False
        self.state = following
        return True


def _refusal(result: int) -> str:
    return _REFUSALS.get(result, f"the router refuses with code {result}")
