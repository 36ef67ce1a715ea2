"""What outside ports the NAT gives: how it chooses them, and whether the same two endpoints keep theirs.

Laws of this file:

1. Ports are probed only where the mapping depends on the destination, and not again for ``FRESH_S`` seconds on the same
   outside address; at a meeting, where the NAT is sequential, one port more.
2. Whether a connection that is made again gets the same port is found out once in that time, when the rest is known.
   Nobody waits for it but who asks (:meth:`PortProbes.thorough`), it does not begin while somebody meets this machine,
   and it gives way to the port that a meeting wants.
3. There is one flight at a time, and everything has its end: ``FLIGHT_S``, ``CHECK_S``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from p2pxfer.core.traversal import discovery
from p2pxfer.core.traversal.discovery import DEPENDENT, Allocation, Mapping, Probe, View
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.traversal.flight import Flight, Opener, probe_ports
from p2pxfer.net.traversal.freshports import fresh_ports
from p2pxfer.net.traversal.samepair import SamePairCheck
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting

FRESH_S = 600.0
"""How long what was found on one outside address is believed, seconds."""
RETRY_S = 30.0
"""How soon probes that showed nothing may be repeated, seconds."""
TWICE = 3
"""From how many ports an endpoint is dialled twice."""


class PortProbes:
    """The probes of one client.

    ``landed`` is called when more is known; ``meeting`` says whether somebody meets this machine just now; ``say`` gets
    each step in words.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        opener: Opener,
        landed: Callable[[], None],
        meeting: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._opener = opener
        self._landed = landed
        self._meeting = meeting
        self._say = say
        self._flight: Flight | None = None
        self._again: SamePairCheck | None = None
        self._stopped: Flight | SamePairCheck | None = None
        self._probed_at = 0.0
        self._views: Sequence[View] = ()
        self._waiting = Waiting()
        self.allocation: Allocation | None = None

    @property
    def under_way(self) -> bool:
        """Probes fly for whose answers a punch may wait."""
        return self._flight is not None

    async def thorough(self) -> None:
        """Wait until nothing is dialled twice any more, at most ``CHECK_S`` seconds."""
        if self._again is not None:
            await self._waiting.moment()

    def consider(self, views: Sequence[View], mapping: Mapping) -> None:
        """Probe if it is time to, where ``views`` of the punch port, of one family, show this ``mapping``."""
        if self._flight is not None or mapping not in DEPENDENT:
            return
        self._views = views
        known = self.allocation
        lasts = RETRY_S if known is None or known.ports == "unknown" else FRESH_S
        old = self._reactor.seconds() - self._probed_at > lasts
        if known is None or old or views[0].seen.host not in known.addresses:
            self.allocation = None
            self._probed_at = self._reactor.seconds()
            ports = probe_ports()
            self._say(f"the outside port depends on the destination: {len(ports)} probes from ports {min(ports)} on")
            self._fly(ports, self._row_landed)
        elif known.ports == "sequential" and self._meeting():
            self._fly(fresh_ports(1), self._one_landed)

    def stop(self) -> None:
        """End what flies; what it has shown so far does not count."""
        for flight in (self._flight, self._again):
            if flight is not None:
                self._stopped = flight
                flight.stop()

    def _fly(self, ports: Sequence[int], landed: Callable[[list[Probe]], None]) -> None:
        # The NAT is that of IPv4 even where the control connection is not.
        flight = self._flight = Flight(self._reactor, self._opener, self._views[0].at, ports)
        flight.done.addCallback(self._over, flight, landed)
        if self._again is not None:
            self._again.stop()
        flight.start()

    def _over(self, probes: list[Probe], flight: Flight, landed: Callable[[list[Probe]], None]) -> None:
        self._flight = None
        self.log.debug("probes: {probes}", probes=[(probe.port, str(probe.seen)) for probe in probes])
        if flight is not self._stopped:
            landed(probes)

    def _row_landed(self, probes: list[Probe]) -> None:
        self.allocation = discovery.allocation_of(probes, [view.seen for view in self._views])
        if not self._meeting():
            self._dial_twice()
        self._landed()

    def _one_landed(self, probes: list[Probe]) -> None:
        if probes and self.allocation is not None:
            self.allocation = self.allocation.after(probes[0])
        self._landed()

    # -- the same again ------------------------------------------------------------------------------------------

    def _dial_twice(self) -> None:
        self._say(f"does the next connection get another port? {TWICE} are made twice")
        again = self._again = SamePairCheck(self._reactor, self._views[0].at, fresh_ports(TWICE))
        again.done.addCallback(self._dialled_twice, again)
        again.start()

    def _dialled_twice(self, at_once: list[bool | None], check: SamePairCheck) -> None:
        self._again = None
        self.log.debug("answered at once: {at_once}", at_once=at_once)
        if self.allocation is not None and check is not self._stopped:
            self.allocation = replace(self.allocation, renewed=discovery.renewed(at_once))
        self._landed()
        self._waiting.come()
