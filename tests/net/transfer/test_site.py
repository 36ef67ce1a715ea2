"""Where a transfer lands: what may block does so in no reactor."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.errors import Refused
from p2pxfer.net.agent.folders import ContactFolders
from p2pxfer.net.private.home import Home
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.partials import Destination
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
