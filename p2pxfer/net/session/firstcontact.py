"""Pairing over one path: carries the frames of :mod:`p2pxfer.core.contact.pairing` and ends in exactly one verdict."""

from __future__ import annotations

import os
from collections.abc import Callable

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.contact.pairing import SCALAR_BYTES, SID_BYTES, OutFrame, PairFrame, Pairing, Party, Setting, State
from p2pxfer.core.session.wire import Pair1, Pair2, PairConfirm, Paired
from p2pxfer.errors import P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.types import Reactor

SID_LABEL = b"EXPORTER-p2pxfer-pair"
PAIRING_S = 30.0
"""Deadline for the whole exchange, seconds."""

_MESSAGES: dict[PairFrame, Callable[[bytes], Message]] = {
    PairFrame.PAIR1: lambda body: Pair1(body=body),
    PairFrame.PAIR2: lambda body: Pair2(body=body),
    PairFrame.CONFIRM: lambda body: PairConfirm(body=body),
}

Verdict = Callable[[P2pxferError | None], None]
"""Called once: with ``None`` when both sides know the code, with the reason otherwise."""


class FirstContact:
    """One pairing on ``path``; the path's owner passes the pairing messages on to :meth:`receive`."""

    def __init__(self, reactor: Reactor, path: PeerPath, own: Party, peer: Party, verdict: Verdict) -> None:
        sid = path.export(SID_LABEL, b"1", SID_BYTES)
        self._setting = Setting(own=own, peer=peer, sid=sid, scalar=os.urandom(SCALAR_BYTES))
        self._path = path
        self._verdict: Verdict | None = verdict
        self._pairing: Pairing | None = None
        self._timer = reactor.callLater(PAIRING_S, self.lost)

    def enter(self, code: Code) -> None:
        """Initiator: start with the code that the user entered."""
        self._pairing = Pairing.initiator(code, self._setting)
        self._send(self._pairing.start())

    def show(self, take: Callable[[int], str]) -> None:
        """Responder: wait; ``take(slot)`` gives the words of an open code once."""
        self._pairing = Pairing.responder(take, self._setting)

    def receive(self, message: Message) -> None:
        """A message of the pairing came.

        Raises:
            ProtocolBreach: it is not legal now.
            WrongCode: the other side does not know the code.
        """
        pairing = self._pairing
        assert pairing is not None
        try:
            match message:
                case Paired() if pairing.state is State.CONFIRMED:
                    self._end(None)
                case Pair1():
                    self._send(pairing.receive(PairFrame.PAIR1, message.body))
                case Pair2():
                    self._send(pairing.receive(PairFrame.PAIR2, message.body))
                case PairConfirm():
                    pairing.receive(PairFrame.CONFIRM, message.body)
                    self._path.send(Paired())
                    self._end(None)
                case _:
                    raise ProtocolBreach(f"{type(message).__name__} came during the pairing")
        except P2pxferError as error:
            self._end(error)
            raise

    def lost(self, why: P2pxferError | None = None) -> None:
        """The path is gone, for the reason that the peer gave if it gave one, or the time is over."""
        if self._verdict is None:
            return
        burned = self._pairing.lost() if self._pairing is not None else None
        self._end(burned or why or Unreachable("the pairing did not come to its end"))

    def _send(self, frames: tuple[OutFrame, ...]) -> None:
        for frame in frames:
            self._path.send(_MESSAGES[frame.kind](frame.body))

    def _end(self, error: P2pxferError | None) -> None:
        if self._timer.active():
            self._timer.cancel()
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict(error)
