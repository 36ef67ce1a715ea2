"""Where a transfer lands: what may block does so in no reactor."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import PathRefused, Refused
from p2pxfer.net.agent.folders import ContactFolders
from p2pxfer.net.private.home import Home
from p2pxfer.net.staging.partials import Destination
from p2pxfer.net.transfer import folder
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.site import Site
from tests.net.serverkit import reactor

KEY = bytes(range(32))


@pytest_twisted.ensureDeferred
async def test_the_folder_of_a_contact_is_looked_for_in_a_thread(tmp_path: Path) -> None:
    """It reads the contacts, and every folder of the inbox for a contact that has none of its name."""
    threads: list[object] = []

    class Watched(ContactFolders):
        def folder(self, key: bytes) -> Path:
            threads.append(threading.current_thread())
            return super().folder(key)

    folders = Watched(Home(tmp_path / "home"), tmp_path / "inbox", {}, Destination("", "bob"))
    disk = DiskThreads(reactor)
    held: Any = threads.append
    site = Site(reactor, disk, folders.place(KEY), KEY, ListBudget(), held, held)
    with pytest.raises(Refused, match="no files are taken"):
        await site.open(Manifest(), Announced(0, 0, 0, counting=False))
    disk.stop()
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


@pytest_twisted.ensureDeferred
async def test_pages_behind_the_first_one_are_judged_without_a_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are hundreds, and they come in the reactor's thread."""
    whole = Manifest([Entry(f"a{number:04d}-{'x' * 50}", FILE) for number in range(1500)] + [Entry("bin", FILE)])
    lookers: list[object] = []

    def look(directory: str) -> bool:
        lookers.append(threading.current_thread())
        return True

    monkeypatch.setattr(folder, "is_home", look)
    disk = DiskThreads(reactor)
    nothing: Any = lookers.append
    site = Site(reactor, disk, Folder(str(tmp_path)), KEY, ListBudget(), nothing, nothing)
    listed = Manifest()
    listed.add(whole.page(0), more=True)
    await site.open(listed, Announced(0, 0, 0, counting=False))
    assert len(lookers) == 1
    for page in range(1, whole.pages - 1):
        listed.add(whole.page(page), more=True)
        site.listed(listed, page)
    listed.add(whole.page(whole.pages - 1), more=False)
    with pytest.raises(PathRefused, match="'bin' is not created in a home directory"):
        site.listed(listed, whole.pages - 1)
    await site.close(discard=True)
    disk.stop()
    assert whole.pages > 2
    assert threading.current_thread() not in lookers
    assert len(lookers) == 1
