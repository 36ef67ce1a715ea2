"""What a chat with one contact leaves on the disk: the outbox, the ids of what came, the history.

Laws:

1. Everything is private: a directory of this contact in ``chats`` in the home, 0700, the files 0600.
2. The outbox is replaced whole and durably.  An id is appended when its line was shown, and durable before the peer
   gets its receipt; a record that a crash cut is dropped when the file is read.
3. An outbox that is damaged or of a newer version is left alone and reported: there may be lines in it.
4. The history holds at most twice :data:`HISTORY_MAX` bytes, in ASCII, so that showing the file is harmless.
5. One process at a time has it.

All functions block; those that write raise ``OSError``.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from p2pxfer.core.ids import PeerId
from p2pxfer.core.session.chatwire import MAX_TEXT
from p2pxfer.core.session.conversation import MAX_PENDING, REMEMBERED, Line
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.filelocks import hold
from p2pxfer.net.private.identity import make_private_directory
from p2pxfer.net.private.wholefile import replace_whole, version_of

DIRECTORY: Final = "chats"
SCHEMA: Final = 1
"""Version of the outbox."""
HISTORY_MAX: Final = 1024 * 1024
"""Largest history before it becomes the older one, bytes."""
Side = Literal["here", "there"]
_ID: Final = 16
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class _Waiting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    at: Annotated[int, Meta(ge=0)]


class _Outbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    lines: Annotated[list[_Waiting], Meta(max_length=MAX_PENDING)] = []


class ChatStore:
    """The files of the chat with the contact that has this key (SHA-256 of its SPKI)."""

    def __init__(self, home: Path, key: bytes) -> None:
        """Open or make them.

        Raises:
            ConfigError: they cannot be used, another process has them, or the outbox is damaged or of a newer version.
        """
        self.path = home / DIRECTORY / str(PeerId(key))
        self._ids_lock = threading.Lock()
        try:
            make_private_directory(self.path)
            self._lock = hold(self.path / "lock")
        except BlockingIOError:
            raise ConfigError("another chat with this contact runs on this machine") from None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self.pending = self._read_outbox()
            self.seen = self._read_ids()
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise self._unusable(error) from error
            raise

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(f"cannot use {path_text(self.path)}: {error.strerror}")

    def close(self) -> None:
        """Give the files to whoever comes next."""
        os.close(self._lock)

    # -- outbox ------------------------------------------------------------------------------------------------------

    def _read_outbox(self) -> list[Line]:
        path = self.path / "outbox.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            version_of(data, SCHEMA, path_text(path))
            lines = msgspec.json.decode(data, type=_Outbox).lines
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            why = safe_text(str(error), 200)
            raise ConfigError(f"{path_text(path)} is damaged ({why}); lines that wait may be in it") from error
        return [Line(bytes.fromhex(each.id), each.text, each.at) for each in lines]

    def save_outbox(self, lines: list[Line]) -> None:
        """These lines have no receipt yet.  Raises ``OSError``."""
        content = _Outbox(SCHEMA, [_Waiting(each.id.hex(), each.text, each.at) for each in lines])
        replace_whole(self.path / "outbox.json", msgspec.json.encode(content) + b"\n")

    # -- ids ---------------------------------------------------------------------------------------------------------

    def _read_ids(self) -> list[bytes]:
        try:
            data = (self.path / "seen").read_bytes()
        except FileNotFoundError:
            return []
        whole = len(data) - len(data) % _ID
        return [data[at : at + _ID] for at in range(0, whole, _ID)][-REMEMBERED:]

    def shown(self, line: bytes) -> None:
        """The line with this id was shown just now: it is not to be shown again, even if the program dies at once.

        Durable with :meth:`keep`.  Raises ``OSError``.
        """
        with self._ids_lock:
            descriptor = os.open(self.path / "seen", _FLAGS, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                size -= size % _ID
                if os.pwrite(descriptor, line, size) < _ID:
                    os.ftruncate(descriptor, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)

    def keep(self) -> None:
        """Make the ids of :meth:`shown` durable.  Raises ``OSError``."""
        with self._ids_lock:
            descriptor = os.open(self.path / "seen", _FLAGS, 0o600)
            try:
                if os.fstat(descriptor).st_size > 2 * REMEMBERED * _ID:
                    replace_whole(self.path / "seen", b"".join(self._read_ids()))
                else:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    # -- history -----------------------------------------------------------------------------------------------------

    def remember(self, lines: list[tuple[Side, Line]]) -> None:
        """Append lines to the history, each with the side that it came from.  Raises ``OSError``."""
        if not lines:
            return
        path = self.path / "history.jsonl"
        rows = (json.dumps({"at": line.at, "side": side, "text": line.text}) for side, line in lines)
        data = "".join(f"{row}\n" for row in rows).encode("ascii")
        descriptor = os.open(path, _FLAGS | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, data) < len(data):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        if size + len(data) >= HISTORY_MAX:
            path.replace(self.path / "history.jsonl.1")

    def history(self, count: int) -> list[tuple[str, Line]]:
        """The last lines of the history, the oldest first, with the side that each came from, but damaged ones.

        Raises ``OSError``.
        """
        found: list[tuple[str, Line]] = []
        for name in ("history.jsonl.1", "history.jsonl"):
            try:
                lines = (self.path / name).read_text(encoding="ascii", errors="replace").splitlines()
            except FileNotFoundError:
                continue
            for text in lines[max(0, len(lines) - count) :]:
                try:
                    row = json.loads(text)
                    found.append((str(row["side"]), Line(b"", str(row["text"]), int(row["at"]))))
                except (ValueError, KeyError, TypeError):
                    continue
        return found[max(0, len(found) - count) :]
