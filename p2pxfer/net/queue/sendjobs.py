"""What was being sent and is not through yet: a small file for each such command, in ``jobs`` in the home.

Laws:

- A record says how to run a command again and saves typing, nothing else.  A damaged one is as good as none, and a disk
  that refuses to keep one stops no transfer.
- Who holds or saves a record has it locked until :meth:`SendJobs.close`: its job runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from p2pxfer.core.approach import Approach
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.text import safe_text
from p2pxfer.errors import DiskError, UsageError
from p2pxfer.net.private.identity import make_private_directory
from p2pxfer.net.private.privatedir import HeldLocks
from p2pxfer.net.private.wholefile import in_place_of
from p2pxfer.net.transfer.hashcache import DIRECTORY as HASHES
from p2pxfer.net.transfer.scan import Links

DIRECTORY: Final = "jobs"
MAX_JOBS: Final = 256
"""Most records; the oldest go first."""
_MAX_SIZE: Final = 1024 * 1024
_SUFFIX: Final = ".json"

Count = Annotated[int, Meta(ge=0)]


def kept_paths(paths: Iterable[str]) -> list[str]:
    """Paths as a job keeps them: absolute, and sorted, since a transfer does not know the order they were given in."""
    return sorted(os.path.abspath(path) for path in paths)  # noqa: PTH100  # as text


class SendJob(msgspec.Struct, frozen=True):
    """A ``send`` as it was given, with absolute paths; ``size`` and ``acked`` in bytes, ``changed`` since 1970.

    ``limit`` in bytes a second, 0 for none; ``timeout`` in seconds; ``transfer`` is the transfer id in hex.
    """

    paths: Annotated[list[str], Meta(min_length=1)]
    peer: str
    links: Links = "skip"
    limit: Count = 0
    policy: PathPolicy = "auto"
    gentle: bool = False
    transfer: Annotated[str, Meta(pattern="^[0-9a-f]{0,64}$")] = ""
    size: Count = 0
    acked: Count = 0
    changed: float = 0.0
    port_mapping: bool = True
    wait: bool = False
    timeout: Annotated[float, Meta(gt=0)] = 60.0
    delta: bool = False
    verify: bool = False
    schema: Literal[1] = 1

    @property
    def approach(self) -> Approach:
        """How the peer was reached."""
        return Approach(self.policy, self.gentle, self.port_mapping)

    @property
    def number(self) -> str:
        """The same for the same paths and peer, whatever has become of them: 8 hexadecimal digits."""
        return hashlib.sha256("\0".join([self.peer, *self.paths]).encode(errors="surrogateescape")).hexdigest()[:8]


class SendJobs:
    """The records in a home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._directory = home / DIRECTORY
        self._held: IO[bytes] | None = None

    def save(self, job: SendJob) -> None:
        """Write the record of a job, in place of the one before, and hold it."""
        path = self._path(job.number)
        try:
            make_private_directory(self._directory)
            data = msgspec.json.encode(job)
            with ExitStack() as failed:
                with in_place_of(path) as descriptor:
                    held = failed.enter_context(os.fdopen(os.dup(descriptor), "wb", buffering=0))
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held.write(data)
                failed.pop_all()
            self.close()
            self._held = held
            for old in self._files()[MAX_JOBS:]:
                old.unlink(missing_ok=True)
        except (OSError, UnicodeEncodeError):
            return

    def hold(self, job: SendJob) -> None:
        """Hold the record that an earlier run left, if there is one.

        Raises:
            UsageError: somebody else holds it: the same is being sent already.
        """
        try:
            with ExitStack() as failed:
                held = failed.enter_context(self._path(job.number).open("rb", buffering=0))
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                failed.pop_all()
        except BlockingIOError:
            raise self._sent_already(job) from None
        except OSError:
            return
        self.close()
        self._held = held

    def _sent_already(self, job: SendJob) -> UsageError:
        """The error of whoever would send the same beside the process that does."""
        process = HeldLocks().file_holder(self._path(job.number))
        by = f"process {process}" if process else "another process"
        return UsageError(
            f"already being sent to {safe_text(job.peer, 64)} by {by} (job {job.number}):"
            " wait for that, or end it with Ctrl-C and send it again"
        )

    def close(self) -> None:
        """The job that was saved last does not run any more."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def remove(self, job: SendJob) -> None:
        """Forget a job and the hashes that were noted for it, unless the same is sent to another peer too."""
        with suppress(OSError):
            self._path(job.number).unlink(missing_ok=True)
            forget_hashes(self._home, job.transfer)

    def is_running(self, job: SendJob, locks: HeldLocks) -> bool:
        """Whether a process sends it now, to this peer."""
        return locks.is_file_held(self._path(job.number))

    def all(self) -> list[SendJob]:
        """Every job that can be read, the latest first."""
        found: dict[str, SendJob] = {}
        for path in self._files()[:MAX_JOBS]:
            try:
                if path.stat().st_size > _MAX_SIZE:
                    continue
                job = msgspec.json.decode(path.read_bytes(), type=SendJob)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                continue
            job = msgspec.structs.replace(job, paths=sorted(job.paths))
            if path != self._path(job.number):
                self._renumber(path, job.number, known=job.number in found)
            found.setdefault(job.number, job)
        return sorted(found.values(), key=lambda job: -job.changed)

    def _renumber(self, path: Path, number: str, *, known: bool) -> None:
        """A record of before has its paths in another order, and the number of that: from now on it has this one.

        ``known``: a later one has it already.
        """
        with suppress(OSError):
            if known:
                path.unlink()
            else:
                path.replace(self._path(number))

    def _path(self, number: str) -> Path:
        return self._directory / f"{number}{_SUFFIX}"

    def _files(self) -> list[Path]:
        """The records, the latest first."""
        try:
            return sorted(self._directory.glob(f"*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime)
        except OSError:
            return []


def forget_hashes(home: Path, transfer: str) -> None:
    """Remove the hashes that were noted for a transfer, an id in hex, unless somebody sends it or may go on with it."""
    if not transfer:
        return
    # Most commands of sending never come here with a queue, and all of them load this file.
    from p2pxfer.net.queue.queuestore import QueueStore

    hashes = home / HASHES / transfer
    try:
        entries = QueueStore(home).read()[0]
    except DiskError:
        return  # whoever may go on with it is not known now
    others = [job.transfer for job in SendJobs(home).all()] + [entry.transfer for entry in entries]
    if transfer not in others and not HeldLocks().is_file_held(hashes):
        with suppress(OSError):
            hashes.unlink(missing_ok=True)
