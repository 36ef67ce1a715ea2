"""One port of one router by UPnP-IGD: found, asked, kept, looked for again where the router has lost its memory.

Laws of this file:

1. Nothing is asked for while another protocol may yet give a port, ``UPNP_WAITS_S`` at most, nor once one has.
2. A port that was asked for is deleted in :meth:`UpnpPort.delete`, at the router that was asked last.
3. A call that is cancelled ends as one without an answer does: then nothing begins anew.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final
from typing import Protocol as Interface

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint, scope
from p2pxfer.core.traversal import igd
from p2pxfer.core.traversal.igd import BadAnswer
from p2pxfer.core.traversal.portcontrol import LIFETIME_S, Granted
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.igd import Igd
from p2pxfer.net.types import Reactor

UPNP_WAITS_S: Final = 0.6
"""How long UPnP waits for the other protocols before it is given the port, seconds."""
UPNP_AGAIN_S: Final = 60.0
"""How soon a router that did not answer the search is looked for again, seconds."""
PORT_TRIES: Final = 5


class Others(Interface):
    """The other protocols, and who hears of news."""

    @property
    def asking(self) -> bool:
        """One of them may give a port yet."""

    @property
    def gave(self) -> bool:
        """One of them has."""

    def upnp_changed(self) -> None:
        """More is known."""


class UpnpPort:
    """What UPnP comes to at one router.

    ``first`` is the outside port to begin with, 0 for the same as inside.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, others: Others, first: int = 0) -> None:
        self._reactor = reactor
        self._others = others
        self._port = 0
        self._at = 0.0
        self._running: Deferred[None] | None = None
        self._renewal: Deferred[None] = succeed(None)
        self._over = False
        self._asked: Igd | None = None
        """The router that was asked for the port last, found or lost since."""
        self._asked_for = first
        self._stands = 0
        """The last port that it gave, which outlives a loss and a refusal to renew it."""
        self.router: Igd | None = None
        self.granted: Granted | None = None
        self.outside: IPv4Address | None = None
        """The router's outside address, as far as it has told."""
        self.refusal = ""

    @property
    def under_way(self) -> bool:
        """More may be known soon."""
        adding = self.granted is None and not self._others.gave and not self.refusal
        return self._running is not None and (self.router is None or adding)

    @property
    def asked(self) -> bool:
        """Something was asked of a router that answered once."""
        return self._asked is not None

    @property
    def asked_for(self) -> int:
        """The outside port that was asked for, 0 if none was."""
        return self._asked_for

    def begin(self, own: IPv4Address, gateway: IPv4Address, port: int) -> None:
        """Ask for the local ``port``, or make sure that it still stands."""
        self._port = port
        self._renew()
        now = self._reactor.seconds()
        if self._running is None and (not self._at or now - self._at > UPNP_AGAIN_S):
            self._at = now
            self._running = Deferred.fromCoroutine(self._use(own, gateway))
            self._running.addBoth(self._ended)

    def stop(self) -> None:
        """Ask no more."""
        self._over = True
        if self._running is not None:
            self._running.cancel()

    async def delete(self) -> None:
        """Give back what was asked for."""
        if self._asked is not None and self._asked_for:
            try:
                await self._asked.delete(self._asked_for)
            except BadAnswer as error:
                self.log.info("UPnP: {why}", why=str(error))

    async def _use(self, own: IPv4Address, gateway: IPv4Address) -> None:
        while await self._until_lost(own, gateway) and not self._over:
            self.log.info("the UPnP router does not answer where it did; looking for it again")

    async def _until_lost(self, own: IPv4Address, gateway: IPv4Address) -> bool:
        """Find the router and keep a port of it; whether there was one, and the router does not answer any more."""
        self.router, self.granted, self.outside, given = None, None, None, False
        try:
            self.router = await Igd.find(self._reactor, own, gateway)
            if self.router is None:
                return False
            self._others.upnp_changed()
            host = await self.router.external()
            if scope(host) == "forbidden":
                self.refusal = "the router does not know its outside address"
                return False
            self.outside = host
            await self._let_others_go_first()
            while not self._others.gave:
                lifetime = await self._add(self.router, host)
                given = lifetime > 0
                if not given:
                    return False
                self._others.upnp_changed()
                await self._until_renewal(lifetime / 2)
                host = self.outside = await self.router.external()
        except BadAnswer as error:
            self.log.info("UPnP: {why}", why=str(error))
            if not given:
                self.refusal = "the router's UPnP answers make no sense"
            return given
        return False

    async def _until_renewal(self, seconds: float) -> None:
        """Wait for half the lifetime, or until there is another reason to make sure of the port."""
        self._renewal = Deferred()
        timer = self._reactor.callLater(seconds, self._renew)
        try:
            await self._renewal
        finally:
            if timer.active():
                timer.cancel()

    def _renew(self) -> None:
        if not self._renewal.called:
            self._renewal.callback(None)

    async def _let_others_go_first(self) -> None:
        left = self._at + UPNP_WAITS_S - self._reactor.seconds()
        if self._others.asking and left > 0:
            await deferLater(self._reactor, left)

    async def _add(self, router: Igd, host: IPv4Address) -> float:
        """Ask for the port, and for another one if it is taken; for how long it is ours, 0 if it is not.

        A port without end, where the router has no others, is looked after like one of an hour.
        """
        lifetime = LIFETIME_S
        external = self._asked_for or self._port
        for _ in range(PORT_TRIES):
            self._asked, self._asked_for = router, external
            error = await router.add(self._port, external, lifetime)
            if error == 0:
                self.granted, self.refusal = Granted("upnp", Endpoint(host, external)), ""
                self._stands = external
                return float(LIFETIME_S)
            if error == igd.PERMANENT_ONLY and lifetime:
                lifetime = 0
            elif error == igd.CONFLICT and self.granted is None:
                self._stands = 0  # if it ever was ours, it is somebody else's now
                external = fresh_port()
            else:
                break
        self.granted, self._asked_for = None, self._stands
        self.refusal = f"the router refuses with code {error}"
        return 0.0

    def _ended(self, result: object) -> None:
        self._running = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self.log.failure("asking the router by UPnP", result)
        if not self._over:
            self.granted = None
            self._others.upnp_changed()
