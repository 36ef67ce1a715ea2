"""What the protocols of this project need of the transport that carries them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from p2pxfer.core.session.records import Opener, Sealer
from p2pxfer.net.connection.tcpinfo import Flow
from p2pxfer.net.connection.tls import Link, Octets


class TLSTransport(Protocol):
    """What a protocol on top of TLS can do with its transport, on a socket or inside another connection."""

    disconnecting: bool
    """It is being closed, or is."""

    def write(self, data: Octets) -> None:
        """Send; ``data`` is kept by reference and must not change afterwards."""

    def writeSequence(self, data: Iterable[Octets]) -> None:
        """Send the pieces in order; see :meth:`write`."""

    def loseConnection(self) -> None:
        """Send what was written, then that nothing follows, then close."""

    def end_with(self, words: bytes) -> bool:
        """Close as :meth:`loseConnection` does, with ``words`` in the last record for what is not encrypted yet.

        False, and nothing done, where nothing can be sealed now.
        """

    @property
    def last_words(self) -> bytes:
        """What the other end said so; empty if that was nothing."""

    def abortConnection(self) -> None:
        """Close at once with a reset; nothing more is received."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have ``producer`` (IPushProducer) paused while the send buffer is full."""

    def unregisterProducer(self) -> None:
        """The producer has written everything."""

    def pauseProducing(self) -> None:
        """Stop reading: the other end is slowed down."""

    def resumeProducing(self) -> None:
        """Read on."""

    def seal_from_here(self, sealer: Sealer) -> None:
        """What is written from now on goes out in sealed records; what was written goes before that, in TLS."""

    def open_from_here(self, opener: Opener) -> None:
        """What comes behind the TLS record that is being delivered are sealed records."""

    def getHandle(self) -> Link:
        """The OpenSSL connection."""

    def getHost(self) -> Any:
        """The local address (IAddress)."""

    def getPeer(self) -> Any:
        """The remote address (IAddress)."""

    @property
    def unsent(self) -> int:
        """Bytes that were written and for which the socket had no room yet."""

    def flow(self) -> Flow | None:
        """What went out, as the kernel counts it; ``None`` where it does not tell."""

    def silent_for(self) -> float:
        """Seconds for which nothing was acknowledged that the kernel repeats; 0.0 if all is well or it cannot tell."""

    @property
    def round_trip(self) -> float:
        """The kernel's estimate, seconds; 0.0 where it has none."""
