"""Folders of contacts: each key has its own, whatever the contact is called."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import ConfigError, DiskError, Refused
from p2pxfer.net.agent.folders import MAX_SAME, OWNER, ContactFolders
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.staging.partials import Destination, destinations

KEYS = [bytes([number]) * 32 for number in range(1, MAX_SAME + 3)]


class World:
    """A home whose contacts come and go."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.inbox = folder / "inbox"
        self.folders = self.made()

    def made(self, **others: Path) -> ContactFolders:
        used = Destination("", "nas", no_code=True, limit=5000)
        return ContactFolders(self.home, self.inbox, others, used)

    def contact(self, name: str, number: int) -> None:
        self.home.add_contact(Contact(name, PeerId(KEYS[number]), "code", "2026-11-21"))

    def folder(self, number: int) -> str:
        found = self.folders.folder(KEYS[number])
        assert found.is_dir()
        assert (found / OWNER).read_text() == f"{PeerId(KEYS[number])}\n"
        return found.relative_to(self.inbox).as_posix()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_folder_stays_with_its_key(world: World) -> None:
    world.contact("alice", 0)
    world.contact("bob", 1)
    assert [world.folder(0), world.folder(1), world.folder(0)] == ["alice", "bob", "alice"]
    world.home.rename_contact("alice", "carol")
    assert world.folder(0) == "alice"
    world.home.rename_contact("bob", "alice")
    assert world.folder(1) == "bob"
    world.home.remove_contact("alice")
    world.contact("alice", 2)
    assert world.folder(2) == "alice-2"
    assert world.folder(0) == "alice"


def test_what_comes_there_is_kept_for_the_agents_home_alone(world: World) -> None:
    world.contact("alice", 0)
    kept = world.folders.place(KEYS[0]).open(
        KEYS[0], Manifest([Entry("a", FILE, 1)]), Announced(1, 1, 0, counting=False), relisted=False
    )
    assert Path(kept.where, f"owner-{world.home.identity().id}").exists()
    kept.close()


def test_a_contact_that_comes_back_with_its_key_gets_its_folder(world: World) -> None:
    world.contact("alice", 0)
    assert world.folder(0) == "alice"
    world.home.remove_contact("alice")
    with pytest.raises(Refused):
        world.folder(0)
    world.contact("anna", 0)
    assert world.folder(0) == "alice"


def test_people_may_give_a_folder_another_name(world: World) -> None:
    world.contact("alice", 0)
    world.folder(0)
    (world.inbox / "alice").rename(world.inbox / "from the seaside")
    assert world.folder(0) == "from the seaside"


def test_a_folder_that_is_there_already_is_taken(world: World) -> None:
    (world.inbox / "alice").mkdir(parents=True)
    (world.inbox / "alice" / "old.txt").write_text("old")
    world.contact("alice", 0)
    assert world.folder(0) == "alice"
    assert (world.inbox / "alice" / "old.txt").read_text() == "old"


def test_a_crash_while_the_owner_was_written_costs_no_folder(world: World) -> None:
    (world.inbox / "alice").mkdir(parents=True)
    (world.inbox / "alice" / f"{OWNER}.0123456789ab.new").write_text("")
    world.contact("alice", 0)
    assert world.folder(0) == "alice"


def test_a_marker_that_says_nothing_gives_what_lies_there_to_nobody(world: World) -> None:
    world.contact("alice", 0)
    assert world.folder(0) == "alice"
    (world.inbox / "alice" / OWNER).write_text("")
    world.home.remove_contact("alice")
    world.contact("alice", 1)
    assert world.folder(1) == "alice-2"


def test_the_owner_is_durable_before_anything_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was synced, in order: the file under its first name, then its name, then the folder's."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), world.inbox))
        real(descriptor)

    real = os.fsync
    world.contact("alice", 0)
    monkeypatch.setattr(os, "fsync", fsync)
    assert world.folder(0) == "alice"
    assert re.fullmatch(rf"alice/{re.escape(OWNER)}\.[0-9a-f]{{12}}\.new", synced[0])
    assert synced[1:3] == ["alice", "."]
    del synced[:]
    assert world.folder(0) == "alice"
    assert not any(OWNER in name for name in synced)


def test_a_file_in_the_way_is_nobodys_folder(world: World) -> None:
    world.inbox.mkdir(exist_ok=True)
    (world.inbox / "alice").write_text("a file")
    world.contact("alice", 0)
    assert world.folder(0) == "alice-2"
    assert (world.inbox / "alice").read_text() == "a file"


def test_a_directory_that_cannot_be_read_shuts_out_nobody_else(world: World) -> None:
    """A marker that is a directory cannot be read by root either."""
    for name in ("lost+found", "bob-2"):
        (world.inbox / name / OWNER).mkdir(parents=True)
    (world.inbox / "loop").symlink_to("loop")
    world.contact("alice", 0)
    assert world.folder(0) == "alice"
    (world.inbox / "alice").rename(world.inbox / "zoe")
    assert world.folder(0) == "zoe"
    (world.inbox / "bob").write_text("a file")
    world.contact("bob", 1)
    assert world.folder(1) == "bob-3"
    (world.inbox / "carol" / OWNER).mkdir(parents=True)
    world.contact("carol", 2)
    with pytest.raises(DiskError, match=r"carol.* cannot be used: Is a directory"):
        world.folder(2)


