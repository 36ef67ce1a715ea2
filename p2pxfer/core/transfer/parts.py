"""Parts of chunks at the receiver: what had come of a chunk when its path ended, kept until the rest of it comes.

On a slow line a chunk takes longer than a path may last.  Laws of this file:

1. A part is the begin of a chunk that is not here, ``least`` octets of it at least.  Of one chunk there is one part: of
   one hash the longer, of two hashes the one that came last.
2. There are :data:`MAX_PARTS` parts at most, the longest, in the memory of what came of them; those of all transfers of
   a sender have :data:`MAX_KEPT` octets together.  They live no longer than their list and their transfer: from
   :meth:`Parts.end` to :meth:`Parts.renew` there are none, and nothing here looks at a list.
3. A rest is taken only on a path that was told of a part of that chunk, once for each time: whoever is sent chunks
   decides how many may come to nothing.
4. A part and a rest are joined if both name one hash and the part reaches to where the rest begins.  The part is gone
   then: what comes of the two is verified as a whole chunk is, and if it is not right, neither is used again.
5. A rest of what is being stored is answered when that is done: as acknowledged, or lacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from p2pxfer.core.framing import Frame
from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.session.deltawire import Lack
from p2pxfer.core.session.restwire import REST_HEADER_SIZE, REST_KIND, Part, Rest, decode_rest
from p2pxfer.core.session.transferwire import CHUNK_HEADER_SIZE, DATA_KIND, Chunk, decode_chunk
from p2pxfer.core.transfer.inflow import Incoming, Inflow
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Store
from p2pxfer.core.transfer.receivestate import Path, Talk
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import ChunkRefused, FrameError, ProtocolBreach

MIN_PART: Final = 64 * 1024
"""What is shorter is not worth a message, octets."""
MAX_PARTS: Final = 2
"""Most parts of a transfer."""
MAX_KEPT: Final = 16 * 1024 * 1024
"""Most octets in the parts of all transfers of a sender."""
MAX_TOLD: Final = 64
"""Most chunks of which a path is told that their rest may still come on it."""


class Begun(Struct, frozen=True):
    """What came of the frame of a chunk, or of the rest of one, that was cut.

    ``memory`` is as long as the payload of the frame, and its first ``came`` octets are there.  ``offset`` is where it
    begins in the chunk.
    """

    handle: int
    file: int
    index: int
    hash: bytes
    offset: int
    memory: memoryview
    came: int


def begun(kind: int, body: memoryview, filled: int) -> Begun | None:
    """What of a chunk there is where ``filled`` octets of the body of a frame came; ``None`` if that is nothing."""
    header = {DATA_KIND: CHUNK_HEADER_SIZE, REST_KIND: REST_HEADER_SIZE}.get(kind)
    if header is None or filled <= header:
        return None
    frame = Frame(kind, body)
    try:
        whole: Chunk | Rest = decode_chunk(frame) if kind == DATA_KIND else decode_rest(frame)
    except FrameError:
        return None
    offset = whole.offset if isinstance(whole, Rest) else 0
    return Begun(whole.handle, whole.file, whole.index, whole.hash, offset, whole.payload, filled - header)


class _Part(Struct, frozen=True):
    """``data`` is what is there of the chunk."""

    file: int
    index: int
    hash: bytes
    data: bytes


class PartsRoom:
    """What the parts of some transfers have together, ``most`` octets."""

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._kept: dict[Parts, int] = {}

    def take(self, who: Parts, size: int) -> bool:
        """Whether the parts in ``who`` may have ``size`` octets; if not, nothing changes."""
        others = sum(kept for other, kept in self._kept.items() if other is not who)
        if size and others + size > self._most:
            return False
        self._kept.pop(who, None)
        if size:
            self._kept[who] = size
        return True


class Parts:
    """The parts of one transfer, whose dialogues on ``paths`` the receiver holds; ``least``: see the laws."""

    def __init__(self, paths: Mapping[int, Path], least: int = MIN_PART, room: PartsRoom | None = None) -> None:
        self._paths = paths
        self._least = least
        self._room = room or PartsRoom()
        self._manifest: Manifest | None = None
        self._flow: Inflow | None = None
        self._parts: dict[int, _Part] = {}
        self._told: dict[int, dict[int, int]] = {}
        """Of each path the numbers of chunks, and how often the rest of each may come there."""
        self._waiting: dict[tuple[int, bytes], set[int]] = {}
        """Of chunks that are being stored the paths on which a rest of them came meanwhile."""

    def __len__(self) -> int:
        return len(self._parts)

    # -- what there is -------------------------------------------------------------------------------------------

    def renew(self, manifest: Manifest, flow: Inflow) -> None:
        """The list is another one from now on: forget all parts."""
        self._manifest, self._flow = manifest, flow
        self._set({})
        self._waiting.clear()

    def end(self) -> None:
        """Nothing more is wanted, or not before the list is another one: let go of everything."""
        self._manifest = self._flow = None
        self._set({})

    def _set(self, parts: dict[int, _Part]) -> bool:
        """Keep these from now on, if there is room for them."""
        fits = self._room.take(self, sum(len(part.data) for part in parts.values()))
        if fits:
            self._parts = parts
        return fits

    def drop(self, numbers: range) -> list[tuple[int, range]]:
        """These chunks are here now: the paths on which a rest came while they were stored, and their numbers."""
        if any(number in numbers for number in self._parts):
            self._set({number: part for number, part in self._parts.items() if number not in numbers})
        if self._flow is None or not self._waiting:
            return []
        here = [key for key in self._waiting if key[0] in numbers and key[1] == self._flow.table.hash(key[0])]
        return [(path, range(key[0], key[0] + 1)) for key in here for path in self._waiting.pop(key)]

    def came(self, path: int, cut: Begun) -> list[Send]:
        """So much of a chunk came on ``path``, and the rest of it may come on another one: what to tell there."""
        state = self._paths.get(path)
        if state is None or state.handle != cut.handle:
            return []
        number = self._keep(cut)
        if number is None:
            return []
        return [told for other in self._paths if other != path for told in self.tell(other, number, number + 1)]

    def _keep(self, cut: Begun) -> int | None:
        """Keep what was cut; the number of its chunk if there is more of that now."""
        flow, size = self._flow, cut.offset + cut.came
        if flow is None or cut.file >= flow.table.files:
            return None
        try:
            number = flow.table.number((cut.file, cut.index))
        except ChunkRefused:
            return None
        fits = cut.offset + len(cut.memory) == flow.table.length((cut.file, cut.index))
        old = self._parts.get(number)
        if not fits or flow.has(number, cut.hash):
            return None
        begin = b""
        if old is not None and old.hash == cut.hash:
            if not cut.offset <= len(old.data) < size:
                return None
            begin = old.data[: cut.offset]
        elif cut.offset or size < self._least:
            return None
        part = _Part(cut.file, cut.index, cut.hash, b"".join([begin, cut.memory[: cut.came]]))
        parts = {**self._parts, number: part}
        if len(parts) > MAX_PARTS:
            del parts[min(parts, key=lambda one: len(parts[one].data))]
        return number if number in parts and self._set(parts) else None

    # -- what is told of it --------------------------------------------------------------------------------------

    def lost(self, path: int) -> None:
        """The path is gone."""
        self._told.pop(path, None)

    def tell(self, path: int, start: int, stop: int) -> Iterator[Send]:
        """Tell of parts of the chunks from ``start`` to before ``stop``, as far as their pages are answered on a path,
        or are going to be with the next message.
        """
        state = self._paths[path]
        if self._flow is None or self._manifest is None or state.talk is not Talk.OPEN:
            return
        stop = min(stop, self._flow.table.base(self._manifest.files_before(state.heard.next)))
        told = self._told.setdefault(path, {})
        for number in [number for number in self._parts if start <= number < stop]:
            if len(told) >= MAX_TOLD:
                self._told[path] = told = {other: left for other, left in told.items() if not self._flow.has(other)}
            if len(told) < MAX_TOLD:
                told[number] = told.get(number, 0) + 1
                part = self._parts[number]
                yield Send(path, Part(state.handle, part.file, part.index, part.hash, len(part.data)))

    def join(self, path: int, number: int, rest: Rest) -> list[Send | Store]:
        """Store the chunk that a rest, which came on ``path``, makes of its part, or say that there is no such part.

        There is nothing to do yet while that chunk is being stored: see :meth:`drop` and :meth:`not_stored`.

        Raises:
            ProtocolBreach: the path was not told of a part of this chunk, or brought a rest for it already.
        """
        told = self._told.get(path, {})
        if number not in told:
            raise ProtocolBreach("the rest of a chunk came of which no part was told")
        told[number] -= 1
        if not told[number]:
            del told[number]
        if self._flow is not None and self._flow.is_storing(number, rest.hash):
            self._waiting.setdefault((number, rest.hash), set()).add(path)
            return []
        part = self._parts.get(number)
        if self._flow is None or part is None or part.hash != rest.hash or len(part.data) < rest.offset:
            return [Send(path, Lack(rest.handle, [(rest.file, rest.index, rest.index + 1)]))]
        self._set({other: kept for other, kept in self._parts.items() if other != number})
        whole = memoryview(bytearray(rest.length))
        whole[: rest.offset] = part.data[: rest.offset]
        whole[rest.offset :] = rest.payload
        self._flow.wants(number, rest.hash)
        return [Store(path, Chunk(rest.handle, rest.file, rest.index, rest.hash, whole), joined=True)]

    def not_stored(self, chunk: Incoming) -> list[Send]:
        """It is not what its hash says: what to tell of rests of it that came on other paths meanwhile."""
        if self._flow is None or not self._waiting:
            return []
        index, digest = (0, chunk.hashes) if isinstance(chunk, Bundle) else (chunk.index, chunk.hash)
        paths = self._waiting.pop((self._flow.table.number((chunk.file, index)), digest), ())
        lack = [(chunk.file, index, index + 1)]
        return [Send(path, Lack(self._paths[path].handle, lack)) for path in paths if path in self._paths]
