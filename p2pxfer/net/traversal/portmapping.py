"""One local port that the router leads to this machine, so that a peer behind any NAT can dial it.

The port is not the punch port: that one changes with every connection to the server, while this one is asked for once.
Punches listen on it beside their own, so whoever comes in there came through the router.

Laws of this file:

1. Nobody waits for it, and nothing fails because of it.
2. PCP, NAT-PMP and UPnP-IGD are asked at once; UPnP is given a port only if the other two have not given one by then.
3. Whatever was asked for is taken back in :meth:`PortMapping.close`, which takes ``FAREWELL_S`` at most, and no time at
   all where no router ever answered; and once this machine has another address or router, as well as that can be done.
4. The router is believed about itself only: what it says of its outside address counts where the server saw this
   machine come from that very address (:func:`usable`, and again in the server).
5. Between punches nobody listens, and the port is held: no other user's program is led there, and of this user's only
   one that asks for this very port with ``SO_REUSEPORT``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from p2pxfer.core.addresses import Address, Endpoint, mapped_port, scope
from p2pxfer.core.traversal.pcp import MAX_DATAGRAM, NONCE_SIZE, SERVER_PORT
from p2pxfer.core.traversal.portcontrol import Granted, PortControl, Protocol, State
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.gateway import Datagrams, hold_port, system_gateway
from p2pxfer.net.traversal.ownaddresses import source_towards
from p2pxfer.net.traversal.upnpport import UpnpPort
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting

FAREWELL_S: Final = 1.0
"""How long the router may take to confirm that the port is closed again, seconds."""
_PRIVATE: Final = ("private", "shared")


def usable(external: Endpoint, seen: Collection[Address]) -> str:
    """Why an outside endpoint is of no use to a peer, as a phrase; empty if it is.

    ``seen`` are the addresses from which the server saw this machine.
    """
    if scope(external.host) == "forbidden" or external.host not in seen:
        return "its outside address is not the one that the server sees: there is another NAT in front of it"
    if not mapped_port(external.port):
        return "it gives a port that nobody may dial"
    return ""


class PortMapping:
    """Gets one port from the router, keeps it, and gives it back.

    ``changed`` is called whenever more is known.  ``gateway`` finds the router, ``source`` the address towards it.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        changed: Callable[[], None],
        gateway: Callable[[], IPv4Address | None] = system_gateway,
        source: Callable[[Endpoint], str | None] = source_towards,
    ) -> None:
        self._reactor = reactor
        self._changed = changed
        self._find_gateway = gateway
        self._source = source
        self._place: tuple[IPv4Address, IPv4Address] | None = None
        self._held: socket.socket | None = None
        self._datagrams: Datagrams | None = None
        self._upnp = UpnpPort(reactor, self)
        self._deletes: set[Deferred[None]] = set()
        self._closed = False
        self._waiting = Waiting()
        self._released: Deferred[None] | None = None
        self.port = 0
        """The local port, 0 while none is held."""
        self.why_not = "the router did not answer"
        """Why nothing was asked or nothing came of it, as long as no router spoke."""

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def granted(self) -> Granted | None:
        """The port outside, if there is one."""
        core = self._datagrams.core if self._datagrams is not None else None
        return core.granted if core is not None and core.granted is not None else self._upnp.granted

    @property
    def speaks(self) -> tuple[Protocol, ...]:
        """The protocols in which the router has answered."""
        spoken = set(self._datagrams.core.speaks) if self._datagrams is not None else set()
        if self._upnp.router is not None:
            spoken.add("upnp")
        order: tuple[Protocol, ...] = ("pcp", "nat-pmp", "upnp")
        return tuple(one for one in order if one in spoken)

    @property
    def refusal(self) -> str:
        """Why there is no port, as a phrase."""
        said = self._datagrams.core.refusal if self._datagrams is not None else ""
        return said or self._upnp.refusal or self.why_not

    @property
    def under_way(self) -> bool:
        """More may be known soon."""
        return self.asking or self._upnp.under_way

    @property
    def asking(self) -> bool:
        """PCP or NAT-PMP may give a port yet."""
        return self._datagrams is not None and self._datagrams.core.state is State.ASKING

    @property
    def gave(self) -> bool:
        """PCP or NAT-PMP has given a port."""
        return self._datagrams is not None and self._datagrams.core.granted is not None

    @property
    def outside(self) -> IPv4Address | None:
        """The router's outside address, as far as it has told."""
        told = self._datagrams.core.outside if self._datagrams is not None else None
        return told or self._upnp.outside

    def upnp_changed(self) -> None:
        """See :class:`~p2pxfer.net.traversal.upnpport.Others`."""
        if not self._closed:
            self._tell()

    async def settled(self) -> None:
        """Wait until the router has answered everything, or will not; a few seconds at most."""
        if self.under_way:
            await self._waiting.moment()

    # -- asking --------------------------------------------------------------------------------------------------

    def begin(self, own: str) -> None:
        """A connection to the server stands, from the address ``own``: ask, or make sure that the port still stands."""
        if self._closed:
            return
        gateway = self._find_gateway()
        address = self._private(own, gateway)
        if address is None:
            self.why_not = "this machine has no private address"
        elif gateway is None or scope(gateway) not in _PRIVATE:
            self.why_not = "no router is known"
        elif self._hold_port():
            if self._place not in (None, (address, gateway)):
                self._forget()
            self._place = (address, gateway)
            self._ask(address, gateway)
        self._tell()

    def _private(self, own: str, gateway: IPv4Address | None) -> IPv4Address | None:
        """The private IPv4 address ``own``; if that is no IPv4 address, the one towards the router."""
        address = _ipv4(own)
        if address is None and gateway is not None and scope(gateway) in _PRIVATE:
            address = _ipv4(self._source(Endpoint(gateway, SERVER_PORT)) or "")
        return address if address is not None and scope(address) in _PRIVATE else None

    def _ask(self, own: IPv4Address, gateway: IPv4Address) -> None:
        if self._datagrams is None:
            core = PortControl(own, self.port, os.urandom(NONCE_SIZE))
            datagrams = Datagrams(self._reactor, core, gateway, self._tell)
            try:
                self._reactor.listenUDP(0, datagrams, str(own), MAX_DATAGRAM)
            except (CannotListenError, OSError) as error:
                datagrams.why_not = str(error)
            if datagrams.why_not:
                self.log.info("the router cannot be asked: {why}", why=datagrams.why_not)
                return
            self._datagrams = datagrams
        self._datagrams.core.begin(self._reactor.seconds())
        self._datagrams.run()
        self._upnp.begin(own, gateway, self.port)

    def _hold_port(self) -> bool:
        if self._held is None:
            self._held = hold_port()
            if self._held is None:
                self.why_not = "no local port is free"
                return False
            self.port = self._held.getsockname()[1]
        return True

    # -- telling, and the end ------------------------------------------------------------------------------------

    def _tell(self) -> None:
        if not self.under_way:
            self._waiting.come()
        datagrams, released = self._datagrams, self._released
        if released is not None and datagrams is not None and not datagrams.core.parting and not released.called:
            released.callback(None)
        if not self._closed:
            self._changed()

    def _forget(self) -> None:
        """This machine has another address or router now: give back what the old one gave.

        Nobody waits for that.  Where the old router is out of reach, or takes back a port from the address alone that
        asked for it, the port ends with its lifetime; one without an end stays there.
        """
        datagrams, self._datagrams = self._datagrams, None
        if datagrams is not None:
            datagrams.core.release(self._reactor.seconds())
            datagrams.run()
            datagrams.stop()
        left = self._upnp
        # A delete names the outside port only: if it comes late it must not take the new one.
        first = fresh_port() if left.asked_for else 0
        self._upnp = UpnpPort(self._reactor, self, first)
        left.stop()
        deleting = Deferred.fromCoroutine(left.delete())
        deleting.addTimeout(FAREWELL_S, self._reactor)
        self._deletes.add(deleting)
        deleting.addErrback(lambda failure: self.log.info("UPnP: {why}", why=str(failure.value)))
        deleting.addBoth(lambda _: self._deletes.discard(deleting))

    async def close(self) -> None:
        """Give everything back; see law 3."""
        if self._closed:
            return
        self._closed = True
        heard = bool(self.speaks) or self._upnp.asked or bool(self._deletes)
        parts = [Deferred.fromCoroutine(part) for part in (self._close_upnp(), self._close_core())]
        farewell = DeferredList([*parts, *self._deletes], consumeErrors=True)
        farewell.addTimeout(FAREWELL_S if heard else 0.0, self._reactor, lambda result, timeout: [])
        try:
            await farewell
        finally:
            self._drop()

    async def _close_core(self) -> None:
        datagrams = self._datagrams
        if datagrams is None:
            return
        datagrams.core.release(self._reactor.seconds())
        datagrams.run()
        if datagrams.core.parting:
            self._released = Deferred()
            await self._released

    async def _close_upnp(self) -> None:
        self._upnp.stop()
        await self._upnp.delete()

    def _drop(self) -> None:
        datagrams, self._datagrams = self._datagrams, None
        if datagrams is not None:
            datagrams.stop()
        if self._held is not None:
            self._held.close()
            self._held = None
        self.port = 0
        self._tell()


def _ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
