"""What one peer may have this machine remember of file lists, over all its transfers and paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed

from p2pxfer.core.session.wire import Accept, Listed, Offer, Page, Refuse
from p2pxfer.core.transfer.manifest import FILE, PAGE, Entry, Manifest
from p2pxfer.errors import LimitReached
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from tests.net.serverkit import until
from tests.net.transfer.test_incoming import NotingPath

reactor: Any = _reactor
PATHS = 64
PAGES = 4


def listing(number: int) -> Manifest:
    """A list of a few full pages, another one for each number."""
    return Manifest([Entry(f"{number:03}-{at:05}{'x' * 200}", FILE, 0) for at in range(140 * PAGES)])


def test_it_is_counted_over_all_that_take() -> None:
    budget = ListBudget(100)
    one, other = object(), object()
    budget.take(one, 60)
    budget.take(one, 70)
    with pytest.raises(LimitReached):
        budget.take(other, 31)
    budget.take(other, 30)
    budget.give_back(one)
    budget.take(other, 100)


@pytest.fixture
def disk() -> Iterator[DiskThreads]:
    made = DiskThreads(reactor)
    yield made
    made.stop()


@pytest_twisted.ensureDeferred
async def test_sixty_four_paths_of_one_peer_hold_no_more_than_one_list(tmp_path: Path, disk: DiskThreads) -> None:
    """Each offers another transfer: before it is accepted it holds a page, and then all share one limit."""
    lists = [listing(number) for number in range(PATHS)]
    most = sum(each.size for each in lists) // 4
    budget, paths = ListBudget(most), PathSet(reactor.seconds, lambda event: None)
    transfers: list[IncomingTransfer] = []
    ends: list[object] = []
    for number, manifest in enumerate(lists):
        transfer = IncomingTransfer(
            reactor, b"s" * 32, manifest.transfer_id, bytes(16), Folder(str(tmp_path)), paths, disk,
            lambda offer: succeed(True), lambda event: None, budget,
        )  # fmt: skip
        transfer.done.addErrback(lambda failure: ends.append(failure.value))
        path: Any = NotingPath(number)
        paths.add(path)
        transfers.append(transfer)
        offer = Offer(
            handle=1, transfer=manifest.transfer_id, files=9, size=0, page=manifest.page(0), more=True, counting=True
        )
        transfer.message(path, offer)
        assert transfer.manifest is not None
        assert transfer.manifest.size <= PAGE
        await until(lambda path=path: path.has(Accept) or path.has(Refuse))  # type: ignore[misc]  # bound in the loop
        for page in range(1, manifest.pages):
            if transfer.ended:
                break
            told = Page(
                handle=1, page=page, digest=manifest.digest(page), data=manifest.page(page),
                more=page + 1 < manifest.pages,
            )  # fmt: skip
            try:
                transfer.message(path, told)
            except LimitReached:
                break
            assert any(isinstance(sent, Listed) and sent.page == page for sent in path.sent)
    remembered = sum(each.manifest.size for each in transfers if each.manifest is not None and not each.ended)
    assert most // 2 < remembered <= most
    assert ends
    assert all(isinstance(error, LimitReached) for error in ends)
    for transfer in transfers:
        await Deferred.fromCoroutine(transfer.close())
