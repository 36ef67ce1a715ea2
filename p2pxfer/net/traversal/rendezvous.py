"""The client's side of the rendezvous server: one control connection that is kept, and what is asked over it.

Each control connection starts from a fresh local port with a reuse binding.  The same port carries the observation
connections (:mod:`p2pxfer.net.traversal.probing`) and, in a punch, the listener and the dials, so what the server
observes of it is what the peer must dial.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.addresses import Endpoint, canonical_endpoint, parse_endpoint, scope
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import (
    VERSION,
    Introduce,
    Introduction,
    Outcome,
    PathPolicy,
    PeerMapped,
    PeerNat,
    PeerReturned,
    Register,
    Registered,
)
from p2pxfer.core.messages import Failure as ServerFailure
from p2pxfer.core.reported import from_wire
from p2pxfer.core.text import safe_text
from p2pxfer.core.traversal.keepalive import KeepAlive
from p2pxfer.errors import P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.connection.serverlink import ServerLink
from p2pxfer.net.connection.streams import too_late
from p2pxfer.net.connection.tls import Creator
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.traversal.announcing import Announcer
from p2pxfer.net.traversal.asking import Introductions
from p2pxfer.net.traversal.freshports import fresh_port
from p2pxfer.net.traversal.listening import Doorman
from p2pxfer.net.traversal.networkwatch import NetworkWatch
from p2pxfer.net.traversal.ownaddresses import endpoint_text, lan_candidates
from p2pxfer.net.traversal.probing import NatDiscovery
from p2pxfer.net.traversal.serverdial import CONNECT_S, ServerAddress, ServerDialler, why_not_reached
from p2pxfer.net.traversal.upkeep import FINAL, Upkeep
from p2pxfer.net.types import Reactor
from p2pxfer.net.waiting import Waiting

PORT_TRIES = 5
"""How many local ports are tried before the first one that is free, at most."""


class RendezvousClient:
    """Keeps this machine known to the server.

    ``on_introduction`` gets every introduction that somebody else asked for; ``on_registered`` every registration,
    ``on_note`` sentences for people about loss and return of the server.  ``port_mapping``: ask the router for a port.
    ``by_key``: whoever asks for this machine by its key, as contacts do who send, may be introduced to this client.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        identity: Identity,
        server: ServerAddress,
        *,
        name: str | None,
        policy: PathPolicy,
        on_registered: Callable[[Registered], None],
        on_introduction: Callable[[Introduction], None],
        on_note: Callable[[str], None],
        port_mapping: bool = False,
        by_key: bool = True,
    ) -> None:
        self._reactor = reactor
        self._identity = identity
        self._server = server
        self._dialler = ServerDialler(reactor, identity, server)
        self._name, self._terms = name, (policy, by_key)
        self._on_registered = on_registered
        self._on_introduction = on_introduction
        self._on_note = on_note
        self._link: ServerLink | None = None
        self._introductions = Introductions(reactor, self._send)
        self._upkeep: Upkeep[Registered] = Upkeep(reactor, self._one_connection)
        self._lost: Deferred[P2pxferError] = Deferred()
        self._waiting = Waiting()
        self._registration: Deferred[None] = succeed(None)
        self._missed = False
        self._nats = KeepAlive()
        self._network = NetworkWatch(reactor, self._moved)
        self.port = 0
        self.registered: Registered | None = None
        self.discovery = NatDiscovery(reactor, self.open_as_seen, self._send, may_probe=policy != "relay")
        self.announcer: Announcer | None = None
        """Gets a port from the router; ``None`` where that is not wanted or would be of no use."""
        if port_mapping and policy != "relay":
            self.announcer = Announcer(reactor, self.discovery, self._send)
            self.discovery.on_view = self.announcer.changed
        self.informed = self._introductions.informed
        self.doorman = Doorman(reactor)
        """Listens at :attr:`port` and :attr:`mapped_port` for every meeting."""
        self._lan: list[str] = []
        self.over_loopback = False
        self.over_private = False
        self._here: frozenset[Endpoint] = frozenset()
        self.failed = self._upkeep.failed

    @property
    def own_endpoints(self) -> frozenset[Endpoint]:
        """The punch port as this machine and as the server sees it, and the router's: nobody else is there."""
        return (
            self._here | self.discovery.seen | frozenset(self.announcer.offered if self.announcer is not None else ())
        )

    @property
    def mapped_port(self) -> tuple[int, bool]:
        """The local port that the router leads here, or may lead here soon, 0 if there is none; whether it does."""
        if self.announcer is None:
            return 0, False
        return self.announcer.mapping.port, bool(self.announcer.endpoints)

    # -- keeping the connection ----------------------------------------------------------------------------------

    def start(self) -> Deferred[Registered]:
        """Connect and stay connected; fires with the first registration, or fails when the first attempt does."""
        return self._upkeep.start()

    @property
    def trouble(self) -> tuple[str, float | None]:
        """Why it is not connected any more, empty while it is; and after what time it tries again, seconds."""
        return self._upkeep.trouble, self._upkeep.again_s

    def stop(self) -> None:
        """Close every connection to the server and stay away."""
        self._upkeep.stop()
        self._drop(Unreachable("the program is ending"))

    async def leave(self) -> None:
        """As :meth:`stop`, and give the router its port back, which may take a second."""
        self.stop()
        if self.announcer is not None:
            await self.announcer.mapping.close()

    async def renew(self) -> None:
        """Reconnect from a fresh local port, for a new punch."""
        self.reconnect()
        await self.when_registered()

    def reconnect(self) -> None:
        """Leave this connection for another one: a NAT that lost one mapping has probably lost this one too.  What
        waits for an answer is asked again there."""
        if self._link is not None and self.registered is not None:
            self._upkeep.at_once()
            self._drop(Unreachable("a fresh local port is wanted"), asks_again=True)

    def _moved(self) -> None:
        self._on_note("this machine is on another network now; connecting to the server from there")
        self.reconnect()

    async def when_registered(self) -> None:
        """Wait until the control connection stands (again)."""
        if self.registered is None:
            await self._waiting.moment()

    async def _one_connection(self) -> P2pxferError:
        """Connect, register and stay; returns why that ended."""
        self._lost = Deferred()
        link = ServerLink(self._reactor, self._on_message, self._on_lost)
        try:
            connecting = Deferred.fromCoroutine(self._connect(link))
            too_slow = partial(too_late, f"the server at {self._server} did not answer")
            connecting.addTimeout(CONNECT_S, self._reactor, too_slow)
            await connecting
            return await self._lost
        except CancelledError:
            raise
        except Exception as fault:
            self._nats.unreached()
            if isinstance(fault, P2pxferError):
                return fault
            return Unreachable(f"the server at {self._server} cannot be reached: {why_not_reached(fault)}")
        finally:
            # A dial says a turn of the reactor late that it stands: who ends before that has not come to wait for TLS.
            link.secured.addErrback(self._not_secured)
            link.close()
            if self._link is link:
                self._drop(Unreachable("the connection to the server ended"))

    def _not_secured(self, failure: Failure) -> None:
        if not failure.check(P2pxferError, CancelledError):
            self.log.failure("TLS with the server", failure)

    async def _connect(self, link: ServerLink) -> None:
        """TCP from a fresh port, TLS, registration; whoever calls this limits the time."""
        for _ in range(PORT_TRIES):
            port = fresh_port()
            if port == self.mapped_port[0]:
                continue
            try:
                await self._dialler.dial(link, port)
                break
            except ConnectBindError:
                continue
        else:
            raise Unreachable("no local port is free to dial from")
        await link.secured
        self._link = link
        self.port = port
        self._learn_addresses(link)
        self._registration = Deferred()
        link.send(Register(VERSION, port, self._name, self._lan, *self._terms))
        await self._registration

    def open_as_seen(self, link: ServerLink, host: str, port: int, local: int) -> Deferred[IProtocol]:
        """Dial from the own IPv6 address that the server saw; for the control connection the kernel chooses."""
        own = (self.discovery.source6 or "") if ":" in host else ""
        return self._dialler.dial_at(link, host, port, local, own)

    def _send(self, message: Message) -> None:
        if self._link is not None:
            self._link.send(message)

    def _learn_addresses(self, link: ServerLink) -> None:
        here, there = link.tcp.getHost(), link.tcp.getPeer()
        remote = scope(parse_endpoint(endpoint_text(there.host, there.port)).host)
        self.over_loopback = remote == "loopback"
        self.over_private = remote in ("private", "shared")
        self._here = frozenset({canonical_endpoint(parse_endpoint(endpoint_text(here.host, self.port)))})
        self._lan = lan_candidates(here.host, self.port, self.over_loopback)
        if self.announcer is not None and not self.over_loopback:
            self.announcer.mapping.begin(here.host)

    # -- what the server says ------------------------------------------------------------------------------------

    def _on_message(self, link: ServerLink, message: object) -> None:
        match message:
            case Registered():
                self._on_register_answer(message)
            case Introduction() if message.initiator:
                if (answer := self._introductions.next()) is not None:
                    self.introduced(message)
                    answer.callback(message)
            case Introduction():
                self._on_introduction(message)
            case PeerNat() | PeerReturned() | PeerMapped():
                self._introductions.inform(message)
            case ServerFailure():
                self._on_failure(link, message)
            case _:
                pass

    def introduced(self, introduction: Introduction) -> None:
        """A meeting is taken up: its other side hears what is found out here from now on."""
        self.discovery.introduced(introduction)
        if self.announcer is not None:
            self.announcer.introduced(introduction)

    def _on_register_answer(self, message: Registered) -> None:
        if self.registered is not None:
            raise ProtocolBreach("the server answered one registration twice")
        if self._name is not None and message.name != self._name:
            raise ProtocolBreach("the server registered another name than was asked for")
        self.registered = message
        if message.id != self._identity.id.digest:
            raise ProtocolBreach("the server sees another key than this machine has")
        if self._link is not None:
            there = self._link.tcp.getPeer()
            at = canonical_endpoint(parse_endpoint(endpoint_text(there.host, there.port)))
            own = frozenset(canonical_endpoint(parse_endpoint(text)).host for text in self._lan)
            self.discovery.begin(at, self.port, message, own)
            self._link.keep_alive(self._nats.begun(self._outside(message), message.ping_s, self._reactor.seconds()))
            self._network.start(at)
            if self.announcer is not None:
                self.announcer.registered()
            self._introductions.ask_again(self.port)
        if self._missed:
            self._missed = False
            self._on_note("the server is back")
        self._on_registered(message)
        if not self._registration.called:
            self._registration.callback(None)
        self._waiting.come()
        self._upkeep.stands(message)

    def _outside(self, registered: Registered) -> str:
        """The address that the server sees of this machine: where another NAT is, there is another one."""
        return str(parse_endpoint(registered.observed).host)

    def _on_failure(self, link: ServerLink, message: ServerFailure) -> None:
        error = from_wire(message.word, safe_text(message.message))
        if message.fatal:
            link.fail(error)
        elif (answer := self._introductions.next()) is not None:
            answer.errback(error)

    def _on_lost(self, link: ServerLink, error: P2pxferError) -> None:
        if link is self._link:
            registered = self.registered
            self._drop(error)
            if registered is not None:
                self._nats.ended(self._outside(registered), link.died_idle, self._reactor.seconds())
                self._missed = True
                if not isinstance(error, FINAL):
                    self._on_note(f"the server is gone ({error.message}); trying to get back")

    def _drop(self, error: P2pxferError, *, asks_again: bool = False) -> None:
        link, self._link = self._link, None
        # Firing one of them may begin the next connection, which has its own.
        registration, lost = self._registration, self._lost
        self.registered = None
        self._network.stop()
        if link is not None:
            link.close()
        self.discovery.end()
        if self.announcer is not None:
            self.announcer.lost()
        self._introductions.lost(None if asks_again else error)
        if not registration.called:
            registration.errback(error)
        if not lost.called:
            lost.callback(error)

    # -- what is asked -------------------------------------------------------------------------------------------

    def introduce(self, to: str, policy: PathPolicy, wait_s: int = 0) -> Deferred[Introduction]:
        """Ask to be introduced to a registered name or a peer id, which may take ``wait_s`` seconds to come.

        Fails with the server's error, :class:`~p2pxfer.errors.Unreachable` where the peer is not there.
        """
        if self._link is None:
            return fail(Unreachable("the server is not connected"))
        return self._introductions.ask(Introduce(to=to, tag=self.port, path=policy, wait_s=wait_s))

    def outcome(self, session: bytes, way: str, result: str) -> None:
        """Say what came of a punch, if the server is there."""
        self._send(Outcome(session, way, result))

    def join_relay(self, token: bytes, inner: IProtocol, creator: Creator, is_client: bool) -> Deferred[IProtocol]:
        """Open a relay leg; when the other leg stands too, ``inner`` runs over it under ``creator``'s TLS."""
        return self._dialler.join_relay(token, inner, creator, is_client)
