"""Everything that one peer brings to an inbox: transfers by their number, streams by their sender's process.

Laws of this file:

1. A path carries one of them, named by the first message on it, and nothing else.
2. Transfers belong to a manifest, not to a connection: any path from the same key may carry them on.  What all of them
   remember of file lists is bounded together.
3. A stream belongs to one process of the sender; another process brings another stream.  A path on which it was not
   offered brings nothing yet, and one of a stream that is over brings nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from p2pxfer.core.codec import Message
from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.channelwire import Attach
from p2pxfer.core.session.deltawire import Patch
from p2pxfer.core.session.pathchoice import OVER
from p2pxfer.core.session.restwire import Rest
from p2pxfer.core.session.transferwire import Chunk, Offer
from p2pxfer.errors import P2pxferError, ProtocolBreach, Refused, Unreachable
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.undecided import Undecided

MAX_TRANSFERS: Final = 64
"""Most transfers at once; each holds a table of hashes."""
MAX_STREAMS: Final = 16
"""Most streams at once; each may hold a window of data."""


class Arrivals:
    """See the laws above; ``begin(path, number, budget)`` and ``begin_stream(path)`` make what a path brings first."""

    def __init__(
        self,
        begin: Callable[[PeerPath, bytes, ListBudget], IncomingTransfer],
        begin_stream: Callable[[PeerPath], IncomingStream],
        undecided: Undecided,
    ) -> None:
        self.undecided = undecided
        """What of it waits for an answer."""
        self._begin = begin
        self._begin_stream = begin_stream
        self._transfers: dict[bytes, IncomingTransfer] = {}
        self._finished: dict[bytes, tuple[float, IncomingTransfer | None]] = {}
        """When transfers were confirmed lately, for paths of the same meeting that come too late; of those with long
        lists nothing else is kept.
        """
        self._budget = ListBudget()
        self._streams: dict[bytes, IncomingStream] = {}
        self._past: dict[bytes, None] = {}
        """Senders' processes whose streams are over, for paths that come too late."""
        self._carried: dict[PeerPath, IncomingTransfer | IncomingStream] = {}

    def __contains__(self, path: PeerPath) -> bool:
        return path in self._carried

    def on(self, path: PeerPath) -> IncomingTransfer | IncomingStream | None:
        """What ``path`` carries."""
        return self._carried.get(path)

    def brings(self, path: PeerPath) -> bool:
        """Whether ``path`` carries something that may still come to an end."""
        carried = self._carried.get(path)
        return carried.brings if isinstance(carried, IncomingStream) else carried is not None

    @property
    def unfinished(self) -> bool:
        """Whether anything was begun that may go on."""
        return bool(self._transfers) or bool(self._live_streams())

    def goes_on(self, message: Offer | Attach) -> bool:
        """Whether ``message`` brings something that was begun before and may go on."""
        if isinstance(message, Attach):
            stream = self._streams.get(message.instance)
            return stream is not None and not stream.over
        transfer = self._transfers.get(message.transfer)
        return transfer is not None and not transfer.over

    def confirmed_since(self, moment: float) -> bool:
        """Whether a transfer was confirmed after ``moment``, in the reactor's time."""
        return any(confirmed > moment for confirmed, _ in self._finished.values())

    # -- paths ---------------------------------------------------------------------------------------------------

    def offer(self, path: PeerPath, since: float, offer: Offer) -> None:
        """``path``, whose meeting began at ``since``, brings a transfer.

        Raises:
            P2pxferError: not on this path, or not now.
        """
        if path in self._carried:
            raise ProtocolBreach("an offer came on a path that had one already")
        confirmed, transfer = self._finished.get(offer.transfer, (None, None))
        if confirmed is None or since > confirmed:
            # Also the same files, offered over a path of a later meeting.
            transfer = self._unfinished_one(path, offer.transfer)
        elif transfer is None:
            path.close()
            return
        self._carried[path] = transfer
        transfer.message(path, offer)

    def attach(self, path: PeerPath, message: Attach) -> None:
        """``path`` brings a stream, or another path for one.

        Raises:
            P2pxferError: not on this path, or not now.
        """
        if path in self._carried:
            self.message(path, message)
            return
        if message.instance in self._past:
            raise Unreachable(OVER)
        stream = self._streams.get(message.instance)
        if stream is None:
            if len(self._live_streams()) >= MAX_STREAMS:
                raise Refused("too many streams at once")
            stream = self._streams[message.instance] = self._begin_stream(path)
        self._carried[path] = stream
        stream.open_path(path)
        stream.message(path, message)

    def message(self, path: PeerPath, message: Message) -> None:
        """Another message came on ``path``.

        Raises:
            P2pxferError: see the ``message`` of what it carries.
        """
        carried = self._on(path)
        if isinstance(message, (Patch, Bundle, Rest)) and isinstance(carried, IncomingTransfer):
            carried.chunk(path, message)
        else:
            carried.message(path, message)

    def chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """A chunk came on ``path``.

        Raises:
            P2pxferError: see :meth:`~p2pxfer.net.transfer.incoming.IncomingTransfer.chunk`.
        """
        carried = self._on(path)
        if not isinstance(carried, IncomingTransfer):
            raise ProtocolBreach("a chunk came among channels")
        carried.chunk(path, chunk)

    def room(self, path: PeerPath) -> None:
        """``path`` takes data again."""
        carried = self._carried.get(path)
        if isinstance(carried, IncomingStream):
            carried.room(path)

    def close_path(self, path: PeerPath, error: P2pxferError) -> None:
        """A path is gone, for this reason."""
        carried = self._carried.pop(path, None)
        if carried is not None:
            carried.close_path(path)
            self.undecided.lost(carried, path, error)
            self._live_streams()
        self._forget_others([carried])

    def bye(self, path: PeerPath) -> None:
        """The sender knows that everything is here, or has given it up."""
        carried = self._carried.get(path)
        if isinstance(carried, IncomingStream):
            carried.confirm()
        elif carried is not None:
            carried.confirm()
            if not carried.over:
                carried.abandon()
            self._transfers = {key: other for key, other in self._transfers.items() if other is not carried}
            if carried.confirmed is not None:
                short = carried.manifest is None or carried.manifest.pages == 1
                self._finished[carried.number] = carried.confirmed, carried if short else None
            if len(self._finished) > MAX_TRANSFERS:
                del self._finished[next(iter(self._finished))]
            self._forget_others([carried])

    def _on(self, path: PeerPath) -> IncomingTransfer | IncomingStream:
        carried = self._carried.get(path)
        if carried is None:
            raise ProtocolBreach("a message of a transfer came before its offer")
        return carried

    # -- what they bring -----------------------------------------------------------------------------------------

    def _unfinished_one(self, path: PeerPath, number: bytes) -> IncomingTransfer:
        transfer = self._transfers.get(number)
        if transfer is None or transfer.over:
            known = [*self._transfers.values()]
            self._transfers = {key: other for key, other in self._transfers.items() if not other.over}
            self._forget_others(known)
            if len(self._transfers) >= MAX_TRANSFERS:
                raise Refused("too many transfers at once")
            transfer = self._transfers[number] = self._begin(path, number, self._budget)
        return transfer

    def _forget_others(self, among: Iterable[IncomingTransfer | IncomingStream | None]) -> None:
        """Let those go that nothing leads to any more; short lists of finished ones are few enough not to count."""
        for transfer in among:
            known = transfer in self._carried.values() or transfer in self._transfers.values()
            if isinstance(transfer, IncomingTransfer) and not known:
                transfer.forgotten()

    def _live_streams(self) -> dict[bytes, IncomingStream]:
        """The streams of which something may still come; the others are only remembered by their number."""
        for instance, stream in list(self._streams.items()):
            if not stream.attached and (stream.over or stream.offer is None):
                stream.close()
                del self._streams[instance]
                self._past[instance] = None
                if len(self._past) > MAX_STREAMS:
                    del self._past[next(iter(self._past))]
        return self._streams

    # -- the end -------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Nothing has come back for too long: let go of everything."""
        for transfer in self._transfers.values():
            transfer.abandon()
        for stream in self._streams.values():
            stream.abandon()

    def end_streams(self) -> None:
        """The program ends: no stream goes on, and its sender is told."""
        self.undecided.close()
        for stream in self._streams.values():
            stream.close()

    def unended(self) -> Iterator[IncomingTransfer]:
        """The transfers that have to be closed when the program ends."""
        yield from list(self._transfers.values())
