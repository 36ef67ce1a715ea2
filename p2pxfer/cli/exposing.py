"""The run of ``p2pxfer expose`` under the reactor."""

from __future__ import annotations

from functools import partial

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from p2pxfer.cli.displaced import displaced
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Registered
from p2pxfer.core.session.services import Offered
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import Interrupted, P2pxferError
from p2pxfer.net.descriptors import raise_descriptor_limit
from p2pxfer.net.services.forwarding import Outlet, tcp_target
from p2pxfer.net.services.peerservice import PeerService
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.status import Event, Exposed, Path, Peer
from p2pxfer.status import Registered as RegisteredEvent


class Exposing:
    """One run of the command."""

    def __init__(self, options: Global, offered: list[Offered], guests: list[KnownPeer]) -> None:
        self._report = Reporter(options.json, options.quiet)
        self._offered = offered
        self._guests = guests
        self._ended: Deferred[P2pxferError] = Deferred()

    async def run(self, machine: Machine) -> None:
        """Be there until somebody stops it, or one of the services ends.

        Raises:
            P2pxferError: why it ended.
        """
        # Each connection is a socket, and most systems begin with 1024 for all of them.
        raise_descriptor_limit()
        machine = structs.replace(machine, tell=self._report.tell)
        services = [self._service(machine, one) for one in self._offered]
        names = tuple(guest.shown for guest in self._guests)
        try:
            for one, service in zip(self._offered, services, strict=True):
                await service.start()
                self._report.tell(Exposed(one.service, endpoint_text(one.host, one.port), names))
            raise await self._ended
        except CancelledError:
            raise Interrupted("interrupted; its connections were reset") from None
        finally:
            await gatherResults([Deferred.fromCoroutine(service.close()) for service in services], consumeErrors=True)
            self._report.close()

    def _service(self, machine: Machine, one: Offered) -> PeerService:
        target = tcp_target(machine.reactor, one.host, one.port)
        outlet = Outlet(machine.reactor, one.service, target, self._report.tell)
        of_guest = partial(self._of_guest, one.service)
        service = PeerService(
            machine, one.service, lambda: self._guests, outlet.asked, self._registered, of_guest, outlet.turned_away,
            outlet.stranger,
        )  # fmt: skip
        then = "its connections were reset; --as NAME exposes beside it"
        what, home = f"expose of {one.service}", machine.home.path
        service.failed.addCallback(lambda error: self._fail(displaced(error, what, then, home)))
        return service

    def _fail(self, error: P2pxferError) -> None:
        if not self._ended.called:
            self._ended.callback(error)

    def _registered(self, answer: Registered) -> None:
        self._report.tell(RegisteredEvent(answer.name or "", str(PeerId(answer.id)), answer.observed), "")

    def _of_guest(self, service: str, guest: KnownPeer, event: Event) -> None:
        if isinstance(event, Path):
            event = structs.replace(event, peer=guest.shown, service=service)
        text = describe(event)
        at = "" if len(self._offered) == 1 else f" at {service}"
        if isinstance(event, Peer):  # names the guest by itself
            self._report.tell(event, f"{text}{at}")
        else:
            self._report.tell(event, f"{safe_text(guest.shown)}{at}: {text}" if text else "")
