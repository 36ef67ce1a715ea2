from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from p2pxfer.core.server.experience import Row
from p2pxfer.errors import ConfigError
from p2pxfer.net.server.store import NAME_LIFE_S, NAMES_PER_KEY, NameStore, check_database

ALICE, BOB = bytes([1]) * 32, bytes([2]) * 32


class Time:
    """Seconds since 1970, as the test likes."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "names.sqlite"
    check_database(found)
    return found


@pytest.fixture
def wall() -> Time:
    return Time()


@pytest_twisted.async_yield_fixture
async def store(path: Path, wall: Time) -> AsyncIterator[NameStore]:
    from twisted.internet import reactor

    opened = NameStore(path, wall, reactor)
    opened.start()
    yield opened
    opened.close()


@pytest_twisted.ensureDeferred
async def test_a_name_belongs_to_the_first_key(store: NameStore) -> None:
    assert await store.claim("bob", BOB, True) == "new"
    assert await store.claim("bob", BOB, False) == "kept"
    assert await store.claim("bob", ALICE, True) == "taken"


@pytest_twisted.ensureDeferred
async def test_a_name_is_free_again_thirty_days_after_its_last_use(store: NameStore, wall: Time) -> None:
    await store.claim("bob", BOB, True)
    wall.now += NAME_LIFE_S - 10
    await store.touch("bob", BOB)
    await store.touch("bob", ALICE)
    wall.now += NAME_LIFE_S - 10
    assert await store.claim("bob", ALICE, True) == "taken"
    wall.now += 20
    assert await store.claim("bob", ALICE, True) == "new"
    assert await store.claim("bob", BOB, True) == "taken"


@pytest_twisted.ensureDeferred
async def test_a_key_owns_so_many_names_and_no_more(store: NameStore, wall: Time) -> None:
    claims = [await store.claim(f"bob-{n}", BOB, True) for n in range(NAMES_PER_KEY + 1)]
    assert claims == ["new"] * NAMES_PER_KEY + ["key-limit"]
    assert await store.claim("bob-0", BOB, True) == "kept"
    assert await store.claim("alice", ALICE, False) == "source-limit"
    wall.now += NAME_LIFE_S + 1
    assert await store.claim(f"bob-{NAMES_PER_KEY}", BOB, True) == "new"


@pytest_twisted.ensureDeferred
async def test_names_survive_a_restart(path: Path, wall: Time) -> None:
    from twisted.internet import reactor

    for expected in ("new", "kept", "kept"):
        check_database(path)
        store = NameStore(path, wall, reactor)
        store.start()
        assert await store.claim("bob", BOB, True) == expected
        store.close()


@pytest.mark.parametrize("trouble", ["PRAGMA query_only = ON", "PRAGMA max_page_count = 1"])
@pytest_twisted.ensureDeferred
async def test_f39_a_disk_that_takes_nothing_stops_new_names_only(
    store: NameStore, trouble: str, lost_errors: Any
) -> None:
    await store.claim("bob", BOB, True)
    await store.pool.runQuery(trouble)
    answers = [await store.claim(f"name-{n:05}", bytes([n % 250]) * 32, True) for n in range(500)]
    assert answers[-1] == "io"
    assert set(answers) <= {"new", "io"}
    assert await store.claim("bob", BOB, True) == "kept"
    assert await store.claim("bob", ALICE, True) == "taken"
    await store.pool.runQuery("PRAGMA query_only = OFF")
    await store.pool.runQuery("PRAGMA max_page_count = 1000000")
    assert await store.claim("late", ALICE, True) == "new"


def test_f39_a_damaged_database_is_not_replaced(path: Path) -> None:
    data = path.read_bytes()
    for damaged in (b"", b"nonsense" * 1000, data[:5000], data[:100] + b"\xff" * 4000 + data[4100:]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="cannot be used"):
            check_database(path)
        assert path.read_bytes() == damaged


def test_databases_of_others_and_of_later_versions_are_refused(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE names (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match="not a database of this server"):
        check_database(other)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()
    with pytest.raises(ConfigError, match="version 3"):
        check_database(path)


@pytest_twisted.ensureDeferred
async def test_a_database_of_the_first_version_is_brought_up_and_keeps_its_names(path: Path, wall: Time) -> None:
    from twisted.internet import reactor

    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO names VALUES (?, ?, ?, ?)", ("bob", BOB, wall.now, wall.now))
    connection.execute("DROP TABLE experience")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    for _ in range(2):
        check_database(path)
        store = NameStore(path, wall, reactor)
        store.start()
        assert await store.claim("bob", ALICE, True) == "taken"
        assert await store.kept() == ([], 0.0)
        store.close()


@pytest_twisted.ensureDeferred
async def test_experience_is_kept_as_a_whole_with_its_age(store: NameStore, wall: Time) -> None:
    first = [Row("cone", "random", "walk", "3s", 2.5), Row("cone", "random", "single", "lost", 2.5)]
    await store.keep(first)
    wall.now += 100
    rows, age = await store.kept() or ([], 0.0)
    assert (sorted(rows, key=str), age) == (sorted(first, key=str), 100.0)
    await store.keep(first[1:])
    wall.now -= 50  # somebody set the clock back
    assert await store.kept() == (first[1:], 0.0)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_refuses_does_not_lose_what_was_kept(store: NameStore, lost_errors: Any) -> None:
    rows = [Row("cone", "random", "walk", "3s", 2.5)]
    await store.keep(rows)
    await store.pool.runQuery("PRAGMA query_only = ON")
    await store.keep([])
    await store.pool.runQuery("PRAGMA query_only = OFF")
    assert await store.kept() == (rows, 0.0)
    await store.pool.runOperation("DROP TABLE experience")
    assert await store.kept() is None


def test_a_directory_that_takes_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        check_database(tmp_path / "missing" / "names.sqlite")


def test_what_a_crash_left_while_making_it_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "names.sqlite"
    path.with_name("names.sqlite.new").write_bytes(b"half")
    check_database(path)
    check_database(path)
