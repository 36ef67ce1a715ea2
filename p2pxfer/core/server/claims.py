"""Claims: who asks for a name, what becomes of that, and what waits for it.

Laws of this file:

1. A name belongs to one key, which the store knows.  Where a connection of another key holds it the store is not asked.
2. The key's newest connection under a name holds it, from its grant on.
3. What a client says behind its registration waits for the store's answer, in order, and is bounded.
4. Each claim is counted before the store is asked, and what was counted is settled by its answer
   (:mod:`p2pxfer.core.server.newnames`).

It does not know what a connection is told, nor what else ends with one.
"""

from __future__ import annotations

from typing import Final

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Register
from p2pxfer.core.names import check_name
from p2pxfer.core.server.effects import Claim, ClaimName, ServerSettings
from p2pxfer.core.server.links import Link, Links, Role
from p2pxfer.core.server.newnames import Charge, NewNames
from p2pxfer.errors import DiskError, LimitReached, NameTaken, P2pxferError, RateLimited

_MAX_QUEUED: Final = 64
"""Most messages that a client may send behind a ``Register`` whose claim is not decided yet."""
_TAKEN: Final = "this name belongs to another key"


class Claims:
    """The claims of one server; ``now`` is monotonic seconds."""

    def __init__(self, links: Links, settings: ServerSettings) -> None:
        self._links = links
        self._new_names = NewNames(settings)

    def begin(self, link: Link, message: Register, now: float) -> ClaimName:
        """A connection asks for the name in ``message``; what to ask the store.

        Raises:
            NameInvalid: it is none.
            NameTaken: a connection of another key holds it.
        """
        assert message.name is not None
        name = check_name(message.name)
        holder = self._links.holder(name)
        if holder is not None and holder.key != link.key:
            raise NameTaken(_TAKEN)
        link.name, link.by_key = name, message.by_key
        self._links.enter(link, Role.CLAIMING, now)
        link.charge = self._new_names.take(link.key, name, link.view.seen.host, now)
        return ClaimName(link.conn, name, link.key, may_create=link.charge is not Charge.NONE)

    def wait(self, link: Link, message: Message) -> None:
        """A message came before the store's answer.

        Raises:
            RateLimited: there are too many.
        """
        if len(link.queued) >= _MAX_QUEUED:
            raise RateLimited("too many messages before the registration")
        link.queued.append(message)

    def decided(self, link: Link, claim: Claim, now: float) -> Link | None:
        """The store has answered; the connection that held the name so far and has to go before :meth:`grant`.

        Raises:
            P2pxferError: it was not granted, and why.
        """
        assert link.name is not None
        host = link.view.seen.host
        self._new_names.decided(link.charge, link.key, link.name, host, claim == "new", now)
        error: P2pxferError
        match claim:
            case "new" | "kept":
                return self._links.holder(link.name)
            case "taken":
                error = NameTaken(_TAKEN)
            case "key-limit":
                error = LimitReached("this key owns as many names as it may")
            case "source-limit":
                error = LimitReached(self._new_names.refusal(host, now))
            case "io":
                error = DiskError("the server cannot store names now")
        raise error

    def grant(self, link: Link) -> list[Message]:
        """The connection holds its name; returns what waited."""
        self._links.hold(link)
        queued, link.queued = link.queued, []
        return queued
