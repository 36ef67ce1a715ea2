"""What arrived of other transfers, as a source of older versions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import ConfigError
from p2pxfer.net.private import privatedir
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.staging.partials import Destination, find, partial_trees, remember
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.unagreed import agreed, remove_unagreed
from tests.net.disk_tools import NOW, SENDER, Content, open_staging, put

DATA = b"some data"


def begun(destination: Path, name: str, sender: bytes = SENDER) -> tuple[Staging, Manifest]:
    """A transfer of one small file of which everything is here."""
    manifest = Manifest([Entry(name, FILE, len(DATA))])
    staging = Staging.open(str(destination), sender, manifest)
    digest = blake3(DATA).digest()
    staging.write_chunk(0, 0, memoryview(DATA), digest)
    staging.sync([(0, 0, 1, digest)])
    return staging, manifest


def names_in(descriptors: list[int]) -> list[list[str]]:
    found = [os.listdir(fd) for fd in descriptors]  # descriptors
    for fd in descriptors:
        os.close(fd)
    return found


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Another process holds the lock on a directory."""
    holder = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield
        child.communicate(b"\n", 10)


def test_other_transfers_of_the_sender_that_no_other_process_holds_are_found(tmp_path: Path) -> None:
    """This one may hold what waits for a sender who is back with another version."""
    for name, sender in (("mine", SENDER), ("other", SENDER), ("another's", b"t" * 32)):
        begun(tmp_path, name, sender)[0].close()
    own, manifest = begun(tmp_path, "mine")
    held, _ = begun(tmp_path, "held")
    found = names_in(partial_trees(str(tmp_path), SENDER, manifest.transfer_id))
    assert sorted(found) == [["held"], ["other"]]
    held.close()
    with held_elsewhere(Path(held.where)):
        assert names_in(partial_trees(str(tmp_path), SENDER, manifest.transfer_id)) == [["other"]]
    own.close()


def test_what_nobody_agreed_to_is_removed_when_it_is_looked_at(tmp_path: Path) -> None:
    """Only that: a claim proves that somebody did, and what a process holds waits for an answer."""
    home, inbox = tmp_path / "home", tmp_path / "inbox"
    inbox.mkdir()
    remember(home, Destination(str(inbox), "bob"))

    def fresh(name: str) -> Staging:
        return Staging.open(str(inbox), SENDER, Manifest([Entry(name, FILE, 1)]))

    def listed() -> list[list[str]]:
        return sorted(partial.names for partial in find(home, HeldLocks()))

    fresh("unagreed").close()
    yes = fresh("agreed")
    agreed(yes.where)
    yes.close()
    fresh("agreed").close()  # its sender comes again, and is asked about
    begun(inbox, "claimed")[0].close()
    held = fresh("held")
    assert listed() == [["agreed"], ["claimed"], ["held"]]
    assert len(os.listdir(inbox)) == 3
    held.close()
    assert listed() == [["agreed"], ["claimed"]]
    assert len(os.listdir(inbox)) == 2
    removed = fresh("unagreed")
    removed.discard()
    assert len(os.listdir(inbox)) == 2


@pytest.mark.parametrize("relisted", [False, True])
def test_what_was_published_taken_away_and_offered_again_is_agreed_to_anew(tmp_path: Path, relisted: bool) -> None:
    """Its sender never heard that it was here; a list that changed since somebody agreed is no new offer."""
    home, inbox = tmp_path / "home", tmp_path / "inbox"
    inbox.mkdir()
    remember(home, Destination(str(inbox), "bob"))
    content = Content({"a": DATA})
    staging = open_staging(inbox, content)
    put(staging, content, content.addresses())
    staging.sync(map(content.claim, content.addresses()))
    staging.finish(content.root, NOW)
    staging.close()
    Path(inbox, "a").unlink()
    Staging.open(str(inbox), SENDER, content.manifest, relisted=relisted).close()  # killed before the answer
    assert len(list(find(home, HeldLocks()))) == relisted
    assert len(os.listdir(inbox)) == relisted


def test_what_was_agreed_to_meanwhile_is_not_removed(tmp_path: Path) -> None:
    """Between the look and the lock somebody may have agreed."""
    staging = Staging.open(str(tmp_path), SENDER, Manifest([Entry("a", FILE, 1)]))
    with pytest.raises(ConfigError):
        remove_unagreed(str(tmp_path), staging.name)
    staging.close()
    agreed(staging.where)
    remove_unagreed(str(tmp_path), staging.name)
    assert os.listdir(tmp_path) == [staging.name]


def test_nobody_asks_for_locks_where_only_the_transfer_itself_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the first chunk of each transfer waiting for 16 ms."""
    own, manifest = begun(tmp_path, "mine")
    monkeypatch.setattr(privatedir, "_LOCKS", None)
    assert partial_trees(str(tmp_path), SENDER, manifest.transfer_id) == []
    own.close()
    other, _ = begun(tmp_path, "other")
    other.close()
    with pytest.raises(AttributeError):  # there is something to ask about now
        partial_trees(str(tmp_path), SENDER, manifest.transfer_id)
