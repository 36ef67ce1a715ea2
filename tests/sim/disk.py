"""A receiver's disk that forgets what was not synced: chunks, the journal beside them, and what was published.

Pages of the list are in the journal, as in the product, each before the chunks of its files.

The steps are those of the product's staging: data, sync, journal, sync; PUBLISHING, rename, PUBLISHED.  The bytes of
the journal are the product's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from p2pxfer.core.transfer import journal
from p2pxfer.core.transfer.chunktable import ChunkAddress
from p2pxfer.core.transfer.journal import (
    Agreed,
    ChunkClaim,
    JournalState,
    Publication,
    pack_agreed,
    pack_chunks,
    pack_header,
    pack_published,
)
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.staging import replay
from p2pxfer.net.staging.journalfile import pack_listed
from tests.sim.world import World

SENDER = b"s" * 32


def standing(state: JournalState) -> list[ChunkClaim]:
    """The claims of a journal that were not withdrawn, nor replaced by later ones."""
    last = {(file, index): digest for file, index, digest in state.chunks()}
    return [(*address, digest) for address, digest in last.items() if digest is not None]


@dataclass
class Disk:
    """What is durable, and what is only written."""

    world: World
    safe: dict[ChunkAddress, bytes] = field(default_factory=dict)
    written: dict[ChunkAddress, bytes] = field(default_factory=dict)
    journal: bytes = b""
    unsynced: bytes = b""
    names: set[str] = field(default_factory=set)
    """What has its final name."""
    removed: set[int] = field(default_factory=set)
    """Files that were left out at some time, which the journal may still claim."""

    # -- what a process does -------------------------------------------------------------------------------------

    def open(self, manifest: Manifest, *, relisted: bool = False) -> JournalState:
        """Read the journal, add the pages that it knows to the manifest, and put a clean one in its place, in one step.

        What belongs to pages of another list goes.
        """
        state = journal.read_journal(self.journal + self.unsynced)
        if state is None or not state.pages or state.transfer != manifest.transfer_id:
            state = JournalState(SENDER, manifest.transfer_id, 0)
        common = replay.common_pages(state, manifest)
        begun = state.published_root is None and bool(self.names)
        if begun and (relisted or common < min(manifest.pages, len(state.pages))):
            self.discard()  # what has a name is the user's, and everything comes again under others
            state, common, begun = JournalState(SENDER, manifest.transfer_id, 0), 0, False
        if common == manifest.pages and not relisted and not manifest.complete:
            replay.take_up(state, manifest)
            common = manifest.pages
        files = manifest.files_before(common)
        for kept in (self.safe, self.written):
            for address in [address for address in kept if address[0] >= files]:
                del kept[address]
        if state.published_root is None and not begun:
            state.agreed = None
        assert state.agreed is not None or not self.names, "a name was given before it was said what is published"
        left = state.agreed.left if state.agreed is not None else ()
        claims = [claim for claim in standing(state) if claim[0] < files and claim[0] not in left]
        if not begun and state.published_root is None:
            claims = [claim for claim in claims if claim[0] not in self.removed or claim[:2] in self.safe]
        for file, index, digest in claims:
            held = self.safe.get((file, index))
            assert held is not None, f"the journal claims chunk {file, index}, which is not on the disk"
            assert blake3(held).digest() == digest, f"the journal claims another chunk {file, index}"
        body = memoryview(pack_chunks(claims))[journal.RECORD_OVERHEAD :]
        state._claims = [body] if claims else []
        if state.published_root is None:
            self.journal = pack_header(SENDER, manifest.transfer_id)
            for page in range(manifest.pages):
                self.journal += pack_listed(manifest, page)
            self.journal += pack_chunks(claims) if claims else b""
            self.journal += pack_agreed(state.agreed) if state.agreed is not None else b""
            self.unsynced = b""
        return state

    def write(self, address: ChunkAddress, payload: bytes) -> None:
        self.written[address] = payload

    def sync(self, addresses: list[ChunkAddress]) -> None:
        for address in addresses:
            self.safe[address] = self.written.pop(address, self.safe.get(address, b""))

    def append(self, record: bytes) -> None:
        self.unsynced += record

    def sync_journal(self) -> None:
        self.journal += self.unsynced
        self.unsynced = b""

    def claim(self, claims: list[ChunkClaim]) -> None:
        self.append(pack_chunks(claims))

    def discard(self) -> None:
        """The transfer is over: what was published is the user's, the rest goes."""
        self.safe.clear()
        self.written.clear()
        self.journal = self.unsynced = b""
        self.names.clear()

    def listed(self, manifest: Manifest, page: int) -> None:
        self.append(pack_listed(manifest, page))

    def remove(self, files: Sequence[int]) -> None:
        """These are left out."""
        self.removed.update(files)
        for kept in (self.safe, self.written):
            for address in [address for address in kept if address[0] in files]:
                del kept[address]

    def publishing(self, agreed: Agreed, names: list[str]) -> None:
        self.append(pack_agreed(agreed))
        self.append(journal.pack_publishing([Publication(name, name, 1, 1) for name in names]))

    def published(self, root: bytes, names: list[str]) -> None:
        assert self.names == set(names)
        self.append(pack_published(root, names))

    # -- what happens to it --------------------------------------------------------------------------------------

    def killed(self) -> None:
        """The process died in the middle of what it wrote; the system writes the rest."""
        self.safe.update(self.written)
        self.written.clear()
        self.journal += self.unsynced[: self.world.rng.randint(0, len(self.unsynced))]
        self.unsynced = b""

    def power_cut(self) -> None:
        """Of what was not synced anything may be there, whole or not; a torn journal may end in anything."""
        rng = self.world.rng
        for address, payload in self.written.items():
            match rng.randrange(3):
                case 0:
                    self.safe[address] = payload
                case 1:
                    self.safe[address] = payload[: len(payload) // 2] + bytes(len(payload) - len(payload) // 2)
        self.written.clear()
        # The length may have reached the disk without the content.
        left = bytearray(self.unsynced[: rng.choice([rng.randint(0, len(self.unsynced)), len(self.unsynced)])])
        if left and rng.random() < 0.7:
            at = rng.randrange(len(left))
            left[at:] = rng.choice([bytes(len(left) - at), rng.randbytes(len(left) - at)])
        self.journal += bytes(left)
        self.unsynced = b""
