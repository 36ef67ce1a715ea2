"""What the kernel was told about the connections of a session: their congestion control, and how fast they may send.

Laws of this file:

1. A connection that is given back its congestion control gets the one that it had itself, and goes as fast as it likes:
   a cap belongs to the one that paces by a model.
2. What begins anew is not capped before its growth has ended again (:mod:`p2pxfer.core.session.secondstart`).
3. What is known of a connection is forgotten with it and not before, whichever job sends: a cap that was begun anew
   might be a lower one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from p2pxfer.core.session.lines import Line
from p2pxfer.core.session.pacecap import PaceCap
from p2pxfer.core.session.secondstart import SecondStart
from p2pxfer.net.debuglog import Logger
from p2pxfer.net.session.path import PeerPath

BEARS_LOSS: Final = "bbr"
"""The congestion control that does not take loss for a full line, by the kernel's name."""


class Tuning:
    """Of the paths of one session."""

    log = Logger()

    def __init__(self) -> None:
        self._usual: WeakKeyDictionary[PeerPath, str] = WeakKeyDictionary()
        """The congestion control that a connection had at first."""
        self._starts: WeakKeyDictionary[PeerPath, SecondStart] = WeakKeyDictionary()
        self._caps: WeakKeyDictionary[PeerPath, PaceCap] = WeakKeyDictionary()

    def bear_loss(self, group: Sequence[PeerPath]) -> bool:
        """Give all of them what bears loss; false if one does not get it, or the first one has it anyway."""
        done = _governor(group[0]) not in (None, BEARS_LOSS) and all(map(self._bear_loss, group))
        self.log.debug("{name} bears loss: {done}", name=BEARS_LOSS, done=done)
        return done

    def _bear_loss(self, path: PeerPath) -> bool:
        usual = _governor(path)
        if usual is not None and usual != BEARS_LOSS:
            self._usual[path] = usual
        return path.descriptor is not None and path.descriptor.govern(BEARS_LOSS)

    def undo(self, group: Iterable[PeerPath]) -> None:
        """Give each of them back what it had."""
        for path in group:
            usual, descriptor = self._usual.pop(path, None), path.descriptor
            if usual is None or descriptor is None:
                continue
            descriptor.govern(usual)
            if self._caps.pop(path, None) is not None:
                descriptor.cap_pace(0)

    def pace(self, group: Iterable[PeerPath], lines: Mapping[int, Line], now: float) -> None:
        """Look at the connections as they are now, cap what is to be capped, and have begin anew what is to."""
        for path in group:
            line, descriptor = lines.get(path.facts.number), path.descriptor
            if line is None or descriptor is None or descriptor.governor != BEARS_LOSS:
                continue
            if self._starts.setdefault(path, SecondStart()).look(line, now):
                self._begin_anew(path)
            cap = self._caps.setdefault(path, PaceCap()).look(line, now)
            if cap is not None:
                descriptor.cap_pace(cap)

    def _begin_anew(self, path: PeerPath) -> None:
        descriptor = path.descriptor
        done = descriptor is not None and descriptor.begin_anew(BEARS_LOSS)
        self.log.debug("{name} begins anew: {done}", name=BEARS_LOSS, done=done)
        if done and descriptor is not None and self._caps.pop(path, None) is not None:
            descriptor.cap_pace(0)


def _governor(path: PeerPath) -> str | None:
    return path.descriptor.governor if path.descriptor is not None else None
