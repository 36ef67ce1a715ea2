"""What a sender's chunks have to do with older versions: which wait for what the receiver tells, and which are patches.

Laws of this file:

1. A file of which the receiver has still to tell waits; the files behind it do not.
2. No file waits for ever: where nothing else goes on and nothing was told for a time, it is sent whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall

from p2pxfer.core.session.deltawire import BLOCK_HASH, HASHES_PER_MESSAGE, Basis, Lack, Older, WantBasis
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.delta import Blocks, Differences
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.errors import ProtocolBreach
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.transfer.loaded import HANDLE, Loaded
from p2pxfer.net.types import Reactor

PATIENCE_S: Final = 30.0
"""How long nothing may be told while nothing else is to be done, and besides the time that it takes to read a file at
:data:`SLOWEST_RATE`, bytes a second."""
SLOWEST_RATE: Final = 20e6
MOST_ASIDE: Final = 16 * 1024
"""Most chunks of waiting files that are set aside: behind them everything waits."""


class Comparing:
    """The older versions in one sending; ``push`` is called when chunks that had to wait may go."""

    def __init__(self, reactor: Reactor, manifest: Manifest, core: SenderCore, push: Callable[[], None]) -> None:
        self._reactor = reactor
        self._manifest = manifest
        self._core = core
        self._push = push
        self._differences = Differences(manifest, tells=False)
        self._aside: dict[int, list[ChunkAddress]] = {}
        self._set_aside = 0
        self._timer: IDelayedCall | None = None

    def accepted(self, *, tells: bool) -> None:
        """Another process receives now."""
        self._differences = Differences(self._manifest, tells=tells, done=self._core.is_there)
        self._stop_waiting()
        for file in list(self._aside):
            self._take_back(file)

    def message(self, path: int, message: Older | Basis | Lack) -> None:
        """The receiver tells something on ``path``.

        Raises:
            ProtocolBreach: see :class:`~p2pxfer.core.transfer.delta.Differences`; what it lacks was no rest either.
        """
        if message.handle != HANDLE:
            raise ProtocolBreach("the receiver speaks of a transfer that was not offered on this path")
        if not self._core.is_open(path):
            return  # it has not heard yet that another process receives now
        match message:
            case Older():
                self._differences.older(message)
                self._go_on()
            case Basis():
                self._differences.told(path, message)
                if message.last:
                    self._take_back(message.file)
                if message.last or len(message.hashes) == HASHES_PER_MESSAGE * BLOCK_HASH:
                    self._stop_waiting()
            case Lack():
                rests, patches = self._core.rests.lacked(path, message)
                self._core.lacking(rests, path)
                self._core.lacking(self._differences.lacked(patches))

    def lost(self, path: int) -> None:
        """A path is gone."""
        self._differences.lost(path)

    def ask(self, carriers: list[PeerPath]) -> None:
        """Ask for the hashes of older versions on the first path."""
        for path in carriers[:1]:
            for file in self._differences.ask(path.facts.number):
                path.send(WantBasis(handle=HANDLE, file=file))

    # -- chunks --------------------------------------------------------------------------------------------------

    def next_chunk(self) -> ChunkAddress | None:
        """Take out the next missing chunk that need not wait."""
        while (address := self._core.next_chunk()) is not None:
            if not self._differences.waits_for(address[0]):
                return address
            if self._set_aside == MOST_ASIDE:
                self._core.drop_chunk(address)
                return None
            self._aside.setdefault(address[0], []).append(address)
            self._set_aside += 1
        return None

    def left_out(self, file: int) -> None:
        """The file does not come: nothing of it waits."""
        self._take_back(file)

    def of(self, address: ChunkAddress) -> Blocks | None:
        """The blocks that the chunk may be made of, ``None`` where it is sent whole."""
        return self._differences.of(address)

    def is_vain(self, loaded: Loaded) -> bool:
        """It is a patch, and the receiver has lacked the chunk since, or is another one."""
        return loaded.ops is not None and self._differences.of(loaded.address) is not loaded.older

    def goes(self, loaded: Loaded) -> None:
        """The chunk goes out."""
        if loaded.ops is not None:
            self._differences.patched(loaded.address)

    # -- patience ------------------------------------------------------------------------------------------------

    def idle(self, idle: bool) -> None:
        """Whether there is nothing to do for now but to wait for what the receiver tells."""
        if not idle or not self._aside:
            self._stop_waiting()
        elif self._timer is None:
            size = sum(self._manifest.sizes[file] for file in self._differences.late or [next(iter(self._aside))])
            self._timer = self._reactor.callLater(PATIENCE_S + size / SLOWEST_RATE, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self._differences.give_up()
        self._go_on()
        self._push()

    def _go_on(self) -> None:
        """Something was told: files that were set aside may go, and the others wait anew."""
        self._stop_waiting()
        for file in [file for file in reversed(self._aside) if not self._differences.waits_for(file)]:
            self._take_back(file)

    def _take_back(self, file: int) -> None:
        """Nothing is set aside of this file: its chunks are missing as others are."""
        aside = self._aside.pop(file, [])
        self._set_aside -= len(aside)
        for address in reversed(aside):
            self._core.drop_chunk(address)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
