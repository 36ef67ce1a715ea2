"""Small files that are replaced whole, the version in those of JSON, and the lock under which they are changed."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from p2pxfer.errors import ConfigError
from p2pxfer.net.private.filelocks import hold, locked
from p2pxfer.net.private.wholefile import replace_whole, version_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_made_and_replaced_and_private_whatever_the_umask_and_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    umask = os.umask(0o277)
    try:
        replace_whole(path, b"first")
    finally:
        os.umask(umask)
    assert (path.read_bytes(), mode(path)) == (b"first", 0o600)
    path.chmod(0o644)
    replace_whole(path, b"second")
    assert (path.read_bytes(), mode(path)) == (b"second", 0o600)
    assert os.listdir(tmp_path) == ["notes"]


def test_what_a_crash_left_is_in_nobodys_way_and_goes_some_time_later(tmp_path: Path) -> None:
    """What is young may be another writer's; what has another name is none of this."""
    old, young, other = (tmp_path / f"notes.{name}.new" for name in ("0123456789ab", "0123456789ac", "mine"))
    for path in (old, young, other):
        path.write_bytes(b"half of something longer")
    replace_whole(tmp_path / "notes", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "notes", old, young, other])
    for path in (old, other):
        os.utime(path, (1, 1))
    replace_whole(tmp_path / "notes", b"again")
    assert ((tmp_path / "notes").read_bytes(), mode(tmp_path / "notes")) == (b"again", 0o600)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "notes", young, other])


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path) -> None:
    """A directory under such a name, whichever entry comes first; a link is not what a writer leaves either."""
    names = [f"notes.{number:012x}.new" for number in range(9)]
    (tmp_path / names[0]).mkdir()
    (tmp_path / names[4]).symlink_to(tmp_path)
    (tmp_path / names[8]).mkdir()
    for name in names:
        if not (tmp_path / name).exists():
            (tmp_path / name).write_text("left")
        os.utime(tmp_path / name, (1, 1), follow_symlinks=False)
    replace_whole(tmp_path / "notes", b"text")
    assert set(os.listdir(tmp_path)) == {"notes", names[0], names[4], names[8]}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"stays")
    (tmp_path / "notes").symlink_to(elsewhere)
    replace_whole(tmp_path / "notes", b"whole")
    assert elsewhere.read_bytes() == b"stays"
    assert not (tmp_path / "notes").is_symlink()
    assert (tmp_path / "notes").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "notes"]


def test_two_who_write_at_once_do_not_spoil_each_others_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, seen = os.fsync, []

    def write_between(descriptor: int) -> None:
        monkeypatch.undo()
        replace_whole(tmp_path / "notes", b"of the second")
        seen.append((tmp_path / "notes").read_bytes())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", write_between)
    replace_whole(tmp_path / "notes", b"of the first, who was slower")
    assert seen == [b"of the second"]
    assert (tmp_path / "notes").read_bytes() == b"of the first, who was slower"
    assert os.listdir(tmp_path) == ["notes"]


@pytest.mark.parametrize("call", ["fsync", "fchmod", "fdopen"])
def test_a_disk_that_refuses_leaves_the_file_of_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(descriptor: int, *words: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    replace_whole(tmp_path / "notes", b"before")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space"):
        replace_whole(tmp_path / "notes", b"after")
    monkeypatch.undo()
    assert (tmp_path / "notes").read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["notes"]


def test_data_is_durable_before_its_name_and_the_name_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_number(name: str) -> str:
        return re.sub(r"\.[0-9a-f]{12}\.new$", ".new", name)

    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        steps.append(without_number(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path)))
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append(f"{without_number(self.name)} -> {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    replace_whole(tmp_path / "notes", b"data")
    assert steps == ["notes.new", "notes.new -> notes", "."]


def test_the_version_is_one_that_this_program_knows() -> None:
    assert version_of(b'{"schema": 1, "other": "things"}', 2, "x.json") == 1
    assert version_of(b'{"schema": 2}', 2, "x.json") == 2
    with pytest.raises(ConfigError) as caught:
        version_of(b'{"schema": 3, "unknown": []}', 2, "x.json")
    assert caught.value.message == (
        "x.json was written by a newer version of this program (format 3, this program knows 2)"
    )
    for none in (0, -1):
        with pytest.raises(ValueError, match=f"there is no format {none}"):
            version_of(b'{"schema": %d}' % none, 2, "x.json")
    for damaged in (b"", b"[]", b"{}", b'{"schema": "1"}', b'{"schema": 1'):
        with pytest.raises(msgspec.MsgspecError):
            version_of(damaged, 2, "x.json")


WAITS = """
import sys
from pathlib import Path
from p2pxfer.net.private.filelocks import locked

print("here", flush=True)
with locked(Path(sys.argv[1])):
    print(Path(sys.argv[2]).exists(), flush=True)
"""


def test_the_lock_of_a_change_is_waited_for(tmp_path: Path) -> None:
    lock, done = tmp_path / "lock", tmp_path / "done"
    with locked(lock):
        assert mode(lock) == 0o600
        other = subprocess.Popen([sys.executable, "-c", WAITS, lock, done], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        with pytest.raises(BlockingIOError):
            hold(lock)
        done.touch()
    assert other.communicate(timeout=50)[0] == "True\n"
    os.close(hold(lock))


def test_a_lock_is_given_back_by_an_exception_and_follows_no_link(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    os.close(hold(tmp_path / "lock"))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "link"):
        raise AssertionError("the link was followed")
    assert not (tmp_path / "elsewhere").exists()
