"""Two homes that receive into one directory: each one's unfinished transfers are its own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, UsageError
from p2pxfer.net.disk import shown
from p2pxfer.net.private.home import Home
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.staging.journalfile import OWNER, UNAGREED
from p2pxfer.net.staging.partials import Destination, Partial, beside, drop, find, number_of, remember
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.superseding import Arrived, supersede
from p2pxfer.net.staging.unagreed import agreed
from p2pxfer.net.transfer.folder import Folder
from tests.net.disk_tools import NOW, SENDER, Content, noise, put, tree

CHUNK = 65_536


def content() -> Content:
    return Content({"d/big.bin": noise(3 * CHUNK), "top": b"t"})


def mark_in(place: Path) -> Path:
    (mark,) = place.glob(f"{OWNER}*")
    return mark


class Side:
    """One home that receives into ``dest``."""

    def __init__(self, folder: Path, name: str, dest: Path) -> None:
        self.dest = dest
        self.home = folder / name
        self.owner = Home(self.home).identity().id.digest
        remember(self.home, Destination(str(dest), name))

    def open(self, what: Content) -> Staging:
        return Staging.open(str(self.dest), SENDER, what.manifest, owner=self.owner)

    def begin(self, what: Content, chunks: int = 2) -> Staging:
        """Receive the first chunks, durably, and stop."""
        staging = self.open(what)
        agreed(staging.where, staging.owner)
        addresses = what.addresses()[:chunks]
        put(staging, what, addresses)
        staging.sync(map(what.claim, addresses))
        staging.close()
        return staging

    def found(self) -> list[Partial]:
        return list(find(self.home, HeldLocks()))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Side, Side]:
    dest = tmp_path / "dest"
    dest.mkdir()
    return Side(tmp_path, "alice", dest), Side(tmp_path, "bob", dest)


def test_each_home_finds_its_own_and_neither_drops_the_others(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    alice.begin(content())
    bob.begin(Content({"other": noise(CHUNK)}), 1)
    assert [each.names for each in alice.found()] == [["d", "top"]]
    assert [each.names for each in bob.found()] == [["other"]]
    number = content().manifest.transfer_id
    assert beside(alice.home, "/", SENDER, number) is not None
    assert beside(bob.home, "/", SENDER, number) is None
    drop(alice.found()[0])
    assert (alice.found(), len(bob.found())) == ([], 1)


def test_older_versions_are_looked_for_in_its_own_and_in_everybodys(sides: tuple[Side, Side]) -> None:
    """What is the other home's is not there for this one."""
    alice, bob = sides
    alice.begin(content())
    later = Content({"d/big.bin": noise(CHUNK)}).manifest

    def any_older(side: Side) -> bool:
        found = Folder(str(side.dest), side.owner).older(SENDER, later, asked=False)
        if found is None:
            return False
        found.close()
        return True

    assert (any_older(alice), any_older(bob)) == (True, False)
    (place,) = alice.dest.glob(".p2pxfer-*")
    mark_in(Path(place)).unlink()
    assert (any_older(alice), any_older(bob)) == (True, True)


