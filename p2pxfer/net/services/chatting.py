"""A conversation kept up with one contact: one session after the other, and the channel of each.

Laws of this file:

1. A session that fails because the peer was started anew, or is gone, is followed by another one; only what no session
   would change ends the conversation.
2. The side that asks for introductions opens the channel.  A peer that ends it has left, and may come back.
3. What came is consumed at once, since the conversation bounds what it holds; of a chat that is held nothing is, so
   that the channel's window bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pxfer.core.backoff import Backoff
from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.channel import Arrived, Asked, ChannelEvent, Gone, PeerEnded, Stands, Writable
from p2pxfer.core.session.chatwire import SERVICE
from p2pxfer.core.session.conversation import ChatEvent, Conversation
from p2pxfer.errors import IdentityMismatch, Incomplete, LimitReached, P2pxferError, Refused, Unreachable
from p2pxfer.net.session.pairsession import PairSession
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor

PATIENCE_S = 86_400.0
"""How long one session looks for the peer before it makes room for another one, seconds."""
AGAIN = (Incomplete, Unreachable, LimitReached, Refused)
"""What another session may change: that the peer was started anew is a refusal in the words of its last session."""
LONGEST_PAUSE_S = 5.0
"""Longest pause between two sessions, seconds."""
FAREWELL_S = 3.0
"""How long the end of the channel may take, seconds."""


class ChatOwner(Interface):
    """What a conversation tells."""

    def chat_event(self, event: ChatEvent) -> None:
        """A line came, was delivered, or there are no more."""

    def chat_stands(self) -> None:
        """The channel stands, and is held until the words were compared."""

    def chat_released(self) -> None:
        """The user has compared the words of a chat that was held: what waited for that may go."""

    def chat_words(self, words: tuple[str, ...]) -> None:
        """The peer shows these words to its user."""

    def chat_parted(self) -> None:
        """The channel stands no more, also where it was held."""

    def chat_here(self, here: bool) -> None:
        """The peer is here now, or is not any more."""


class Stage(Enum):
    """How far the channel of the session is."""

    NONE = "there is none"
    ASKED = "the peer's answer is awaited"
    STANDING = "it stands"
    GONE = "it is over, and with it the session when the peer knows that"


class Chatting:
    """See the laws above.  ``make`` gives a new session with these two listeners.

    ``held``: no line goes out or is looked at before :meth:`release`.  ``denied``: the peer ended the channel since the
    words that its user compared differ.
    """

    def __init__(
        self,
        reactor: Reactor,
        conversation: Conversation,
        make: Callable[[Callable[[ChannelEvent], None], Callable[[], None]], PairSession],
        owner: ChatOwner,
        random: Callable[[], float],
        *,
        held: bool = False,
    ) -> None:
        self._reactor = reactor
        self._conversation = conversation
        self._make = make
        self._owner = owner
        self._backoff = Backoff(random, LONGEST_PAUSE_S)
        self._session: PairSession | None = None
        self._channel: int | None = None
        self._early: Introduction | None = None
        self._stage = Stage.NONE
        self._held = held
        self.denied = False
        self._came: list[bytes] = []
        self._left: Deferred[None] | None = None
        """Whoever leaves waits for the end of the session."""
        self._ended: Deferred[P2pxferError | None] = Deferred()

    @property
    def asks(self) -> bool:
        """Whether this side asks for the introductions."""
        return self._session is not None and self._session.asks

    @property
    def held(self) -> bool:
        """Whether no line goes or comes before :meth:`release`."""
        return self._held

    def compare(self) -> tuple[str, ...] | None:
        """The words of a connection, which the peer shows too; ``None`` if it is not here."""
        return self._session.compare() if self._session is not None else None

    def release(self) -> None:
        """The user has compared the words: lines go and come from now on, if they did not before."""
        if not self._held:
            return
        self._held = False
        self._owner.chat_released()
        if self._stage is Stage.STANDING:
            self._begin()
        came, self._came = self._came, []
        session, channel = self._session, self._channel
        if session is not None and channel is not None:
            for data in came:
                self._arrived(session, channel, data)
        self.push()

    def refuse(self, there: P2pxferError, here: P2pxferError) -> bool:
        """Give the channel up and tell the peer why; the conversation ends with ``here`` then.  False without one."""
        if self._session is None or self._channel is None:
            return False
        self._session.channels.reset(self._channel, there)
        self._session.link.flush()
        self._session.fail(here)
        return True

    def introduced(self, introduction: Introduction) -> None:
        """The server introduces somebody who asked; between two sessions that is for the next one."""
        if self._session is not None:
            self._session.introduced(introduction)
        else:
            self._early = introduction

    async def run(self, client: RendezvousClient) -> None:
        """Keep the conversation up until :meth:`leave`, or until it is cancelled.

        Raises:
            P2pxferError: what no other session would change.
        """
        while True:
            error = await self._one_session(client)
            if self._left is not None:
                self._left.callback(None)
                return
            if error is not None and not isinstance(error, AGAIN):
                raise error
            await deferLater(self._reactor, self._backoff.next())

    async def _one_session(self, client: RendezvousClient) -> P2pxferError | None:
        self._ended = Deferred()
        session = self._session = self._make(self._event, self._settled)
        session.failed.addCallback(self._over)
        session.on_compare = self._owner.chat_words
        try:
            if session.asks:
                self._stage, self._channel = Stage.ASKED, session.channels.open(SERVICE)
            session.start(client)
            early, self._early = self._early, None
            if early is not None:
                session.introduced(early)
            error = await self._ended
            self._session = None
            await (session.finish() if error is None else session.leave())
            return error
        finally:
            self._session = None
            self._detach(Stage.NONE)
            session.close()

    def _over(self, error: P2pxferError | None) -> None:
        if not self._ended.called:
            self._ended.callback(error)

    def _attach(self) -> None:
        self._backoff.reset()
        self._stage = Stage.STANDING
        if self._held:
            self._owner.chat_stands()
        else:
            self._begin()

    def _begin(self) -> None:
        self._conversation.attach()
        self._owner.chat_here(True)

    def _detach(self, stage: Stage) -> None:
        stood, self._stage, self._channel = self._stage is Stage.STANDING, stage, None
        if stood:
            self._owner.chat_parted()
        self._came.clear()
        if self._conversation.connected:
            self._conversation.detach()
            self._owner.chat_here(False)

    async def leave(self) -> None:
        """Say that nothing more comes, and part in good order, as far as the peer is there."""
        session, channel = self._session, self._channel
        if session is None or channel is None or not self._conversation.connected:
            return
        self.push()
        session.channels.end(channel)
        session.link.flush()
        if self._left is None:
            self._left = Deferred()
        late = self._reactor.callLater(FAREWELL_S, self._over, None)
        try:
            await self._left
        finally:
            if late.active():
                late.cancel()

    def push(self) -> None:
        """Send what the conversation has, as far as there is room."""
        session, channel = self._session, self._channel
        if session is None or channel is None or not self._conversation.connected:
            return
        while (room := session.channels.room(channel)) and (data := self._conversation.take(room)):
            session.channels.write(channel, data)
        session.link.soon()

    # -- from the session --------------------------------------------------------------------------------------------

    def _event(self, event: ChannelEvent) -> None:
        session = self._session
        if session is None:
            return
        match event:
            case Asked(channel, service):
                if service != SERVICE or self._stage is not Stage.NONE:
                    session.channels.reset(channel, Refused("there is one chat and nothing else here"))
                    return
                self._channel = channel
                session.channels.accept(channel)
                self._attach()
            case Stands():
                self._attach()
            case Arrived(_, data) if self._held:
                self._came.append(bytes(data))  # not consumed, so the channel's window bounds it
            case Arrived(channel, data):
                self._arrived(session, channel, bytes(data))
            case PeerEnded(channel):
                session.channels.end(channel)
            case Gone():
                self._detach(Stage.GONE)
                self.denied = isinstance(event.error, IdentityMismatch)
                if event.error is not None:
                    self._over(event.error)
            case Writable():
                pass
        self.push()

    def _settled(self) -> None:
        """The peer has everything: after the end of the channel the session may end too."""
        if self._stage is Stage.GONE:
            self._over(None)

    def _arrived(self, session: PairSession, channel: int, data: bytes) -> None:
        try:
            for event in self._conversation.receive(data):
                self._owner.chat_event(event)
        except P2pxferError as error:
            session.channels.reset(channel, error)
            session.fail(error)
            return
        session.channels.consumed(channel, len(data))
