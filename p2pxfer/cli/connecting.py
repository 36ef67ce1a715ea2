"""The run of ``p2pxfer connect`` with a port under the reactor."""

from __future__ import annotations

import ipaddress

from msgspec import structs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, Interrupted
from p2pxfer.net.services.forwarding import Inlet
from p2pxfer.net.services.peerservice import PeerSession
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.traversal.ownaddresses import endpoint_text
from p2pxfer.status import Listening, Note


class Connecting:
    """One run of the command; connections to ``host`` and ``port`` go to ``service`` of ``peer``."""

    def __init__(self, options: Global, peer: KnownPeer, service: str, host: str, port: int, *, expected: bool) -> None:
        self._report = Reporter(options.json, options.quiet)
        self._peer = peer
        self._service = service
        self._host = host
        self._port = port
        self._expected = expected

    async def run(self, machine: Machine) -> None:
        """Take connections until somebody stops it.

        Raises:
            P2pxferError: why it ended.
        """
        machine = structs.replace(machine, tell=self._report.tell)
        session = PeerSession(machine, self._peer, self._service, expected=self._expected)
        inlet = Inlet(session.calling, self._peer.shown, self._service, self._report.tell)
        listening = self._listen(machine, inlet)
        stopped = False
        try:
            session.start()
            raise await session.calling.ended
        except CancelledError:
            stopped = True
            raise Interrupted("interrupted; its connections were reset") from None
        finally:
            await maybeDeferred(listening.stopListening)
            await session.close(stopped=stopped)
            self._report.close()

    def _listen(self, machine: Machine, inlet: Inlet) -> IListeningPort:
        try:
            listening: IListeningPort = machine.reactor.listenTCP(self._port, inlet, interface=self._host)
        except (CannotListenError, OSError) as error:
            where = safe_text(endpoint_text(self._host, self._port), 100)
            raise ConfigError(f"cannot listen at {where}: {_reason(error)}") from error
        at = listening.getHost()
        assert isinstance(at, IPv4Address | IPv6Address)
        self._report.tell(Listening(endpoint_text(at.host, at.port), self._peer.shown, self._service))
        if not ipaddress.ip_address(at.host).is_loopback:
            self._report.tell(Note(f"whoever can reach {at.host} can use {self._service} there"))
        return listening


def _reason(error: Exception) -> str:
    cause = error.socketError if isinstance(error, CannotListenError) else error
    return safe_text(getattr(cause, "strerror", None) or str(cause), 200)
