"""A run of ``p2pxfer netcheck``: registers without a name, waits for what discovery finds, and explains it."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TooLong

from p2pxfer.cli.connect import server_address
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.discovery import DEPENDENT, Filtering
from p2pxfer.core.messages import Introduction, Registered
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import Unreachable
from p2pxfer.net.home import Home
from p2pxfer.net.probing import NatDiscovery
from p2pxfer.net.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import Nat, Note
from p2pxfer.status import Registered as RegisteredEvent

_NOT_MEASURED: Final = {"hairpin": "it is not measured"}


class Checking:
    """One check of the network."""

    def __init__(self, options: Global, home: Home, line: ServerLine, timeout: float) -> None:
        self._line = line
        self._timeout = timeout
        self._identity = home.identity()
        self._report = Reporter(options.json)
        self._registered_in_time = False
        self._filtering: tuple[Filtering, str] = ("unknown", "there was no time to find out")

    async def run(self, reactor: Reactor) -> None:
        """Find out and report.

        Raises:
            P2pxferError: the server cannot be reached, or does not register this machine.
        """
        client = RendezvousClient(
            reactor,
            self._identity,
            server_address(self._line),
            name=None,
            policy="auto",
            on_registered=self._registered,
            on_introduction=self._uninvited,
            on_note=self._note,
        )
        client.discovery.watch = self._note
        working = Deferred.fromCoroutine(self._find_out(client))
        working.addTimeout(self._timeout, reactor)
        self._report.on_closed = working.cancel
        try:
            self._note(f"asking the server at {self._line.host}:{self._line.port}")
            try:
                await working
            except TooLong:
                if not self._registered_in_time:
                    raise Unreachable(f"the server did not answer within {self._timeout:g} seconds") from None
            self._report.tell(nat_found(client.discovery, *self._filtering))
        finally:
            client.stop()
            self._report.close()

    async def _find_out(self, client: RendezvousClient) -> None:
        await client.start()
        await client.discovery.settled()
        self._note("letting the server dial back")
        self._filtering = await client.discovery.filtering()

    def _registered(self, answer: Registered) -> None:
        self._registered_in_time = True
        self._report.tell(RegisteredEvent(name="", id=str(self._identity.id), observed=answer.observed))
        asked = len(answer.observers)
        further = f"{asked} further endpoint{'' if asked == 1 else 's'} of the server to ask"
        self._note(f"seen as {answer.observed}; {further}")

    def _uninvited(self, introduction: Introduction) -> None:
        """Nobody can ask for a machine without a name."""

    def _note(self, text: str) -> None:
        self._report.tell(Note(text))


def nat_found(found: NatDiscovery, filtering: Filtering, closed: str) -> Nat:
    """What was found, and for each property that is unknown, why it is; ``closed`` is why ``filtering`` is."""
    summary = found.summary
    hosts = [view.seen.host for view in found.views]
    if found.allocation is not None and summary.mapping in DEPENDENT:
        hosts += found.allocation.addresses
    addresses = tuple(dict.fromkeys(map(str, hosts)))
    asked_hosts = {view.at.host for view in found.views}
    why = dict(_NOT_MEASURED)
    if filtering == "unknown":
        why["filtering"] = closed
    if not found.views:
        why["mapping"] = why["ports"] = "the connection to the server was lost"
    elif summary.mapping == "unknown":
        named = found.endpoints_asked
        why["mapping"] = "the server's other endpoints did not answer" if named else "the server has one endpoint only"
    elif len(asked_hosts) == 1 and summary.mapping == "endpoint-independent":
        why["mapping"] = "the server has one address only: for another address the mapping may differ"
    if summary.mapping in DEPENDENT and summary.ports in ("unknown", "changed"):
        pooled = found.allocation is not None and len(found.allocation.addresses) > 1
        why["ports"] = "several outside addresses" if pooled else "too few probes were answered, or they show no rule"
    return Nat(
        mapping=summary.mapping,
        filtering=filtering,
        ports="unknown" if "ports" in why else summary.ports,
        hairpin="unknown",
        step=summary.step,
        low=summary.low,
        high=summary.high,
        addresses=addresses,
        why=why,
    )
