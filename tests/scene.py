"""A whole run of the product for the tests: server, receiver and sender as the programs that users start."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact, Home
from scripts.product import BIN, JsonEvent, Place, Program, client, start_server

WORDS = "apple-bacon-cable"
"""Three words of the project's list, as a code for tests."""


def random_file(path: Path, size: int, seed: int = 0) -> str:
    """Write ``size`` bytes that do not compress; returns their SHA-256."""
    digest = hashlib.sha256()
    block = (
        bytearray(os.urandom(1 << 20)) if not seed else bytearray(hashlib.sha256(bytes([seed])).digest() * (1 << 15))
    )
    with path.open("wb") as file:
        left = size
        number = 0
        while left > 0:
            block[:8] = number.to_bytes(8, "big")
            piece = block[: min(left, len(block))]
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
            number += 1
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Scene(contextlib.ExitStack):
    """Server, bob who receives, alice who sends; everything below ``folder``; programs end with the scene."""

    def __init__(self, place: Place, folder: Path, *, loopback: bool) -> None:
        super().__init__()
        self.place = place
        self.folder = folder
        self.loopback = loopback
        self.alice = folder / "alice-home"
        self.bob = folder / "bob-home"
        self.inbox = folder / "inbox"
        self.inbox.mkdir(exist_ok=True)
        self.address = ""
        self._count = 0

    def set_up(self, *, known: bool = True) -> Self:
        """Start the server and, where the two people are to know each other, make contacts."""
        self.start_server()
        if known:
            self.make_contacts()
        return self

    def start_server(self, *listen: str) -> Program:
        """Start the server, or start it again in the same place; `listen` are endpoints instead of the usual ones."""
        server, self.address = start_server(self.place, self.folder, loopback=self.loopback, listen=listen)
        self.callback(server.stop)
        return server

    def make_contacts(self) -> None:
        """Make the identities and let each know the other, as an earlier code would have done."""
        for mine, theirs, name in ((self.alice, self.bob, "bob"), (self.bob, self.alice, "alice")):
            peer = PeerId(Home(theirs).identity().id.digest)
            Home(mine).add_contact(Contact(name, peer, "code", datetime.date.today().isoformat()))

    def program(self, role: str, home: Path, *words: str | Path, env: dict[str, str] | None = None) -> Program:
        """Start one command; its log has a name of its own."""
        self._count += 1
        log = self.folder / f"{role}-{self._count}.log"
        argv = client(self.address, home, *words)
        program = Program(self.place, role, argv, log, env=env)
        self.callback(program.stop)
        return program

    def receive(self, *words: str | Path, env: dict[str, str] | None = None) -> Program:
        """Start bob's receiver into :attr:`inbox` and wait until he is registered."""
        bob = self.program("bob", self.bob, "receive", "--as", "bob", "--to", self.inbox, *words, env=env)
        bob.wait_for("registered")
        return bob

    def send(self, path: Path, *words: str | Path, peer: str = "bob", env: dict[str, str] | None = None) -> Program:
        """Start alice's sender."""
        return self.program("alice", self.alice, "send", path, peer, *words, env=env)

    def copy_directly(self, size: int = 1 << 20) -> list[JsonEvent]:
        """Make contacts and a file, and move it with the relay forbidden; returns what the receiver said."""
        self.set_up()
        source = self.folder / "small.bin"
        digest = random_file(source, size)
        bob = self.receive("--once", "--no-code", "--path", "direct")
        alice = self.send(source, "--path", "direct")
        alice.succeed(30)
        bob.succeed(30)
        assert file_hash(self.inbox / source.name) == digest
        return events_of(bob)


def events_of(program: Program, silence: float = 60.0) -> list[JsonEvent]:
    """Everything that a program said until it ended."""
    return list(program.events(silence))


def last(events: Iterable[JsonEvent], name: str) -> JsonEvent:
    """The last event of this name."""
    found = [event for event in events if event["event"] == name]
    assert found, f"no event {name!r}"
    return found[-1]


def first_path(events: Iterable[JsonEvent], *kinds: str) -> JsonEvent:
    """The first event that says that a path of one of these kinds carries data."""
    for event in events:
        if event["event"] == "path" and event["state"] == "active" and event["path"] in kinds:
            return event
    raise AssertionError(f"no path of {kinds} was used")


__all__ = [
    "BIN", "WORDS", "Scene", "events_of", "file_hash", "first_path", "last", "random_file",
]  # fmt: skip