def test_what_became_anothers_since_it_was_looked_at_is_not_dropped(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    alice.begin(content())
    (found,) = alice.found()
    drop(found)
    bob.begin(content())
    with pytest.raises(UsageError, match="somebody else has taken up"):
        drop(found)
    assert len(bob.found()) == 1


def test_a_place_without_a_mark_is_everybodys_until_somebody_agrees_to_go_on_with_it(
    sides: tuple[Side, Side],
) -> None:
    """An offer alone takes it from nobody: it may be turned down, or come again from the sender of the other home."""
    alice, bob = sides
    staging = alice.begin(content())
    mark_in(Path(staging.where)).unlink()  # as a version of before left it
    assert len(alice.found()) == len(bob.found()) == 1
    before = tree(alice.dest)
    again = bob.open(content())
    assert len(again.have) == 2
    again.close()
    assert tree(alice.dest) == before
    assert len(alice.found()) == len(bob.found()) == 1
    again = bob.open(content())
    agreed(again.where, again.owner)
    again.close()
    assert (alice.found(), len(bob.found())) == ([], 1)
    agreed(again.where, alice.owner)
    assert (alice.found(), len(bob.found())) == ([], 1)


def test_whoever_has_no_key_yet_finds_what_is_everybodys(tmp_path: Path, sides: tuple[Side, Side]) -> None:
    alice, _ = sides
    alice.begin(content())
    Staging.open(str(alice.dest), SENDER, Content({"old": b"o"}).manifest).close()
    remember(tmp_path / "new", Destination(str(alice.dest), "carol"))
    Path(alice.dest, "x").touch()
    assert list(find(tmp_path / "new", HeldLocks())) == []  # nobody agreed to it
    assert len(alice.found()) == 1


def test_the_same_files_for_two_homes_go_to_one_and_the_other_reads_why_not(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    staging = alice.begin(content())
    before = tree(alice.dest)
    with pytest.raises(ConfigError) as refused:
        bob.open(content())
    number = number_of(staging.name)
    assert refused.value.message == (
        f"{shown(staging.where)} holds the same files, unfinished, for {PeerId(alice.owner)}, which receives into this"
        f" directory too: receive into another one, or drop that in its home with p2pxfer jobs cancel {number};"
        f" if that home is gone, remove {shown(staging.where)} by hand"
    )
    assert str(alice.dest) not in refused.value.abroad
    assert tree(alice.dest) == before
    again = alice.open(content())
    assert len(again.have) == 2
    again.close()


def test_what_was_published_for_one_home_and_not_confirmed_keeps_nothing_from_the_other(
    sides: tuple[Side, Side],
) -> None:
    """Its home lists nothing that could be dropped."""
    alice, bob = sides
    what = content()
    for taken_away in (False, True):
        staging = alice.open(what)
        agreed(staging.where, staging.owner)
        put(staging, what, what.addresses())
        staging.sync(map(what.claim, what.addresses()))
        names = staging.finish(what.root, NOW)
        staging.close()  # its sender never heard of it
        if taken_away:
            for name in names:
                Path(alice.dest, name).rename(alice.home / name)
        again = bob.open(what)
        assert again.published_root == (None if taken_away else what.root)
        again.close()
        assert mark_in(Path(staging.where)).name == f"{OWNER}{PeerId(bob.owner)}"
        again = bob.open(what)
        again.discard()


def test_a_journal_that_says_nothing_stays_its_homes(sides: tuple[Side, Side]) -> None:
    """A later version may have written it."""
    alice, bob = sides
    journal = Path(alice.begin(content()).where, "journal")
    journal.write_bytes(b"?" * 500)
    with pytest.raises(ConfigError, match="by hand"):
        bob.open(content())
    assert journal.read_bytes() == b"?" * 500


def test_a_home_that_lost_its_identity_reads_what_to_remove_and_goes_on_then(
    tmp_path: Path, sides: tuple[Side, Side]
) -> None:
    alice, _ = sides
    staging = alice.begin(content())
    alice.home.rename(tmp_path / "lost")
    anew = Side(tmp_path, "alice", alice.dest)
    with pytest.raises(ConfigError, match=f"if that home is gone, remove {re.escape(shown(staging.where))} by hand"):
        anew.open(content())
    shutil.rmtree(staging.where)
    anew.begin(content())
    assert len(anew.found()) == 1


def test_what_nobody_agreed_to_is_removed_by_its_own_home_alone(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    alice.open(content()).close()
    assert bob.found() == []
    assert len(os.listdir(bob.dest)) == 1
    assert alice.found() == []
    assert os.listdir(alice.dest) == []


def test_what_arrives_for_one_home_outdates_nothing_of_the_other(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    alice.begin(content())
    later = [Arrived(SENDER, b"n" * 32, ("d", "top"), 2e10)]
    assert supersede(str(bob.dest), later, bob.owner) == []
    assert [each.names for each in supersede(str(alice.dest), later, alice.owner)] == [["d", "top"]]


class Killed(BaseException):
    """The process is gone."""


class Killing:
    """Kills at a step, counted from 1, among the calls that change the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = 0
        for name in ("mkdir", "rename", "fsync", "unlink", "rmdir", "pwrite", "fdatasync", "write"):
            monkeypatch.setattr(os, name, self._stepping(getattr(os, name)))

    def _stepping(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise Killed
            return real(*args, **kwargs)

        return call

    def killed(self, at: int, work: Callable[[], object]) -> bool:
        """Whether the work was killed at that step; else it has done all."""
        self._left = at
        try:
            work()
        except Killed:
            return True
        finally:
            self._left = 0
        return False


def test_wherever_it_is_killed_what_is_there_has_a_mark_or_holds_nothing(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the other home sees none of it, and can receive the same where nothing is kept."""
    alice, bob = sides
    what, killing = content(), Killing(monkeypatch)

    def whole() -> None:
        """The life of one receiver."""
        staging = alice.open(what)
        try:
            agreed(staging.where, staging.owner)
            if staging.published_root is None:
                put(staging, what, what.addresses())
                staging.sync(map(what.claim, what.addresses()))
            staging.finish(what.root, NOW)
            staging.discard()
        finally:
            staging.close()

    kills = 0
    for at in range(1, 200):
        kills += killing.killed(at, whole)
        for place in alice.dest.glob(".p2pxfer-*"):
            kept = Path(place, "journal").exists()
            assert not kept or mark_in(place).name == f"{OWNER}{PeerId(alice.owner)}", at
            assert bob.found() == [], at
            if not kept:
                bob.begin(what)
                assert len(bob.found()) == 1, at
                drop(bob.found()[0])
        whole()
        for path in alice.dest.glob("[dt]*"):
            path.rename(alice.home / f"{at}-{path.name}")
        if kills < at:
            break
    assert kills > 15


def by_name(names: list[str]) -> list[str]:
    return sorted(names)


def by_name_backwards(names: list[str]) -> list[str]:
    return sorted(names, reverse=True)


@pytest.mark.parametrize("order", [by_name, by_name_backwards])
def test_wherever_a_removal_is_killed_what_is_left_is_still_what_it_was(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, order: Callable[[list[str]], list[str]]
) -> None:
    """Its home's, and where nobody had agreed to it, that; a file system names its files in any order."""
    alice, bob = sides
    what = content()
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda where: order(real(where)))
    killing = Killing(monkeypatch)

    def dropped() -> None:
        drop(alice.found()[0])

    def looked_at() -> None:
        assert alice.found() == []

    def declined() -> None:
        alice.open(what).discard()

    for work, is_agreed in ((dropped, True), (looked_at, False), (declined, False)):
        for at in range(1, 100):
            staging = alice.begin(what) if is_agreed else alice.open(what)
            staging.close()
            place = Path(staging.where)
            killed = killing.killed(at, work)
            if Path(place, "journal").exists():
                assert mark_in(Path(place)).name == f"{OWNER}{PeerId(alice.owner)}", (work, at)
                assert Path(place, os.fsdecode(UNAGREED)).exists() is not is_agreed, (work, at)
                assert bob.found() == [], (work, at)
            if not killed:
                break
            shutil.rmtree(place, ignore_errors=True)
        assert at > 4
        assert os.listdir(alice.dest) == []


def test_a_mark_that_says_nothing_is_none(sides: tuple[Side, Side]) -> None:
    alice, bob = sides
    mark = mark_in(Path(alice.begin(content()).where))
    for wrong in ("", "x" * 32, str(PeerId(alice.owner))[:-1]):
        mark = mark.rename(mark.with_name(f"{OWNER}{wrong}"))
        assert len(bob.found()) == 1
    staging = bob.open(content())
    agreed(staging.where, bob.owner)
    staging.close()
    assert (alice.found(), len(bob.found())) == ([], 1)
    assert mark_in(mark.parent).name == f"{OWNER}{PeerId(bob.owner)}"
