"""The receiver's disk: chunks into a private directory, a journal beside them, whole files under their final names.

Layout inside the destination, all of it in a directory that is private to the user (0700)::

    .p2pxfer-<32 hex digits>/     of SHA-256(sender's key digest | transfer id): the same transfer finds it again
        journal, owner-<id>       see p2pxfer.core.transfer.journal, p2pxfer.net.staging.owning
        tree/                     the manifest's files and directories, as far as anything arrived

The manifest may grow meanwhile: its pages are journalled in their order, each before any claim about its files.  What
no page lists is removed when the place is opened again (:mod:`p2pxfer.net.staging.strays`).

Laws:

- The destination is opened once; everything else is relative to descriptors and follows no link.
- A chunk is written after it was verified, and journalled after it was synced: data, fdatasync, journal, fdatasync.
- What the journal claims is relied on without reading it again: it was verified, then synced, then journalled.
- Before other bytes are written over what is claimed the claim is withdrawn, durably (``net/staging/claiming``).
- A sync that failed is never tried again, for a second one would succeed without having written: the staging is
  broken, and the next run starts from the last good record.
- Nothing appears under a final name before everything is complete and durable, and nothing is ever replaced.

Every function blocks, so it belongs in a thread; :meth:`Staging.write_chunk` may run in several at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import Final

from p2pxfer.core.session.bundlewire import Bundle
from p2pxfer.core.transfer.chunkhashes import ChunkHashes
from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import zero_runs
from p2pxfer.core.transfer.journal import Agreed, Claim, pack_claims, pack_withdrawn
from p2pxfer.core.transfer.manifest import Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import ChunkRefused, Damaged, DiskError
from p2pxfer.net.disk import open_own_directory, remove_whole, shown
from p2pxfer.net.holes import keeps_holes
from p2pxfer.net.private.privatedir import enter
from p2pxfer.net.staging import replay
from p2pxfer.net.staging.claiming import Claiming
from p2pxfer.net.staging.journalfile import JournalFile, new_journal, pack_listed
from p2pxfer.net.staging.owning import EVERYBODYS, take
from p2pxfer.net.staging.partials import number_of, staging_name
from p2pxfer.net.staging.preflight import ON_ITS_WAY, Room
from p2pxfer.net.staging.publishing import Publisher, all_there
from p2pxfer.net.staging.strays import TREE
from p2pxfer.net.staging.treefiles import TreeFiles
from p2pxfer.net.staging.trouble import NOT_SENT, Trouble
from p2pxfer.net.staging.verifying import verified_files, verify_chunk

RESERVE: Final = 1024 * 1024
"""Bytes of the disk that a transfer leaves free."""

_TREE: Final = TREE.encode()


def _no_failpoint(_: str) -> None:
    """Failpoints are for tests."""


class Staging:
    """One transfer from one sender into one destination; made by :meth:`open`."""

    def __init__(
        self, destination: str, sender: bytes, manifest: Manifest, failpoint: Callable[[str], None], reserve: int
    ) -> None:
        self.name = staging_name(sender, manifest.transfer_id)
        self.where = str(Path(destination, self.name))
        self.owner = EVERYBODYS
        self.published_root: bytes | None = None
        self.published_names: list[str] = []
        self.agreed: Agreed | None = None
        """What an earlier run has published, or begun to."""
        self._destination_path = destination
        self._destination = self._home = -1
        self._sender = sender
        self._manifest = manifest
        self._failpoint = failpoint
        self._table = ChunkTable(manifest)
        self._closing = ExitStack()
        self._claiming = Claiming(self._table, self._withdraw)
        self._trouble = Trouble(destination, self.where)
        self._files = TreeFiles(manifest)
        self._room = Room(destination, manifest, self._table, reserve)

    @classmethod
    def open(
        cls,
        destination: str,
        sender: bytes,
        manifest: Manifest,
        *,
        announced: Announced | None = None,
        relisted: bool = False,
        owner: bytes = EVERYBODYS,
        reserve: int = RESERVE,
        failpoint: Callable[[str], None] = _no_failpoint,
    ) -> Staging:
        """Take up the transfer in ``destination`` where an earlier run left it, or begin it.

        ``sender`` and ``owner`` are digests (32 bytes) of the keys of both ends.  Pages that an earlier run knew are
        added to the manifest, unless it is whole or was ``relisted``: then what lies here because of others goes.
        Nothing is created without room for what is listed and ``announced``, but for holes if the file system has them.

        Raises:
            NoSpace: bytes or inodes do not suffice for what is missing.
            ConfigError: another process or identity receives this transfer into this directory.
            DiskError: the directory is missing or not writable, or what was found there is not to be trusted.
        """
        staging = cls(destination, sender, manifest, failpoint, reserve)
        try:
            staging._destination = staging._keep(staging._trouble.open_destination())
            with staging._trouble.told(f"preparing the directory {shown(destination)}"):
                staging._note(announced)
                staging._enter(owner)
                staging._resume(relisted)
            return staging
        except BaseException:
            staging.close()
            raise

    @property
    def have(self) -> ChunkHashes:
        """(file index, chunk index) -> hash of the chunks that are here for certain; follows :meth:`sync`."""
        return ChunkHashes(self._table)

    @property
    def begun(self) -> bool:
        """Whether names have left for the destination: then the list is not to become another one."""
        return self._publisher.begun

    # -- opening -------------------------------------------------------------------------------------------------

    def _keep(self, fd: int) -> int:
        self._closing.callback(os.close, fd)
        return fd

    def _enter(self, owner: bytes) -> None:
        def check_room() -> None:
            """Whether there is room for it at all; before anything is made."""
            self._room.check_space(self._destination)
            self._room.check_inodes(self._destination, None, 5, lambda path: False)

        self._home = self._keep(enter(self._destination, self.name, self.where, check_room))
        self._trouble.home = self._home
        self.owner = owner
        take(self._home, owner, self.where, number_of(self.name))
        self._journal = JournalFile(self._home, self._failpoint)
        self._closing.callback(self._journal.close)

    def _resume(self, relisted: bool) -> None:
        state = self._journal.read_state(self._sender, self._manifest.transfer_id)
        if state is not None and state.published_root is not None:
            if all_there(self._destination, state.published_names):
                self.published_root, self.published_names = state.published_root, state.published_names
                if state.agreed is None or state.agreed.root != state.published_root:
                    state.agreed = Agreed(state.published_root)
            else:
                state = None  # the user took them away and wants them again
        # What is opened again for another list may be agreed to already.
        offered = state is None and not relisted
        if state is None:
            remove_whole(_TREE, self._home)
        self._open_tree()
        if state is not None and not replay.go_on(
            state, self._manifest, self._table, self._files.tree, self._publisher, relisted=relisted
        ):
            state = None
            remove_whole(_TREE, self._home)
            self._open_tree()
        self.agreed = state.agreed if state is not None else None
        if self.published_root is not None:
            return
        self._room.left_out(self.agreed.left if self.agreed is not None else ())
        self._room.check_space(self._destination)
        self._room.check_inodes(self._destination, self._files.tree, 1, self._publisher.is_settled)
        self._journal.replace(new_journal(self._sender, self._manifest, self._table, state), offered=offered)
        os.fsync(self._destination)

    def _open_tree(self) -> None:
        with suppress(FileExistsError):  # from an earlier run
            os.mkdir(_TREE, 0o700, dir_fd=self._home)
        tree = self._files.tree = self._keep(open_own_directory(_TREE, self._home))
        os.fsync(self._home)
        self._publisher = Publisher(self._manifest, tree, self._destination, self._journal, self._failpoint)

    # -- chunks --------------------------------------------------------------------------------------------------

    def write_chunk(
        self, file: int, index: int, payload: memoryview, digest: bytes, found: bytes | None = None
    ) -> None:
        """Verify a chunk and write it; it counts only after :meth:`sync`.  ``found``: its hash, if that is known.

        Raises:
            ChunkRefused: no such chunk, of another length, or ``digest`` is not its BLAKE3 hash.
            NoSpace: the disk is full.
            DiskError: the disk refused.
        """
        self._check_usable()
        if not 0 <= file < len(self._manifest.sizes):
            raise ChunkRefused(f"file {file} is not part of the transfer")
        entry = self._manifest.files[file]
        verify_chunk(file, entry, index, payload, digest, found)
        self._claiming.writing(file, index, index + 1)
        self._write(file, entry, index, payload)

    def _write(self, file: int, entry: Entry, index: int, payload: memoryview) -> None:
        try:
            self._files.write(file, index, payload)
        except OSError as error:
            raise self._trouble.said(error, f"writing {shown(entry.path)}") from error
        self._failpoint("rx.after_data_write")

    def write_bundle(self, bundle: Bundle) -> None:
        """Verify small files and write them; they count only after :meth:`sync`.  Raises as :meth:`write_chunk`."""
        self._check_usable()
        files = verified_files(self._manifest, bundle)
        self._claiming.writing(bundle.file, 0, 1, bundle.count)
        for file, entry, payload in files:
            self._write(file, entry, 0, payload)

    def write_hole(self, file: int, first: int, stop: int) -> list[Claim]:
        """Have chunks of a file, from now on known as sparse, be zero; their claims for :meth:`sync`.  Raises
        :class:`~p2pxfer.errors.DiskError`: the disk refused, or is full.
        """
        self._check_usable()
        self._files.mark_sparse(file)
        if first == stop:
            return []
        self._claiming.writing(file, first, stop)
        entry = self._manifest.files[file]
        with self._trouble.told(f"writing {shown(entry.path)}"):
            self._files.leave_hole(file, first, stop)
        self._failpoint("rx.after_data_write")
        return [(file, *run) for run in zero_runs(entry.size, first, stop)]

    def _note(self, announced: Announced | None) -> None:
        if announced is not None:
            self._room.announced(announced, bool(announced.holes) and keeps_holes(self._destination))

    def announce(self, announced: Announced) -> None:
        """The sender has seen more of what it sends.  Raises :class:`~p2pxfer.errors.NoSpace` if it does not fit."""
        with self._trouble.told(f"looking at the directory {shown(self._destination_path)}"):
            self._note(announced)
            self._room.check_space(self._destination, ON_ITS_WAY)

    def sync(self, claims: Iterable[Claim], pages: Iterable[int] = ()) -> None:
        """Make chunks and holes durable, then journal their ``claims``, and before them the ``pages`` that were added.

        The claims stand in the order of writing: of two for one chunk the later one holds.

        Raises:
            ChunkRefused: no such chunk.
            NoSpace: the disk is full.
            DiskError: the disk refused; this staging cannot be used any more.
        """
        listed = list(pages)
        with self._claiming.syncing:
            held = self._claiming.holding(claims)
            self._check_usable()
            if not (held.claims or listed):
                return
            with self._trouble.breaking("syncing the received data"):
                self._trouble.look()
                self._files.sync({file for file, _, _, _ in held.claims}, self._destination)
                self._failpoint("rx.after_data_sync")
                records = (pack_listed(self._manifest, page) for page in listed)
                self._journal.append(chain(records, pack_claims(held.claims)))
            self._claiming.journalled(held)

    def _withdraw(self, runs: list[tuple[int, int, int]]) -> None:
        """These are about to become other bytes."""
        self._check_usable()
        with self._trouble.breaking("preparing to replace what was received"):
            self._journal.append(pack_withdrawn(runs))

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self, root: bytes, now: float, left: Sequence[int] = ()) -> list[str]:
        """Publish everything; the final names in order.  May be called again, also by a later run.

        ``root`` is the transfer's root hash without the files that are ``left`` out, of which no name is made; ``now``
        is the time in seconds since 1970, a day after which is the latest time that a file gets.  No
        :meth:`write_chunk` may be under way.

        Raises:
            Damaged: a chunk is missing, or ``root`` is not that of what is here.
            NoSpace: the disk is full.
            DiskError: the disk refused; what could not be published is kept.
        """
        with self._claiming.syncing:
            if self.published_root is not None:
                if root != self.published_root:
                    raise Damaged("the sender's root hash is not that of what was published")
                return self.published_names
            self._check_usable()
            self._table.grow()
            if self._table.unknown(left) or self._table.root(left) != root:
                raise Damaged(f"{NOT_SENT} in {shown(self.where)}", f"{NOT_SENT} there")
            with self._trouble.breaking("publishing what was received"):
                self._files.close()
                self._publisher.prepare(now, left)
                names = self._publisher.publish(Agreed(root, tuple(left)))
            self.published_root, self.published_names = root, names
            return names

    def _check_usable(self) -> None:
        self._trouble.check()
        if self.published_root is not None:
            raise DiskError("everything was published already")

    def discard(self) -> None:
        """Remove the private directory, the journal and then its marks last, and close.  Raises
        :class:`~p2pxfer.errors.DiskError`.
        """
        with self._trouble.told(f"removing {shown(self.where)}"):
            self._files.close()
            remove_whole(_TREE, self._home)
            self._journal.remove()
            os.rmdir(self.name.encode(), dir_fd=self._destination)
        self.close()

    def close(self) -> None:
        """Let go of everything and keep what arrived for the next run."""
        self._files.close()
        self._closing.close()
