"""This machine as commands and libraries need it: its keys, its contacts, its server, and how it meets others."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from p2pxfer.core.approach import Approach
from p2pxfer.core.messages import Introduction, PathPolicy, Registered, Role
from p2pxfer.core.names import check_name, normalise_name, suggest_name
from p2pxfer.core.serveraddress import ServerLine, parse_server_line
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.home import Home, default_home
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.knownpeers import KnownPeer, known_peer
from p2pxfer.net.session.parties import Party
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import server_address
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, Note

PATIENCE_S = 60.0
"""Longest time without any path to a peer where nothing else is wanted, seconds."""


def _silent(event: Event) -> None:
    """Nobody wants to know."""


def _uninvited(introduction: Introduction) -> None:
    """Nobody can ask for a machine without a name; the server knows that from the registration."""


def _unheard(answer: Registered) -> None:
    """Nobody needs to know."""


class Machine(Struct, frozen=True):
    """This machine, and how it finds others.

    ``patience``: longest time without any path to a peer, seconds.  ``tell`` hears what happens, as events of
    :mod:`p2pxfer.status`.
    """

    reactor: Reactor
    home: Home
    identity: Identity
    server: ServerLine
    name: str
    approach: Approach = Approach()
    patience: float = PATIENCE_S
    tell: Callable[[Event], None] = _silent

    @classmethod
    def here(
        cls,
        reactor: Reactor,
        home: str | Path | None = None,
        server: str | None = None,
        *,
        path: PathPolicy = "auto",
        gentle: bool = False,
        port_mapping: bool = True,
        patience: float = PATIENCE_S,
        tell: Callable[[Event], None] = _silent,
    ) -> Machine:
        """With what ``p2pxfer init`` stored, or ``P2PXFER_HOME`` and ``P2PXFER_SERVER`` say.

        ``path``, ``gentle`` and ``port_mapping`` are as on the command line, see
        :class:`~p2pxfer.core.approach.Approach`.

        Raises:
            ConfigError: the private directory cannot be used, or no server is set.
            UsageError: the server's address is none.
        """
        opened = Home(Path(home) if home is not None else default_home(os.environ))
        settings = opened.settings()
        line = server or os.environ.get("P2PXFER_SERVER") or settings.server
        if not line:
            raise ConfigError(
                "no rendezvous server is set: give --server HOST:PORT#PIN (server= in a program), set P2PXFER_SERVER,"
                " or run p2pxfer init"
            )
        name = check_name(normalise_name(settings.name)) if settings.name else suggest_name(getpass.getuser())
        parsed, approach = parse_server_line(line), Approach(path, gentle, port_mapping)
        return cls(reactor, opened, opened.identity(), parsed, name, approach, patience, tell)

    def peer(self, text: str) -> KnownPeer:
        """The contact of that name or id, or whoever has that id.

        Raises:
            UsageError: it is neither.
        """
        return known_peer(self.home, text, "a service")

    def party(
        self, role: Role, peer_key: bytes, *, peer_name: str | None = None, trusted: bool = False, beside: bool = False
    ) -> Party:
        """This machine in a meeting with whoever has that key; see :class:`~p2pxfer.net.session.parties.Party`."""
        gentle = self.approach.gentle
        return Party(self.identity, role, self.name, peer_name, peer_key, trusted=trusted, gentle=gentle, beside=beside)

    def client(
        self,
        name: str | None = None,
        on_introduction: Callable[[Introduction], None] = _uninvited,
        on_registered: Callable[[Registered], None] = _unheard,
        *,
        by_key: bool = False,
    ) -> RendezvousClient:
        """A connection to the server, under ``name`` or none.

        ``by_key``: whoever asks for this machine by its key, as contacts do who send, may be introduced to it.
        """
        return RendezvousClient(
            self.reactor,
            self.identity,
            server_address(self.server),
            name=name,
            policy=self.approach.policy,
            on_registered=on_registered,
            on_introduction=on_introduction,
            on_note=lambda text: self.tell(Note(text)),
            port_mapping=self.approach.port_mapping,
            by_key=by_key,
        )
