"""What a server keeps in SQLite across restarts: which key owns which registered name, and what punches taught.

Laws of this file:

1. A name belongs to the key that claimed it first, until 30 days after its last use.
2. What cannot be understood is never replaced by something empty: a damaged database or one of a later version stops
   the server from starting.
3. A disk that refuses to write stops new names only; who owns what can still be told.
4. A database of an earlier version is brought up to this one before the server starts, all of it or nothing.

All statements run in one thread of their own, in the order of the calls.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pxfer.core.server.effects import Claim
from p2pxfer.core.server.experience import Row
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.identity import sync_directory

APPLICATION_ID: Final = 0x70327078
"""Marks the file as ours (SQLite ``application_id``): "p2px"."""
SCHEMA_VERSION: Final = 2
NAME_LIFE_S: Final = 30 * 86_400.0
NAMES_PER_KEY: Final = 32
"""One that a person chose, those under which its pipes, chats and the like wait, and one for each service that it has
exposed in the last thirty days."""

_new_pool: Any = adbapi.ConnectionPool  # carries no types
_SCHEMA: Final = """
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    key BLOB NOT NULL CHECK (length(key) = 32),
    created REAL NOT NULL,
    used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX names_by_key ON names (key);
"""
_EXPERIENCE: Final = """
CREATE TABLE experience (
    one TEXT NOT NULL,
    other TEXT NOT NULL,
    way TEXT NOT NULL,
    result TEXT NOT NULL,
    count REAL NOT NULL,
    kept REAL NOT NULL,
    PRIMARY KEY (one, other, way, result)
) WITHOUT ROWID;
"""
_UPGRADES: Final = {1: _EXPERIENCE}
"""Version -> what makes the next one of it."""


def check_database(path: Path) -> None:
    """Make the database at ``path`` if there is none, or check the whole of the one that is there.

    Blocks; to be called once, before the server starts.  A new database is made beside its place and moved there whole.

    Raises:
        ConfigError: it is damaged, not ours, of a later version, or cannot be opened or made.
    """
    try:
        if not path.exists():
            _create(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _check(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise _unusable(path, str(error)) from error


def _create(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};"
            f"PRAGMA user_version = {SCHEMA_VERSION}; {_SCHEMA} {_EXPERIENCE} COMMIT;"
        )
    unfinished.rename(path)
    sync_directory(path.parent)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise _unusable(path, str(verdict))
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise _unusable(path, "it is not a database of this server")
    while version in _UPGRADES:
        connection.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[version]} PRAGMA user_version = {version + 1}; COMMIT;")
        version += 1
    if version != SCHEMA_VERSION:
        raise _unusable(path, f"it has version {version}, this server understands {SCHEMA_VERSION}")
    connection.execute("SELECT name, key, created, used FROM names LIMIT 1").fetchall()
    connection.execute("SELECT one, other, way, result, count, kept FROM experience LIMIT 1").fetchall()


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the name database {path_text(path)} cannot be used ({safe_text(why, 200)}); restore it from a "
        "backup, or move it away to start without registered names"
    )


class NameStore:
    """The names, and the experience.  ``clock()`` is seconds since 1970; ``reactor`` runs the answers."""

    log = Logger()

    def __init__(self, path: Path, clock: Callable[[], float], reactor: Any) -> None:
        self._clock = clock
        self.pool: Any = _new_pool(
            "sqlite3",
            str(path),
            check_same_thread=False,
            timeout=5.0,
            cp_min=1,
            cp_max=1,
            cp_noisy=False,
            cp_reactor=reactor,
            cp_openfun=_tune,
        )

    def start(self) -> None:
        """Start the thread."""
        self.pool.start()

    def close(self) -> None:
        """Finish what was asked, then stop the thread."""
        self.pool.close()

    def claim(self, name: str, key: bytes, may_create: bool) -> Deferred[Claim]:
        """Let ``key`` use ``name`` if it may; never fails.

        ``may_create``: whether it may be a name that does not belong to ``key`` yet.
        """
        answer: Deferred[Claim] = self.pool.runInteraction(_claim, name, key, may_create, self._clock())
        return answer.addErrback(self._no_answer, "claim")

    def touch(self, name: str, key: bytes) -> Deferred[Any]:
        """``key`` used ``name`` until now; never fails."""
        done: Deferred[Any] = self.pool.runInteraction(_touch, name, key, self._clock())
        return done.addErrback(self._no_answer, "touch")

    def keep(self, rows: list[Row]) -> Deferred[Any]:
        """Keep these rows of experience in place of the former ones; never fails."""
        done: Deferred[Any] = self.pool.runInteraction(_keep, rows, self._clock())
        return done.addErrback(self._no_answer, "keep what punches taught")

    def kept(self) -> Deferred[tuple[list[Row], float] | None]:
        """The rows of experience, and how many seconds ago they were kept; ``None`` if they cannot be read."""
        found: Deferred[tuple[list[Row], float] | None] = self.pool.runInteraction(_kept, self._clock())
        return found.addErrback(self._nothing_kept)

    def _nothing_kept(self, failure: Any) -> None:
        self._no_answer(failure, "tell what punches taught")

    def _no_answer(self, failure: Any, what: str) -> Claim:
        failure.trap(Exception)
        self.log.error("the name database refused to {what}: {why}", what=what, why=failure.getErrorMessage())
        return "io"


def _tune(connection: sqlite3.Connection) -> None:
    """WAL keeps readers going; FULL makes a granted name survive a power cut."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _claim(cursor: Any, name: str, key: bytes, may_create: bool, now: float) -> Claim:
    cursor.execute("SELECT key, used FROM names WHERE name = ?", (name,))
    row = cursor.fetchone()
    if row is not None and bytes(row[0]) == key:
        _touch(cursor, name, key, now)
        return "kept"
    if row is not None and row[1] > now - NAME_LIFE_S:
        return "taken"
    cursor.execute("SELECT count(*) FROM names WHERE key = ? AND used > ?", (key, now - NAME_LIFE_S))
    if cursor.fetchone()[0] >= NAMES_PER_KEY:
        return "key-limit"
    if not may_create:
        return "source-limit"
    cursor.execute("INSERT OR REPLACE INTO names (name, key, created, used) VALUES (?, ?, ?, ?)", (name, key, now, now))
    return "new"


def _keep(cursor: Any, rows: list[Row], now: float) -> None:
    cursor.execute("DELETE FROM experience")
    cursor.executemany(
        "INSERT INTO experience (one, other, way, result, count, kept) VALUES (?, ?, ?, ?, ?, ?)",
        [(row.one, row.other, row.way, row.result, row.count, now) for row in rows],
    )


def _kept(cursor: Any, now: float) -> tuple[list[Row], float]:
    cursor.execute("SELECT one, other, way, result, count, kept FROM experience")
    found = cursor.fetchall()
    # A clock that was set back makes nothing younger than it is.
    return [Row(*row[:5]) for row in found], max(0.0, now - found[0][5]) if found else 0.0


def _touch(cursor: Any, name: str, key: bytes, now: float) -> None:
    try:
        cursor.execute("UPDATE names SET used = max(used, ?) WHERE name = ? AND key = ?", (now, name, key))
    except sqlite3.OperationalError:
        pass  # a disk that is full or read-only must not keep an owner from its name
