"""What one peer may have this machine remember of file lists, over all its transfers and paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed

from p2pxfer.core.session.transferwire import Accept, Listed, Offer, Page, Refuse
from p2pxfer.core.transfer.manifest import FILE, PAGE, Entry, Manifest
from p2pxfer.errors import Incomplete, LimitReached, Unreachable
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.transfer import arrivals as module
from p2pxfer.net.transfer.arrivals import Arrivals
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.landing import DiskThreads
from p2pxfer.net.transfer.listbudget import ListBudget
from p2pxfer.net.transfer.undecided import Undecided
from tests.net.reactors import until
from tests.net.transfer.incomingworld import NotingPath

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
        await until(lambda path=path: path.has(Accept) or path.has(Refuse))
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


def tell_pages(arrivals: Arrivals, path: Any, manifest: Manifest) -> None:
    for page in range(1, manifest.pages):
        told = Page(
            handle=1, page=page, digest=manifest.digest(page), data=manifest.page(page), more=page + 1 < manifest.pages
        )
        arrivals.message(path, told)


@pytest_twisted.ensureDeferred
async def test_the_list_of_a_transfer_that_is_over_counts_until_nobody_asks_for_it(
    tmp_path: Path, disk: DiskThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [listing(number) for number in range(3)]
    monkeypatch.setattr(module, "ListBudget", lambda: ListBudget(lists[0].size * 3 // 2))
    paths = PathSet(reactor.seconds, lambda event: None)
    made: list[IncomingTransfer] = []

    def begin(path: Any, number: bytes, budget: ListBudget) -> IncomingTransfer:
        transfer = IncomingTransfer(
            reactor, b"s" * 32, number, bytes(16), Folder(str(tmp_path)), paths, disk, lambda offer: succeed(True),
            lambda event: None, budget,
        )  # fmt: skip
        transfer.done.addErrback(lambda failure: failure.trap(Incomplete, LimitReached))
        made.append(transfer)
        return transfer

    undecided = Undecided(reactor, lambda: None, lambda since: False)
    arrivals = Arrivals(begin, lambda path: None, undecided)  # type: ignore[arg-type, return-value]  # no stream comes

    async def offer(number: int) -> Any:
        path: Any = NotingPath(number)
        paths.add(path)
        manifest = lists[number]
        size = manifest.total_bytes
        message = Offer(1, manifest.transfer_id, files=len(manifest.sizes), size=size, page=manifest.page(0), more=True)
        arrivals.offer(path, 0.0, message)
        await until(lambda: path.has(Accept))
        return path

    first = await offer(0)
    tell_pages(arrivals, first, lists[0])
    made[0].abandon()
    assert made[0].over
    second = await offer(1)
    with pytest.raises(LimitReached):
        tell_pages(arrivals, second, lists[1])
    for path in (first, second):
        arrivals.close_path(path, Unreachable("the connection ended"))
    third = await offer(2)
    tell_pages(arrivals, third, lists[2])
    for transfer in made:
        await Deferred.fromCoroutine(transfer.close())
