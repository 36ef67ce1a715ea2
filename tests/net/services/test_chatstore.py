from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.core.session.conversation import REMEMBERED, Line
from p2pxfer.errors import ConfigError
from p2pxfer.net.services import chatstore
from p2pxfer.net.services.chatstore import ChatStore

KEY = bytes(range(32))


def line(number: int, text: str = "text") -> Line:
    return Line(number.to_bytes(16, "big"), text, 1_000_000 + number)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChatStore]:
    made = ChatStore(tmp_path, KEY)
    yield made
    made.close()


def again(tmp_path: Path, store: ChatStore) -> ChatStore:
    """As the next run sees it; a fork of the lock would not let it in."""
    store.close()
    opened = ChatStore(tmp_path, KEY)
    store._lock = os.dup(opened._lock)
    return opened


def test_lines_that_wait_are_found_again(store: ChatStore, tmp_path: Path) -> None:
    assert (store.pending, store.seen) == ([], [])
    lines = [line(1, "ä\u202e"), line(2, "")]
    store.save_outbox(lines)
    assert again(tmp_path, store).pending == lines


def test_ids_are_found_again_and_the_last_ones_stay(store: ChatStore, tmp_path: Path) -> None:
    for number in range(2 * REMEMBERED + 10):
        store.shown(line(number).id)
    store.keep()
    assert (store.path / "seen").stat().st_size == 16 * REMEMBERED
    store.shown(line(99_999).id)
    found = again(tmp_path, store).seen
    assert found[-1] == line(99_999).id
    assert found[0] == line(REMEMBERED + 11).id
    assert len(found) == REMEMBERED


def test_an_id_that_was_cut_is_dropped_and_the_next_one_is_whole(store: ChatStore, tmp_path: Path) -> None:
    store.shown(line(1).id)
    with (store.path / "seen").open("ab") as file:
        file.write(b"half")
    store.shown(line(2).id)
    assert again(tmp_path, store).seen == [line(1).id, line(2).id]


def test_a_full_disk_leaves_what_there_was(store: ChatStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save_outbox([line(1)])
    store.shown(line(1).id)

    def full(descriptor: int, data: bytes, *where: int) -> int:
        return 0

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        store.shown(line(2).id)
    with pytest.raises(OSError, match="No space"):
        store.save_outbox([line(1), line(2)])
    monkeypatch.undo()
    found = again(tmp_path, store)
    assert found.pending == [line(1)]
    assert found.seen == [line(1).id]


def test_the_history_is_limited(store: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chatstore, "HISTORY_MAX", 10_000)
    for number in range(1000):
        store.remember([("here", line(number, f"{number}\x1b[2J"))])
    assert sum(path.stat().st_size for path in store.path.glob("history*")) < 20_200
    last = store.history(50)
    assert [each.text for _, each in last] == [f"{number}\x1b[2J" for number in range(950, 1000)]
    assert b"\x1b" not in (store.path / "history.jsonl").read_bytes()


def test_a_damaged_line_of_the_history_is_left_out(store: ChatStore) -> None:
    store.remember([("here", line(1, "one"))])
    with (store.path / "history.jsonl").open("ab") as file:
        file.write(b"\xff{]\n[]\n{}\n")
    store.remember([("there", line(2, "two"))])
    assert [(side, each.text) for side, each in store.history(20)] == [("here", "one"), ("there", "two")]


def test_one_process_at_a_time(store: ChatStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another chat"):
        ChatStore(tmp_path, KEY)
    ChatStore(tmp_path, bytes(32)).close()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "damaged"), (b'{"schema": 2}', "newer version"), (b'{"schema": 1, "lines": [{"id": "x"}]}', "damaged")],
)
def test_an_outbox_that_cannot_be_read_is_left_alone(tmp_path: Path, content: bytes, says: str) -> None:
    first = ChatStore(tmp_path, KEY)
    first.close()
    (first.path / "outbox.json").write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        ChatStore(tmp_path, KEY)
    assert (first.path / "outbox.json").read_bytes() == content
    (first.path / "outbox.json").unlink()
    ChatStore(tmp_path, KEY).close()
