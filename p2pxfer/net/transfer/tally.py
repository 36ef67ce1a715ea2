"""How much an incoming transfer is, as far as it is known, and what a user is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from msgspec import structs

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import RefusedHere
from p2pxfer.status import Accepted, Done, Event, Offer, RefusedOffer, Resumed


class Tally:
    """Of one transfer; ``tell`` gets the offer as an event, and once more when it was counted."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self.announced = Announced(0, 0, 0, counting=True)
        """What the sender said last."""
        self.offer: Offer | None = None
        """What was told of it, with the numbers of now."""
        self._news = False
        self._since = -math.inf
        self._before: dict[str, int] = {}
        """What had come when the sender that is there now began, by kind of path, and when that was."""

    @property
    def now(self) -> Offer:
        """The offer, after :meth:`offered`."""
        assert self.offer is not None
        return self.offer

    def offered(self, manifest: Manifest) -> None:
        """Tell what is offered."""
        names = tuple(manifest.top_names)
        self.offer = Offer(*self._total(manifest), names, counting=self.announced.counting)
        self._tell(self.offer)

    def grown(self, files: int, size: int, *, counting: bool) -> None:
        """Tell that more is offered than before."""
        self.offer = structs.replace(self.now, files=files, bytes=size, counting=counting)
        self._tell(self.offer)

    def says(self, announced: Announced, manifest: Manifest | None) -> None:
        """The sender has seen more of what it sends."""
        self.announced = announced
        if manifest is None or self.offer is None or not self.offer.counting:
            return
        if announced.counting:
            self.count(manifest)
        else:
            self.offered(manifest)

    def refused(self) -> RefusedHere:
        """Tell that the user here said no; what the sender hears of that."""
        self._tell(RefusedOffer(why="by the user here"))
        return RefusedHere()

    def missed(self) -> None:
        """The user was told that the sender of what was accepted is away, or was probably killed: that is as good."""
        self._news = True

    def back(self, have: int, now: float, moved: Mapping[str, int]) -> None:
        """A path carries it again: tell all of it where that is news; what comes back at once had never been away.

        ``moved`` is what came until ``now`` by kind of path, bytes.
        """
        if not self._news:
            return
        self._news, self._since, self._before = False, now, dict(moved)
        self._tell(self.now)
        self._tell(Accepted())
        self.here(have)

    def latest(self, done: Done, now: float) -> Done:
        """The end for people, who were told of what was here when the sender was back: what came since, and in what
        time, as that sender says it too."""
        moved = {kind: size - self._before.get(kind, 0) for kind, size in done.bytes_by_path.items()}
        seconds = min(done.seconds, now - self._since)
        return structs.replace(
            done, seconds=seconds, bytes_by_path={kind: size for kind, size in moved.items() if size}
        )

    def here(self, have: int) -> None:
        """Tell what is here already of what was accepted."""
        if have:
            self._tell(Resumed(have_bytes=have))

    def count(self, manifest: Manifest) -> None:
        """Put the numbers of now into the offer."""
        files, size = self._total(manifest)
        self.offer = structs.replace(self.now, files=files, bytes=size)

    def _total(self, manifest: Manifest) -> tuple[int, int]:
        files, size = len(manifest.sizes), manifest.total_bytes
        if manifest.complete:
            return files, size
        return max(files, self.announced.files), max(size, self.announced.bytes)
