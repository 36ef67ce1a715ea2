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
from p2pxfer.net.private import privatedir
from p2pxfer.net.staging.partials import partial_trees
from p2pxfer.net.staging.staging import Staging
from tests.net.disk_tools import SENDER

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
