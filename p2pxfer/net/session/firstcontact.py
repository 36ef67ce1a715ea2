"""Pairing over one path: carries the frames of :mod:`p2pxfer.core.contact.pairing` and ends in exactly one verdict.

Where either side wants the users to compare words, that follows on the same path, behind the verdict.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codes import Code
from p2pxfer.core.contact.pairing import SCALAR_BYTES, SID_BYTES, OutFrame, PairFrame, Pairing, Party, Setting, State
from p2pxfer.core.session.wire import Pair1, Pair2, PairConfirm, Paired, SameWords
from p2pxfer.errors import P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.session.bothsame import BothSame
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.types import Reactor

SID_LABEL = b"EXPORTER-p2pxfer-pair"
PAIRING_S = 30.0
"""Deadline for the whole exchange, seconds."""

Verdict = Callable[[P2pxferError | None], None]
"""Called once: with ``None`` when both sides know the code, with the reason otherwise."""


class FirstContact:
    """One pairing on ``path``; the path's owner passes the pairing messages on to :meth:`receive`.

    ``compare``: the user of this side wants words compared.
    """

    def __init__(
        self, reactor: Reactor, path: PeerPath, own: Party, peer: Party, verdict: Verdict, compare: bool = False
    ) -> None:
        sid = path.export(SID_LABEL, b"1", SID_BYTES)
        self._setting = Setting(own=own, peer=peer, sid=sid, scalar=os.urandom(SCALAR_BYTES))
        self._path = path
        self._verdict: Verdict | None = verdict
        self._compare = compare
        self._reactor = reactor
        self.both: BothSame | None = None
        """What comes before a contact is made, from the verdict on; ``None`` where neither side wants it."""
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
                case Paired() if pairing.state is State.CONFIRMED and self._verdict is not None:
                    self._proved(message.compare)
                case SameWords() if self.both is not None:
                    self.both.heard()
                case Pair1():
                    self._send(pairing.receive(PairFrame.PAIR1, message.body))
                case Pair2():
                    self._send(pairing.receive(PairFrame.PAIR2, message.body))
                case PairConfirm():
                    pairing.receive(PairFrame.CONFIRM, message.body)
                    self._path.send(Paired(compare=self._compare))
                    self._proved(message.compare)
                case _:
                    raise ProtocolBreach(f"{type(message).__name__} came during the pairing")
        except P2pxferError as error:
            self._end(error)
            raise

    def lost(self, why: P2pxferError | None = None) -> None:
        """The path is gone, for the reason that the peer gave if it gave one, or the time is over."""
        if self.both is not None:
            self.both.lost(why or Unreachable("the path is gone"))
        if self._verdict is None:
            return
        burned = self._pairing.lost() if self._pairing is not None else None
        self._end(burned or why or Unreachable("the pairing did not come to its end"))

    def _send(self, frames: tuple[OutFrame, ...]) -> None:
        for frame in frames:
            self._path.send(self._message(frame))

    def _message(self, frame: OutFrame) -> Message:
        match frame.kind:
            case PairFrame.PAIR1:
                return Pair1(body=frame.body)
            case PairFrame.PAIR2:
                return Pair2(body=frame.body)
            case PairFrame.CONFIRM:
                return PairConfirm(body=frame.body, compare=self._compare)

    def _proved(self, wanted_there: bool) -> None:
        if self._compare or wanted_there:
            self.both = BothSame(self._reactor, self._path)
        self._end(None)

    def _end(self, error: P2pxferError | None) -> None:
        if self._timer.active():
            self._timer.cancel()
        verdict, self._verdict = self._verdict, None
        if verdict is not None:
            verdict(error)
