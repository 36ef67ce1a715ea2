"""This machine as a library needs it: its keys, its contacts, its server, and how it meets others."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from p2pxfer.core.messages import Introduction, PathPolicy, Registered
from p2pxfer.core.names import check_name, normalise_name, suggest_name
from p2pxfer.core.serveraddress import ServerLine, parse_server_line
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.home import Home, default_home
from p2pxfer.net.session.knownpeers import known_peer
from p2pxfer.net.session.peercheck import Checkee
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import server_address
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, Note


def _silent(event: Event) -> None:
    """Nobody wants to know."""


class Machine(Struct, frozen=True):
    """This machine, and how it finds others.

    ``path`` is as on the command line: ``auto``, ``direct`` (never the relay) or ``relay``; ``gentle`` forbids many
    dials at once, ``port_mapping`` asks the router for a port.  ``patience``: longest time without any path to a peer,
    seconds.  ``tell`` hears what happens, as events of :mod:`p2pxfer.status`.
    """

    reactor: Reactor
    home: Home
    server: ServerLine
    name: str
    path: PathPolicy = "auto"
    gentle: bool = False
    port_mapping: bool = True
    patience: float = 60.0
    tell: Callable[[Event], None] = _silent

    @classmethod
    def here(
        cls, reactor: Reactor, home: str | Path | None = None, server: str | None = None, **options: Any
    ) -> Machine:
        """With what ``p2pxfer init`` stored, or ``P2PXFER_HOME`` and ``P2PXFER_SERVER`` say.

        Raises:
            ConfigError: the private directory cannot be used, or no server is set.
            UsageError: the server's address is none.
        """
        opened = Home(Path(home) if home is not None else default_home(os.environ))
        settings = opened.settings()
        line = server or os.environ.get("P2PXFER_SERVER") or settings.server
        if not line:
            raise ConfigError("no rendezvous server is set: name one, or set P2PXFER_SERVER, or run p2pxfer init")
        name = check_name(normalise_name(settings.name)) if settings.name else suggest_name(getpass.getuser())
        return cls(reactor, opened, parse_server_line(line), name, **options)

    def peer(self, text: str) -> Checkee:
        """The contact of that name or id, or whoever has that id.

        Raises:
            UsageError: it is neither.
        """
        return known_peer(self.home, text, "a service")

    def client(
        self,
        name: str | None,
        on_introduction: Callable[[Introduction], None],
        on_registered: Callable[[Registered], None],
    ) -> RendezvousClient:
        """A connection to the server, under ``name`` or none."""
        return RendezvousClient(
            self.reactor,
            self.home.identity(),
            server_address(self.server),
            name=name,
            policy=self.path,
            on_registered=on_registered,
            on_introduction=on_introduction,
            by_key=False,
            on_note=lambda text: self.tell(Note(text)),
            port_mapping=self.port_mapping,
        )