def test_names_run_out_with_one_line(world: World) -> None:
    for number in range(MAX_SAME):
        world.contact("alice", number)
        world.folder(number)
        world.home.remove_contact("alice")
    world.contact("alice", MAX_SAME)
    with pytest.raises(DiskError, match="all folders for alice belong to other contacts"):
        world.folder(MAX_SAME)


def test_folders_of_the_configuration_by_name_and_by_id(world: World, tmp_path: Path) -> None:
    world.contact("alice", 0)
    world.contact("bob", 1)
    world.contact("carol", 2)
    folders = world.made(alice=tmp_path / "a", **{str(PeerId(KEYS[1])): tmp_path / "b"})
    found = [folders.folder(key) for key in KEYS[:3]]
    assert found == [tmp_path / "a", tmp_path / "b", world.inbox / "carol"]
    world.home.rename_contact("bob", "barbara")
    assert folders.folder(KEYS[1]) == tmp_path / "b"
    assert not (world.inbox / "alice").exists()


def test_two_folders_of_one_contact_are_an_error(world: World, tmp_path: Path) -> None:
    world.contact("alice", 0)
    with pytest.raises(ConfigError, match=r"folders\.alice: there is another folder for this contact, by its id"):
        world.made(alice=tmp_path / "a", **{str(PeerId(KEYS[0])): tmp_path / "b"})
    world.made(alice=tmp_path / "a", **{str(PeerId(KEYS[1])): tmp_path / "b"})


def test_what_was_used_is_remembered_for_jobs(world: World) -> None:
    world.contact("alice", 0)
    world.folders.folder(KEYS[0])
    assert destinations(world.home.path) == [
        Destination(str(world.inbox / "alice"), "nas", no_code=True, limit=5000)
    ]  # fmt: skip


def test_what_cannot_be_made_is_one_line(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"folders\.alice: the directory .* cannot be made: "):
        world.made(alice=tmp_path / "file" / "inner")
    world.contact("alice", 0)
    world.inbox.rmdir()
    with pytest.raises(DiskError, match="cannot be used: No such file or directory"):
        world.folder(0)


@pytest.mark.parametrize(
    ("inbox", "alice", "says"),
    [
        ("home", "a", "inbox: .* is in the private directory"),
        ("home/inbox/..", "a", "inbox: .* is in the private directory"),
        ("home/queue", "a", "inbox: .* is in the private directory"),
        ("link", "a", "inbox: .* is in the private directory"),
        (".", "a", "inbox: .* has the private directory in it"),
        ("inbox", "home/incoming", r"folders\.alice: .* is in the private directory"),
        ("inbox", "inbox", r"folders\.alice: .* is that of inbox too"),
        ("inbox", "inbox/bob", r"folders\.alice: .* is in that of inbox"),
        ("home/inbox", "home/inbox/deep/er", r"folders\.alice: .* is in that of inbox"),
        ("a/inbox", "a", r"inbox: .* is in that of folders\.alice"),
        ("loop", "a", "inbox: .* cannot be used"),
    ],
)
def test_no_folder_is_where_another_or_private_things_are(
    world: World, tmp_path: Path, inbox: str, alice: str, says: str
) -> None:
    (tmp_path / "link").symlink_to("home/queue")
    (tmp_path / "loop").symlink_to("loop")
    world.inbox = tmp_path / inbox
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=says):
        world.made(alice=tmp_path / alice)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_beside_each_other_and_in_the_inbox_of_the_private_directory(world: World, tmp_path: Path) -> None:
    world.inbox = world.home.path / "inbox"
    world.made(alice=tmp_path / "inbox-a", bob=tmp_path / "inbox-b")
    world.inbox = tmp_path / "elsewhere"
    world.made(alice=world.home.path / "inbox" / "alice", bob=world.home.path / "inbox" / "bob")


def test_contacts_that_are_damaged_are_an_error_and_no_folder(world: World) -> None:
    world.contact("alice", 0)
    (world.home.path / "contacts.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        world.folders.folder(KEYS[0])
    assert list(world.inbox.iterdir()) == []


def test_a_place_asks_for_its_folder_when_it_is_used(world: World) -> None:
    world.contact("alice", 0)
    place = world.folders.place(KEYS[0])
    assert place.shown == ""
    assert list(world.inbox.iterdir()) == []
    place.check(Manifest(), 0)
    assert place.shown == str(world.inbox / "alice")
    world.home.remove_contact("alice")
    # What has begun goes on.
    place.check_stream("name.txt")
    with pytest.raises(Refused):
        world.folders.place(KEYS[0]).check_stream("name.txt")


def test_transfers_that_begin_together_get_one_folder(world: World) -> None:
    world.contact("alice", 0)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(world.folders.folder, 32 * [KEYS[0]]))
    assert found == {world.inbox / "alice"}
