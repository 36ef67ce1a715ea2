"""What a sending job carries: files (:mod:`p2pxfer.net.transfer.pump`) or a stream
(:mod:`p2pxfer.net.transfer.outstream`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from p2pxfer.core.codec import Message
from p2pxfer.errors import P2pxferError
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.status import Event


class Left(Struct, frozen=True):
    """What the receiver does not get of a cargo though the job is done: so many ``files`` of its list, ``size`` bytes.

    ``paths`` of these and of what was not listed, since it may not be read, and ``error``, what a user has to know of
    them and may do, are there when all else is there.
    """

    files: int = 0
    size: int = 0
    paths: tuple[str, ...] = ()
    error: P2pxferError | None = None


class Cargo(Protocol):
    """What a job asks of it; the job gives it paths and messages, and hears of its end."""

    @property
    def introduced(self) -> bool:
        """Whether a path was given to it."""

    @property
    def offered(self) -> bool:
        """Whether the peer was told what it is."""

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it."""

    @property
    def spreads(self) -> bool:
        """Whether it goes over several connections at the same time."""

    @property
    def after_cut(self) -> str:
        """What a user has to know, and may do, when it was cut."""

    @property
    def left(self) -> Left:
        """What of it does not come, as far as that is known by now."""

    @property
    def parting(self) -> bool:
        """Whether something was said in :meth:`close` that should arrive before the paths close."""

    @property
    def acked_bytes(self) -> int:
        """Bytes that the receiver has confirmed."""

    def attach(self, paths: PathSet, done: Callable[[bytes], None], failed: Callable[[Exception], None]) -> None:
        """Where it may go, and whom to tell its hash at the end, or what went wrong here."""

    def open_path(self, path: PeerPath) -> None:
        """A path whose peer is known."""

    def close_path(self, path: PeerPath) -> None:
        """A path is gone."""

    def message(self, path: PeerPath, message: Message) -> list[Event]:
        """A message came; returns what the user is to be told before :meth:`push`.

        Raises:
            P2pxferError: it ends the job.
        """

    def is_idle(self, path: PeerPath) -> bool:
        """Whether ``path`` may be closed without anything being sent twice for it."""

    def push(self) -> None:
        """Send what there is while there is room."""

    def close(self) -> None:
        """Read and send nothing more."""
