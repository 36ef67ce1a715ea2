"""Two users who compare the words of one connection after a pairing, before either machine stores the other.

Laws of this file:

1. It ends well only when both users have said yes.  A no of either, the end of the connection before both yes have
   arrived, and too long a time are an error on both sides; but where the connection takes the last yes with it, whoever
   said that has ended well, and the other side has not.
2. Words hold no longer than their connection, so a yes counts on that one alone.
3. Whoever is asked is asked no more as soon as the answer would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLong
from twisted.internet.interfaces import IReactorTime

from p2pxfer.core.contact.compare import DIFFER, Words
from p2pxfer.core.session.farewell import problem
from p2pxfer.core.session.wire import SameWords
from p2pxfer.errors import IdentityMismatch, P2pxferError, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathwords import words_on

COMPARE_S: Final = 600.0
"""How long two people may compare words, seconds."""
STOPPED = "the comparison was stopped there before both had said that the words are the same"
ENDED = "the connection ended before both had said that the words are the same"


class BothSame:
    """One comparison of the words of ``path``, whose owner passes on what comes there."""

    def __init__(self, clock: IReactorTime, path: PeerPath) -> None:
        self.words = words_on(path)
        self._clock = clock
        self._path = path
        self._agreeing: Deferred[None] | None = None
        self._yes: Deferred[None] = Deferred()
        """The user of the other side said yes."""
        self._error: P2pxferError | None = None

    async def agree(self, ask: Callable[[Words], Coroutine[Any, Any, None]]) -> None:
        """Ask the own user, tell the other side, and wait for its user.

        ``ask(words)`` raises :class:`~p2pxfer.errors.P2pxferError` for a no.  The peer is told of that; the path stays
        for whoever owns it to close.

        Raises:
            IdentityMismatch: one of the two users said no.
            Refused: the other side has nobody to ask, or it took too long.
            Unreachable: the connection ended before.
            CancelledError: whoever waits for this gave it up.
            P2pxferError: what ``ask`` raised.
        """
        if self._error is not None:
            raise self._error
        agreeing = self._agreeing = Deferred.fromCoroutine(self._agree(ask))
        agreeing.addTimeout(COMPARE_S, self._clock)
        try:
            await agreeing
        except TooLong:
            error = Refused(f"the words were not compared within {COMPARE_S / 60:.0f} minutes")
            self._say_no(error)
            raise error from None
        except CancelledError:
            if self._error is None:
                self._say_no(Refused(STOPPED))
                raise
            raise self._error from None

    async def _agree(self, ask: Callable[[Words], Coroutine[Any, Any, None]]) -> None:
        try:
            await ask(self.words)
        except P2pxferError as error:
            self._say_no(IdentityMismatch(DIFFER) if isinstance(error, IdentityMismatch) else error)
            raise
        self._path.send(SameWords())
        await self._yes

    def _say_no(self, error: P2pxferError) -> None:
        self._path.send(problem(error))

    def heard(self) -> None:
        """The user of the other side said yes.

        Raises:
            ProtocolBreach: that was said before.
        """
        if self._yes.called:
            raise ProtocolBreach("the words were called the same twice")
        self._yes.callback(None)

    def lost(self, error: P2pxferError) -> None:
        """The connection is gone, with the reason that the other side gave if it gave one."""
        if self._error is None:
            given = isinstance(error, IdentityMismatch | Refused)
            self._error = error if given else Unreachable(f"{ENDED}: {error.message}")
        if self._agreeing is not None:
            self._agreeing.cancel()
