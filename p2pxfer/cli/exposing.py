"""The run of ``p2pxfer expose`` under the reactor."""

from __future__ import annotations

from msgspec import structs
from twisted.internet.defer import CancelledError

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Registered
from p2pxfer.core.session.eventtext import describe
from p2pxfer.core.text import safe_text
from p2pxfer.errors import Interrupted
from p2pxfer.net.descriptors import raise_descriptor_limit
from p2pxfer.net.services.forwarding import Outlet, tcp_target
from p2pxfer.net.services.machine import Machine
from p2pxfer.net.services.peerservice import PeerService
from p2pxfer.net.session.peercheck import Checkee
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.status import Event, Exposed
from p2pxfer.status import Registered as RegisteredEvent


class Exposing:
    """One run of the command."""

    def __init__(self, options: Global, service: str, host: str, port: int, guests: list[Checkee]) -> None:
        self._report = Reporter(options.json, options.quiet)
        self._service = service
        self._host = host
        self._port = port
        self._guests = guests

    async def run(self, machine: Machine) -> None:
        """Be there until somebody stops it.

        Raises:
            P2pxferError: why it ended.
        """
        # Each connection is a socket, and most systems begin with 1024 for all of them.
        raise_descriptor_limit()
        target = tcp_target(machine.reactor, self._host, self._port)
        outlet = Outlet(machine.reactor, self._service, target, self._report.tell)
        machine = structs.replace(machine, tell=self._report.tell)
        service = PeerService(machine, self._service, self._guests, outlet.asked, self._registered, self._of_guest)
        try:
            await service.start()
            names = tuple(guest.shown for guest in self._guests)
            self._report.tell(Exposed(self._service, endpoint_text(self._host, self._port), names))
            raise await service.failed
        except CancelledError:
            raise Interrupted("interrupted; its connections were reset") from None
        finally:
            await service.close()
            self._report.close()

    def _registered(self, answer: Registered) -> None:
        self._report.tell(RegisteredEvent(answer.name or "", str(PeerId(answer.id)), answer.observed), "")

    def _of_guest(self, guest: Checkee, event: Event) -> None:
        text = describe(event)
        self._report.tell(event, f"{safe_text(guest.shown)}: {text}" if text else "")
