"""Lists of several pages, and runs that receive what is on them."""

from __future__ import annotations

from pathlib import Path

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.net.staging.staging import Staging
from tests.net.disk_tools import NOW, SENDER, Content, put, tree

COUNT = 1100
"""Files with names so long that their list takes more than one page."""


def named(number: int) -> str:
    return f"d/{number:05d}-{'x' * 50}"


def content(last: bytes, *more: str, modes: dict[str, int] | None = None) -> Content:
    """Two tops; the last file of the first, on the last page, holds ``last``."""
    files = dict.fromkeys(map(named, range(COUNT)), b"old")
    files[named(COUNT - 1)] = last
    return Content({**files, "e": b"e", **dict.fromkeys(more, b"more")}, modes=modes)


def first_page(manifest: Manifest, pages: int = 1) -> Manifest:
    known = Manifest()
    for number in range(pages):
        known.add(manifest.page(number), more=True)
    return known


def received_whole(dest: Path, new: Content) -> dict[str, bytes | None]:
    """The next run receives ``new`` page by page; what it publishes."""
    manifest = first_page(new.manifest)
    staging = Staging.open(str(dest), SENDER, manifest)
    known = manifest.pages
    for number in range(known, new.manifest.pages):
        manifest.add(new.manifest.page(number), more=number + 1 < new.manifest.pages)
    missing = [address for address in new.addresses() if address not in staging.have]
    put(staging, new, missing)
    staging.sync(map(new.claim, missing), range(known, new.manifest.pages))
    staging.finish(new.root, NOW)
    staging.discard()
    return tree(dest)


LATER = b"E" * 70_000


def shut_file(data: bytes, mode: int) -> Content:
    """Files on several pages, and one more with that mode."""
    return Content({**dict.fromkeys(map(named, range(COUNT)), b"old"), "e": data}, modes={"e": mode})
