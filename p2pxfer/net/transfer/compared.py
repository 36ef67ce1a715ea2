"""A cargo beside which words are compared: it goes nowhere before two people have read the same ones to each other.

Laws of this file:

1. No path is given to the cargo before the user said that the words are the same; the peer learns nothing of it.
2. Every path of a job leads to one key, which TLS proved on each.  So words of one connection are enough, and the first
   path gives them; where it ends before the answer, its words are seen there no more, and the next path gives others.
3. What the user denies ends the job, and the peer is told why on every path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.compare import DIFFER, Words
from p2pxfer.core.session.channelwire import Compare
from p2pxfer.core.session.farewell import problem
from p2pxfer.errors import IdentityMismatch, P2pxferError, Unreachable
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.pathwords import words_on
from p2pxfer.net.transfer.cargo import Cargo, Left
from p2pxfer.status import Event


class ComparedCargo:
    """``cargo`` behind a comparison.

    ``compare(path, words)`` asks the user and raises :class:`~p2pxfer.errors.P2pxferError` for a no; ``None`` where
    nothing is compared.  It is cancelled where the words do not hold any more.  ``shown(path, words)`` gets those that
    the peer compares, and ``gone(path)`` tells when they do not hold any more.
    """

    log = Logger()

    def __init__(
        self,
        cargo: Cargo,
        compare: Callable[[PeerPath, Words], Awaitable[None]] | None,
        shown: Callable[[PeerPath, Words], None],
        gone: Callable[[PeerPath], None],
    ) -> None:
        self._cargo = cargo
        self._compare = compare
        self._shown = shown
        self._gone = gone
        self._same = compare is None
        self._held: list[PeerPath] = []
        self._asking: Deferred[None] | None = None
        self._asked: PeerPath | None = None
        """Whose words the user is asked about now."""
        self._failed: Callable[[Exception], None] | None = None
        self._refused = False
        self.introduced = False

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self._failed = failed
        self._cargo.attach(paths, done, failed)

    def open_path(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`; the path waits where the words were not compared yet."""
        self.introduced = True
        if self._same:
            self._cargo.open_path(path)
            return
        self._held.append(path)
        if self._asking is None:
            self._ask_about(path)

    def _ask_about(self, path: PeerPath) -> None:
        assert self._compare is not None
        path.send(Compare())
        self._asked = path
        asking = Deferred.fromCoroutine(self._ask(self._compare(path, words_on(path))))
        self._asking = asking
        asking.addErrback(self._not_asked)

    async def _ask(self, comparing: Awaitable[None]) -> None:
        try:
            await comparing
        except P2pxferError as error:
            self._refuse(error)
            return
        self._asked = None
        self._same = True
        held, self._held = self._held, []
        for path in held:
            self._cargo.open_path(path)

    def _not_asked(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("comparing words failed", failure)
            self._refuse(Unreachable("the words could not be compared, by a fault inside the program"))

    def _refuse(self, error: P2pxferError) -> None:
        self._refused = True
        self._asked = None
        there = IdentityMismatch(DIFFER) if isinstance(error, IdentityMismatch) else error
        for path in self._held:
            path.send(problem(there))
        if self._failed is not None:
            self._failed(error)

    def close_path(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        if path in self._held:
            self._held.remove(path)
        self._gone(path)
        if path is self._asked and self._asking is not None:
            asking, self._asking, self._asked = self._asking, None, None
            asking.cancel()
            if self._held:
                self._ask_about(self._held[0])
        self._cargo.close_path(path)

    def message(self, path: PeerPath, message: Message) -> list[Event]:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        if isinstance(message, Compare):
            self._shown(path, words_on(path))
            return []
        return self._cargo.message(path, message)

    def close(self) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self._asked = None
        if self._asking is not None:
            self._asking.cancel()
        self._cargo.close()

    # -- as it is ----------------------------------------------------------------------------------------------------

    @property
    def offered(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.offered

    @property
    def accepted(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.accepted

    @property
    def spreads(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.spreads

    @property
    def after_cut(self) -> str:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.after_cut

    @property
    def left(self) -> Left:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.left

    @property
    def parting(self) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._refused or self._cargo.parting

    @property
    def acked_bytes(self) -> int:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.acked_bytes

    def is_idle(self, path: PeerPath) -> bool:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        return self._cargo.is_idle(path)

    def push(self) -> None:
        """See :class:`~p2pxfer.net.transfer.cargo.Cargo`."""
        self._cargo.push()
