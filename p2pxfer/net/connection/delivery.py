"""Where the bytes that a connection receives belong, and how they reach its protocol.

Laws of this file:

1. A protocol that has memory of its own waiting gets the bytes there, without another copy.
2. All connections share the memory for everything else: what is in it is dealt with before the call that brought it
   returns.  Those inside another one share memory of their own (:class:`InnerDelivery`): they deliver while a delivery
   of the outer one is under way.
"""

from __future__ import annotations

from typing import ClassVar, Final, Protocol, runtime_checkable

from twisted.internet.interfaces import IProtocol

from p2pxfer.core.session.records import MAX_RECORD

DELIVERY: Final = MAX_RECORD
"""Most bytes in one ``dataReceived``: any record has room, and it stays inside a processor's second-level cache."""


@runtime_checkable
class DirectReceiver(Protocol):
    """A protocol that may have memory of its own waiting for the next bytes, which saves a copy of each."""

    def memory_for_input(self) -> memoryview | None:
        """Where the next bytes belong, or ``None`` when they are to come through ``dataReceived``."""
        ...

    def input_arrived(self, size: int) -> None:
        """``size`` bytes were written to the start of what :meth:`memory_for_input` returned.

        0 when something came of which nothing can be read yet: a sign of life.
        """
        ...


class Delivery:
    """Brings bytes to a protocol, whose ``dataReceived`` gets views of memory that is used again afterwards."""

    _shared: ClassVar[memoryview] = memoryview(bytearray(DELIVERY))

    def __init__(self, protocol: IProtocol) -> None:
        self._into_own = False
        self.protocol = protocol

    @property
    def protocol(self) -> IProtocol:
        """Who gets the bytes; another one may take over between two deliveries."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: IProtocol) -> None:
        self._protocol = protocol
        self._direct = protocol if isinstance(protocol, DirectReceiver) else None

    def memory(self, most: int, piece: int) -> memoryview:
        """Where the next bytes belong, ``most`` of them at most; bytes come by ``piece``, and one always has room."""
        own = None if self._direct is None else self._direct.memory_for_input()
        self._into_own = own is not None and len(own) >= piece
        if own is None or not self._into_own:
            return self.shared(piece)
        return own[: max(most, piece)]

    def shared(self, piece: int) -> memoryview:
        """Memory for bytes without a place of their own, or of no use to anybody.

        Short where the protocol has its own memory now and then, so that the bulk finds its way there.
        """
        return self._shared[: DELIVERY if self._direct is None else piece]

    def deliver(self, size: int) -> None:
        """``size`` bytes were written to the start of what :meth:`memory` returned; none as a sign of life."""
        if self._direct is not None and (self._into_own or not size):
            self._direct.input_arrived(size)
        elif size:
            self._deliver_shared(size)

    def _deliver_shared(self, size: int) -> None:
        with self._shared[:size] as view:
            self._protocol.dataReceived(view)  # type: ignore[arg-type]  # as users of the transport are told


class InnerDelivery(Delivery):
    """The same for a connection inside another one."""

    _shared: ClassVar[memoryview] = memoryview(bytearray(DELIVERY))
