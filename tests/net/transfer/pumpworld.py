"""A pump that sends files, and paths that take what they are given: the receiver is the test."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2pxfer.core.codec import Message
from p2pxfer.core.framing import HEADER_SIZE
from p2pxfer.core.session.deltawire import PATCH_KIND, Basis
from p2pxfer.core.session.transferwire import Accept, Listed
from p2pxfer.core.transfer.delta import average_block
from p2pxfer.net.session.path import PathFacts
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.cutting import blocks
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.pump import ChunkPump
from p2pxfer.net.transfer.source import Source
from tests.net.reactors import Threads


class FakePath:
    """A path that takes everything."""

    peer_name = "alice"
    rtt = None
    began = 0.0
    writable = True
    descriptor = None

    def __init__(self, number: int = 1) -> None:
        self.facts = PathFacts(number, "punched", "", "")
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def said(self, kind: type) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


class Taker(FakePath):
    """A path to the receiver; it has room for ``room`` frames more."""

    def __init__(self, number: int, beside: int = 0) -> None:
        super().__init__(number)
        self.facts = PathFacts(number, "punched", "", "", beside)
        self.frames: list[bytes] = []
        self.room = 1000

    @property
    def writable(self) -> bool:  # type: ignore[override]  # an attribute there
        return self.room > 0

    def send_frame(self, parts: list[bytes | memoryview]) -> None:
        """A chunk or a patch goes out."""
        self.room -= 1
        self.frames.append(b"".join(parts))

    @property
    def went(self) -> list[tuple[int, int, bool]]:
        """Of each frame the file, the chunk and whether it is a patch."""
        heads = [(frame[HEADER_SIZE - 1], struct.unpack_from(">II", frame, HEADER_SIZE + 4)) for frame in self.frames]
        return [(*address, kind == PATCH_KIND) for kind, address in heads]


class Sending:
    """A pump for files of these contents."""

    def __init__(self, folder: Path, contents: list[bytes]) -> None:
        (folder / "new").mkdir()
        for number, content in enumerate(contents):
            (folder / "new" / f"f{number}").write_bytes(content)
        self.contents = contents
        self.threads = Threads()
        self.source = Source.scan([str(folder / "new")])
        self.cache = HashCache(str(folder / "state"), self.source.manifest, self.source.identity, 0.0)
        reactor: Any = self.threads
        self.pump = ChunkPump(reactor, self.source, self.cache, delta=True)
        self.errors: list[Exception] = []
        self.paths = PathSet(self.threads.seconds, lambda event: None)
        self.pump.attach(self.paths, lambda root: None, self.errors.append)

    def path(self, number: int, *, instance: bytes = b"i" * 16, older: bool = True, beside: int = 0) -> Taker:
        """Another path, on which everything is accepted and nothing claimed."""
        made = Taker(number, beside)
        path: Any = made
        self.paths.add(path)
        self.pump.open_path(path)
        pages = self.source.manifest.pages
        self.say(path, Accept(handle=1, instance=instance, pages=pages, older=older))
        self.say(path, Listed(handle=1, page=0))
        return made

    def say(self, path: Any, message: Message) -> None:
        """The receiver says this."""
        self.pump.message(path, message)
        self.pump.push()

    def until(self, true: Callable[[], bool]) -> None:
        """Take what threads have done until this holds."""
        while not true():
            self.threads.wait()
            assert not self.errors

    def basis(self, path: Any, file: int) -> None:
        """The receiver has what is sent already."""
        content = self.contents[file]
        average = average_block(len(content))
        cut = blocks(lambda at, count: content[at : at + count], len(content), average)
        told = b"".join(digest for _, digest in cut)
        self.say(path, Basis(handle=1, file=self.number(file), average=average, hashes=told))

    def number(self, content: int) -> int:
        """The index of a file in the list."""
        return next(n for n, entry in enumerate(self.source.manifest.files) if entry.path.endswith(f"f{content}"))

    def close(self) -> None:
        """All threads and files."""
        self.pump.close()
        self.cache.close()
        self.source.close()
