"""What an earlier run left of a transfer: the pages of its list, and the chunks that its journal claims.

Laws:

- The data is not read again, so going on costs the same whatever the size: a claim was journalled only after its bytes
  were verified and synced, into a directory that nobody else may enter.  What is checked is that the file is there and
  reaches as far as the claim: one look at each file that is claimed, below directories that are opened once.
- Pages that are not those of the list of now are dropped, with all that lies in the tree and is on no other page.
- Where names were published before the list became another one, nothing is gone on with: what is under those names is
  the user's, and the new list gets names of its own.
- What was agreed counts from the first name on that was published: before that the sender may agree to something else.
  Of what it leaves out nothing is here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import closing

from p2pxfer.core.transfer.chunktable import ChunkTable
from p2pxfer.core.transfer.geometry import chunk_span
from p2pxfer.core.transfer.journal import JournalState
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.errors import ChunkRefused, LimitReached, ManifestRefused
from p2pxfer.net.parents import LastParent
from p2pxfer.net.staging.publishing import Publisher
from p2pxfer.net.staging.strays import remove_strays


def go_on(
    state: JournalState, manifest: Manifest, table: ChunkTable, tree: int, publisher: Publisher, *, relisted: bool
) -> bool:
    """Go on where the journal says that the run before was; see :meth:`~p2pxfer.net.staging.staging.Staging.open` for
    ``relisted``.

    ``False`` if that is not to be: some names of another list were published. Raises as :func:`prove`.
    """
    common = common_pages(state, manifest)
    if common == manifest.pages and not relisted and not manifest.complete:
        take_up(state, manifest)
        common = manifest.pages
        table.grow()
    if state.published_root is None:
        publisher.settle(state.publishing)
        if publisher.begun and (relisted or common < len(state.pages)):
            return False
        remove_strays(manifest, tree)
    believe(state, common, manifest, table)
    if state.published_root is None:
        prove(manifest, tree, publisher, table)
        if not publisher.begun:
            state.agreed = None
    if state.agreed is not None:
        publisher.bind(state.agreed)
        forget(state.agreed.left, table)
    return True


def forget(files: Sequence[int], table: ChunkTable) -> None:
    """Leave nothing of these files in ``table``."""
    for span in table.chunks_in([file for file in files if file < table.files]):
        for start, stop in list(table.known.overlap(*span)):
            for number in range(start, stop):
                table.forget(number)


def common_pages(state: JournalState, manifest: Manifest) -> int:
    """How many pages the two lists begin with in common."""
    for number in range(manifest.pages):
        if number >= len(state.pages) or state.pages[number] != manifest.page(number):
            return number
    return manifest.pages


def take_up(state: JournalState, manifest: Manifest) -> None:
    """Add the pages that the journal knows to ``manifest``, with which its list begins, as far as they make sense.

    Whether the list ends with pages that are there already is for the sender of now to say.
    """
    added = state.pages[manifest.pages :]
    try:
        for page in added:
            manifest.add(page, more=True)
    except (ManifestRefused, LimitReached):
        manifest.cut(manifest.pages)
        return
    manifest.complete = bool(added) and not state.more


def believe(state: JournalState, pages: int, manifest: Manifest, table: ChunkTable) -> None:
    """Put into ``table`` the journal's claims about files of the first ``pages`` pages."""
    files = manifest.files_before(pages)
    for file, index, digest in state.chunks():
        if file < files:
            try:
                number = table.number((file, index))
            except ChunkRefused:
                continue  # of no chunk of this transfer
            if digest is None:
                table.forget(number)
            else:
                table.set_hash(number, digest)


def prove(manifest: Manifest, tree: int, publisher: Publisher, proved: ChunkTable) -> None:
    """Leave in ``proved`` what ``tree`` can bear out, and what was published already: that now belongs to the user.

    Raises ``OSError``.
    """
    with closing(LastParent()) as parents:
        for start, stop in list(proved.known):
            first, last = proved.address(start)[0], proved.address(stop - 1)[0]
            for file, entry in enumerate(manifest.run_of_files(first, last + 1), first):
                if entry.size and not publisher.is_published(entry.path):
                    _keep_proved(parents.stat(tree, entry.path), file, entry.size, proved)


def _keep_proved(status: os.stat_result | None, file: int, size: int, proved: ChunkTable) -> None:
    length = status.st_size if status is not None and stat.S_ISREG(status.st_mode) else 0
    if length >= size:
        return
    first, stop = proved.file_range(file)
    for number in range(first, stop):
        if sum(chunk_span(size, number - first)) > length:
            proved.forget(number)
