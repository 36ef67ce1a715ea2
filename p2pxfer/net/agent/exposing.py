"""A service that an agent exposes, as ``p2pxfer expose`` does, and goes on doing so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import structs

from p2pxfer.core.agent.config import ServiceConfig
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.messages import Registered
from p2pxfer.core.session.services import parse_target
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import ConfigError, P2pxferError
from p2pxfer.net.agent.presence import Presence
from p2pxfer.net.services.forwarding import Outlet, tcp_target
from p2pxfer.net.services.peerservice import PeerService
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.status import Event, Exposed, Note, Peer


class Exposing:
    """One service; ``tell`` gets lines for the log."""

    def __init__(self, machine: Machine, config: ServiceConfig, tell: Callable[[str], None]) -> None:
        self._config = config
        self._tell_line = tell
        self._machine = structs.replace(machine, tell=self._event)
        self._presence = Presence(machine.reactor, self._attempt, self._tell)
        self._left_out: dict[str, str] = {}
        """Why somebody of the configuration is let in no more; under no name why nobody is."""
        host, port = parse_target(config.target)
        # One for all attempts, since it counts the connections of each contact.
        target = tcp_target(machine.reactor, host, port)
        self._outlet = Outlet(machine.reactor, config.service, target, self._event)
        self._service: PeerService | None = None
        self._told = False

    def start(self) -> None:
        """Be there from now on."""
        self._presence.start()

    async def stop(self) -> None:
        """Be there no more; the connections are reset."""
        await self._presence.stop()

    async def _attempt(self) -> P2pxferError:
        service = self._service = PeerService(
            self._machine, self._config.service, self._guests, self._outlet.asked, self._registered,
            lambda guest, event: self._event(event, guest), self._outlet.turned_away, self._outlet.stranger,
        )  # fmt: skip
        try:
            await service.start()
            return await service.failed
        finally:
            self._service, self._told = None, False
            await service.close()

    def _guests(self) -> Iterator[KnownPeer]:
        """Who of those in the configuration is a contact who may use services; of the others it is told once.

        It is asked whenever somebody comes, since the user makes and renames contacts while the agent runs.
        An id is no exception: who was removed from the contacts is let in no more.
        """
        try:
            contacts = self._machine.home.contacts()
        except ConfigError as error:
            self._left("", f"it is exposed to nobody: {error.message}")
            return
        self._left_out.pop("", None)
        known = {name: contact for contact in contacts for name in (contact.name, str(contact.id))}
        for who in self._config.to:
            contact = known.get(who)
            if contact is None:
                self._left(who, f"{safe_text(who)} is not a contact, and is left out")
            elif not contact.allows(Right.SERVICES):
                self._left(who, f"{contact.name} is denied services here, and is left out")
            else:
                if self._left_out.pop(who, None) is not None:
                    self._tell(f"{contact.name} may use it now")
                yield KnownPeer(contact.id.digest, contact.name, "contact")

    def _left(self, who: str, why: str) -> None:
        if self._left_out.get(who) != why:
            self._left_out[who] = why
            self._tell(why)

    def _registered(self, answer: Registered) -> None:
        self._presence.there()
        told, self._told = self._told, True
        if not told:
            exposed = self.exposed
            self._tell(describe(exposed) if exposed is not None else "it is exposed to nobody yet")

    @property
    def observed(self) -> str:
        """Where the server sees this machine; empty while it does not know of the service."""
        registered = self._service.registered if self._service is not None else None
        return registered.observed if registered is not None else ""

    @property
    def exposed(self) -> Exposed | None:
        """What is open to whom, while the server knows of it and there is anybody."""
        names = tuple(guest.shown for guest in self._guests()) if self.observed else ()
        return Exposed(self._config.service, self._config.target, names) if names else None

    @property
    def trouble(self) -> tuple[str, float | None]:
        """As of :class:`~p2pxfer.net.agent.receiving.Receiving`."""
        own = self._presence.trouble, self._presence.again_s
        return own if own[0] or self._service is None else self._service.trouble

    @property
    def closed(self) -> str:
        """Why nobody can reach it, with what it is, while :attr:`exposed` is nothing."""
        left_out = self._left_out.get("") or "; ".join(self._left_out.values())
        why = left_out if self.observed else self.trouble[0]
        return f"{self._config.service}, {self._config.target}: {why or 'the server does not know of it yet'}"

    @property
    def left_out(self) -> tuple[str, ...]:
        """Who of the configuration cannot reach it, and why, while :attr:`exposed` is something."""
        return tuple(f"{self._config.service}: {why}" for why in self._left_out.values())

    def _event(self, event: Event, guest: KnownPeer | None = None) -> None:
        text = describe(event)
        if text and not isinstance(event, Note):  # of the server the receiving side tells
            if guest is not None and not isinstance(event, Peer):  # which names the guest by itself
                text = f"{safe_text(guest.shown)}: {text}"
            self._tell(text)

    def _tell(self, text: str) -> None:
        self._tell_line(f"service {self._config.service}: {text}")
