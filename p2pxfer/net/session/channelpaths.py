"""Channels on the paths of a session: what the core wants said goes out where there is room.

Laws of this file:

1. Numbered frames go over the best path on which the peer has attached itself; receipts over the path that they are
   about.
2. What comes in one turn of the reactor is answered once, so one receipt stands for many pieces.
3. While data is on its way what the path delivers is measured, and where packets get lost it is given a congestion
   control that bears that (:class:`~p2pxfer.net.session.widening.Steadier`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.core.codec import Message
from p2pxfer.core.session.channel import ChannelEvent
from p2pxfer.core.session.channels import Channels
from p2pxfer.core.session.channelwire import CHANNEL_ROWS, ChannelMessage, Piece
from p2pxfer.errors import P2pxferError, ProtocolBreach
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.widening import Steadier

_TYPES: tuple[type[Message], ...] = (*(kind for _, kind in CHANNEL_ROWS), Piece)


class ChannelPaths:
    """Joins ``core`` and ``paths``; ``on_event`` hears what happened, ``on_settled`` when the peer has everything.

    ``on_failed`` hears of what ends the session while there is no caller to tell.
    """

    def __init__(
        self,
        clock: IReactorTime,
        core: Channels,
        paths: PathSet,
        on_event: Callable[[ChannelEvent], None],
        on_settled: Callable[[], None],
        on_failed: Callable[[P2pxferError], None],
    ) -> None:
        self._clock = clock
        self._core = core
        self._paths = paths
        self._on_event = on_event
        self._on_settled = on_settled
        self._on_failed = on_failed
        self._soon: IDelayedCall | None = None
        self._steadier = Steadier(clock, paths, lambda: core.held_bytes > 0)

    def open_path(self, path: PeerPath) -> None:
        """A path of the session is up and open."""
        self._core.open_path(path.facts.number)
        self.flush()

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""
        self._core.close_path(path.facts.number)
        self.flush()

    def message(self, path: PeerPath, message: Message) -> None:
        """A message came on ``path``.

        Raises:
            P2pxferError: it ends the session.
        """
        if not isinstance(message, _TYPES):
            raise ProtocolBreach(f"{type(message).__name__} came among channels")
        new = self._core.receive(path.facts.number, cast(ChannelMessage, message))
        if isinstance(message, Piece):
            self._paths.carried(path, len(message.payload), outward=False, again=not new)
        self.soon()

    def room(self, path: PeerPath) -> None:
        """``path`` takes data again."""
        self._paths.room(path)
        self.flush()

    def soon(self) -> None:
        """Something may have happened, or there may be something to send."""
        if self._soon is None:
            self._soon = self._clock.callLater(0, self._flush_now)

    def stop(self) -> None:
        """Nothing more is sent."""
        self._steadier.stop()
        if self._soon is not None:
            self._soon.cancel()
        self._soon = None

    def _flush_now(self) -> None:
        self._soon = None
        self.flush()

    def flush(self) -> None:
        """Tell what happened, and send what there is while there is room."""
        try:
            self._flush()
        except P2pxferError as error:
            self._on_failed(error)

    def _flush(self) -> None:
        self._tell()
        ordered = self._paths.ordered(self._core.usable)
        best = next((path for path in ordered if self._core.usable(path.facts.number)), None)
        if best is not None:
            self._core.use(best.facts.number)
        for path in ordered:
            self._send(path)
        # With its last frame a channel may be over.
        self._tell()
        if self._core.settled:
            self._on_settled()

    def _tell(self) -> None:
        for event in self._core.events():
            self._on_event(event)

    def _send(self, path: PeerPath) -> None:
        while path.writable and (message := self._core.take(path.facts.number)) is not None:
            path.send(message)
            if isinstance(message, Piece):
                self._paths.carried(path, len(message.payload))
                self._steadier.start()
