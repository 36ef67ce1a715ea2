"""The marks of what is kept of earlier transfers, by what arrived later."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.pathrules import STAGING_PREFIX
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.staging import superseding
from p2pxfer.net.staging.journalfile import NAME as JOURNAL
from p2pxfer.net.staging.partials import Destination, Partial, find, remember, staging_name
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.superseding import MOST, Arrived, Superseding, supersede
from p2pxfer.net.staging.unagreed import agreed
from p2pxfer.net.worker import Worker
from tests.net.disk_tools import SENDER
from tests.net.reactors import Threads


def listed(home: Path) -> dict[int, Partial]:
    """What is listed, by its size."""
    return {partial.total: partial for partial in find(home, HeldLocks())}


def of_size(destination: Path, name: str, size: int, sender: bytes = SENDER) -> tuple[Staging, Manifest]:
    """A transfer of one file that was agreed to, and of which nothing has come."""
    manifest = Manifest([Entry(name, FILE, size)])
    staging = Staging.open(str(destination), sender, manifest)
    agreed(staging.where)
    return staging, manifest


def later(*names: str, sender: bytes = SENDER, transfer: bytes = b"n" * 32, began: float = 0.0) -> Arrived:
    """A transfer that is here; it began a minute from now."""
    return Arrived(sender, transfer, names, began or time.time() + 60)


def test_earlier_transfers_are_superseded_until_they_are_gone_on_with(tmp_path: Path) -> None:
    home, inbox = tmp_path / "home", tmp_path / "inbox"
    inbox.mkdir()
    remember(home, Destination(str(inbox), "bob"))
    of_size(inbox, "a", 1)[0].close()
    of_size(inbox, "b", 2)[0].close()
    of_size(inbox, "a", 3, b"t" * 32)[0].close()
    held, _ = of_size(inbox, "a", 4)
    newest, manifest = of_size(inbox, "a", 5)
    newest.close()
    arrived = [later("c"), later("a", transfer=manifest.transfer_id)]
    found = supersede(str(inbox), arrived)
    assert [partial.total for partial in found] == [1]
    assert {size for size, partial in listed(home).items() if partial.superseded} == {1}
    assert supersede(str(inbox), arrived) == []  # it is said once
    of_size(inbox, "a", 5)[0].discard()
    again, _ = of_size(inbox, "a", 1)
    assert not any(partial.superseded for partial in listed(home).values())
    again.discard()  # and nothing of it is left, nor of the mark
    held.close()
    assert sorted(listed(home)) == [2, 3, 4]
    assert len(list(inbox.iterdir())) == 3


def test_what_was_written_after_the_one_that_arrived_had_begun_is_not_superseded(tmp_path: Path) -> None:
    """That one was cut while an older one, which ends later, came beside it."""
    newer, manifest = of_size(tmp_path, "a", 1)
    newer.close()
    journal = tmp_path / staging_name(SENDER, manifest.transfer_id) / os.fsdecode(JOURNAL)
    os.utime(journal, (1000.0, 1000.0))
    assert supersede(str(tmp_path), [later("a", began=999.0)]) == []
    assert [partial.total for partial in supersede(str(tmp_path), [later("a", began=1001.0)])] == [1]


def of_files(destination: Path, count: int) -> None:
    """A transfer of empty files."""
    staging = Staging.open(str(destination), SENDER, Manifest([Entry(f"{n:050}", FILE, 0) for n in range(count)]))
    agreed(staging.where)
    staging.close()


def test_of_what_is_not_marked_no_more_is_read_than_has_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of any length costs other senders, and other names, next to nothing."""
    looks: list[str] = []
    pages: list[int] = []
    real = Manifest.add

    def add(manifest: Manifest, page: bytes, *, more: bool) -> None:
        pages.append(len(page))
        real(manifest, page, more=more)

    of_files(tmp_path, 2000)
    names = tuple(f"{n:050}" for n in range(2000))
    monkeypatch.setattr(superseding, "look", lambda used, name, locks: looks.append(name))
    monkeypatch.setattr(Manifest, "add", add)
    assert supersede(str(tmp_path), [later(*names, sender=b"t" * 32)]) == []
    assert pages == []
    assert supersede(str(tmp_path), [later("small")]) == []
    assert len(pages) == 1
    assert supersede(str(tmp_path), [later(*names[:-1])]) == []
    monkeypatch.setattr(superseding, "LISTED", 65536)
    pages.clear()
    assert supersede(str(tmp_path), [later(*names)]) == []
    assert (pages, looks) == ([], []), "a list that does not end there is not looked at"
    monkeypatch.undo()
    assert [partial.names for partial in supersede(str(tmp_path), [later(*names)])] == [list(names)]


def test_what_is_no_transfer_of_ours_is_passed_over(tmp_path: Path) -> None:
    empty, open_to_all = (tmp_path / (STAGING_PREFIX + digit * 32) for digit in "01")
    empty.mkdir(0o700)
    of_size(tmp_path, "a", 1)[0].close()
    (real,) = (path for path in tmp_path.iterdir() if path != empty)
    real.rename(open_to_all)
    open_to_all.chmod(0o755)
    assert supersede(str(tmp_path), [later("a")]) == []
    open_to_all.chmod(0o700)
    assert len(supersede(str(tmp_path), [later("a")])) == 1


def test_while_a_directory_is_looked_at_one_more_look_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all that arrives there meanwhile, as far as that is not too much; other directories wait for none of it."""
    gate = threading.Event()
    looks: list[tuple[str, int]] = []
    found: Any = object()

    def look(directory: str, arrived: list[Arrived], owner: bytes) -> list[Partial]:
        assert gate.wait(10)
        looks.append((directory, len(arrived)))
        if directory == "c":
            raise OSError("the disk")
        return [found]

    monkeypatch.setattr(superseding, "supersede", look)
    reactor, told, noted = Threads(), list[object](), list[object]()
    worker = Worker(reactor, "superseded")  # type: ignore[arg-type]  # all that a worker needs
    marks = Superseding(worker, told.append)
    for directory, times in (("a", MOST + 2), ("c", 1), ("b", 1)):
        for _ in range(times):
            marks.arrived(directory, later("a")).addBoth(noted.append)
    assert noted == [None], "one too many is not waited for"
    gate.set()
    while len(noted) < MOST + 4:
        reactor.wait()
    assert looks == [("a", 1), ("c", 1), ("b", 1), ("a", MOST)]
    assert told == [found] * 3
    assert noted == [None] * (MOST + 4)
    worker.stop()


def test_who_stops_begins_no_other_look(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    looks: list[str] = []

    def look(directory: str, arrived: list[Arrived], owner: bytes) -> list[Partial]:
        assert gate.wait(10)
        looks.append(directory)
        return []

    monkeypatch.setattr(superseding, "supersede", look)
    reactor = Threads()
    worker = Worker(reactor, "superseded")  # type: ignore[arg-type]  # all that a worker needs
    marks = Superseding(worker, lambda found: None)
    noted = [marks.arrived("a", later("a")) for _ in range(2)]
    marks.stop()
    assert [each.called for each in noted] == [False, True]
    stopped: list[None] = []
    worker.stop().addCallback(stopped.append)
    gate.set()
    while not stopped:
        reactor.wait()
    assert looks == ["a"]
    assert all(each.called for each in noted)
    assert not marks._waiting
