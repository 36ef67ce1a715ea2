"""What the receiving side of an agent says and knows, without a network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.serveraddress import parse_server_line
from p2pxfer.core.transfer.manifest import FILE, Entry, Manifest
from p2pxfer.errors import Incomplete, P2pxferError, PeerFailed, PeerStopped, Refused, Unreachable
from p2pxfer.inventory import JobListed
from p2pxfer.net.agent import receiving
from p2pxfer.net.agent.folders import ContactFolders
from p2pxfer.net.agent.receiving import Receiving
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pathset import failed_why
from p2pxfer.net.staging.partials import Destination
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.staging.unagreed import agreed
from p2pxfer.net.transfer.places import Received
from p2pxfer.status import Offer
from p2pxfer.status import Path as PathEvent
from tests.net.reactors import until
from tests.net.serverkit import reactor

KEY = bytes(range(32))
HOSTILE = "a\x1b[2Jb\nc"
ESCAPED = r"a\x1b[2Jb\x0ac"


class Side:
    """A receiving side with one contact, alice."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.add_contact(Contact("alice", PeerId(KEY), "code", "2026-11-21"))
        self.told: list[str] = []
        machine = Machine(reactor, self.home, self.home.identity(), parse_server_line("127.0.0.1:1"), "bob")
        folders = ContactFolders(self.home, folder / "inbox", {}, Destination("", "bob"))
        self.receiving = Receiving(machine, folders, 0, self.told.append)

    def begins(self, offer: Offer) -> Any:
        transfer: Any = SimpleNamespace(
            sender=KEY, number=b"n" * 32, offer=offer, have_bytes=5, bytes_by_path={"punched": 4096}, done=Deferred()
        )
        paths: Any = SimpleNamespace(ordered=lambda: [SimpleNamespace(peer_key=KEY)])
        hashable = type("Transfer", (), transfer.__dict__)()
        self.receiving.transfer_started("alice", hashable, paths)
        return hashable


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path)


def test_contacts_who_may_are_known_as_they_are_now(side: Side) -> None:
    known = side.receiving.known(KEY)
    assert known is not None
    assert (known.name, known.files) == ("alice", True)
    side.home.set_rights("alice", [Right.FILES], allowed=False)
    known = side.receiving.known(KEY)
    assert known is not None
    assert not known.files
    side.home.remove_contact("alice")
    assert side.receiving.known(KEY) is None
    (side.home.path / "contacts.json").write_text("{")
    assert side.receiving.known(KEY) is None
    assert side.told[-1].startswith("nobody is let in: ")
    with pytest.raises(Refused):
        side.receiving.paired(KEY, "alice", tuple)


def test_nothing_that_a_peer_says_reaches_the_log_as_it_is(side: Side) -> None:
    offer = Offer(files=1, bytes=10, names=(HOSTILE,))
    transfer = side.begins(offer)
    answers: list[bool] = []
    side.receiving.decide(HOSTILE, offer).addCallback(answers.append)  # type: ignore[attr-defined]  # a Deferred
    assert answers == [True]
    transfer.done.callback(Received(b"r" * 32, (HOSTILE, *"bcdefgh"), 10, (HOSTILE,)))
    other = side.begins(offer)
    other.done.errback(Incomplete(HOSTILE))
    assert all(line.isprintable() for line in side.told), side.told
    assert side.told[0] == f"{ESCAPED} sends {ESCAPED} (1 file, 10 B)"
    assert side.told[1].startswith(f"received {ESCAPED}, b, c, d, e and 3 more from alice (10 B in ")
    assert side.told[1].endswith(f"; punched 4.0 KiB); left out by the sender: {ESCAPED}")
    assert side.told[2] == f"from alice: {ESCAPED}"
    assert side.receiving.under_way() == []
    assert side.receiving.received == 1


def test_what_is_under_way_is_listed_as_jobs_list_it(side: Side) -> None:
    """A stream has no number; that of a transfer is looked at in `tests/e2e/test_agent.py`."""
    side.receiving._place(KEY).check_stream("name")
    transfer = side.begins(Offer(files=1, bytes=10, names=tuple("abcdefg")))
    (job,) = side.receiving.under_way()
    where = str(side.home.path.parent / "inbox" / "alice")
    assert job == JobListed("", "receive", "alice", tuple("abcde"), 5, 10, where, job.changed, "running")
    transfer.offer = None
    (job,) = side.receiving.under_way()
    assert (job.names, job.total) == ((), 0)
    transfer.done.callback(Received(b"r" * 32, (), 0))


@pytest_twisted.ensureDeferred
async def test_what_an_earlier_run_kept_of_what_is_here_now_is_said_to_be_superseded(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "IncomingTransfer", object)
    folder = side.home.path.parent / "inbox" / "alice"
    side.receiving._place(KEY).check_stream("name")
    for sender in (KEY, b"t" * 32):
        kept = Staging.open(str(folder), sender, Manifest([Entry("a", FILE, 9)]))
        agreed(kept.where)
        kept.close()
    transfer = side.begins(Offer(files=1, bytes=10, names=("a",)))
    transfer.done.callback(Received(b"r" * 32, ("a",), 10))
    await until(lambda: len(side.told) > 1)
    assert side.told[1].startswith("0 B are kept of an earlier transfer of the same name, a: p2pxfer jobs cancel ")
    await side.receiving.stop()
    assert len(side.told) == 2


def down(side: Side, error: P2pxferError, key: bytes = KEY) -> None:
    """A path of alice, or of whoever has this key, ends for this reason."""
    path: Any = SimpleNamespace(peer_key=key)
    side.receiving.path_ends(path, "alice", error, None)
    side.receiving._event(PathEvent("relay", "down", "", "", None, 1.0, error.message))


def test_a_sender_that_could_not_go_on_is_logged_once_with_its_reason(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "IncomingTransfer", object)
    transfer: Any = side.begins(Offer(files=1, bytes=10, names=("a",)))
    type(transfer).tally = SimpleNamespace(missed=lambda: None)
    path: Any = SimpleNamespace(peer_key=KEY)
    error = PeerFailed("a changed while it was being sent")
    for _ in range(2):  # paths, of which the second one may end late
        side.receiving.path_ends(path, "alice", error, transfer)
        side.receiving._event(PathEvent("relay", "down", "", "", None, 1.0, failed_why(error)))
    kept = "5 B are kept (a), and go on when it sends the same again"
    assert side.told == [f"alice could not go on: a changed while it was being sent; {kept}"]


def test_a_sender_that_was_stopped_is_logged_once_with_what_is_kept(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "IncomingTransfer", object)
    missed: list[object] = []
    path: Any = SimpleNamespace(peer_key=KEY)
    transfer: Any = side.begins(Offer(files=1, bytes=10, names=("a",)))
    type(transfer).tally = SimpleNamespace(missed=lambda: missed.append(transfer))
    for _ in range(2):
        side.receiving.path_ends(path, "alice", PeerStopped("stopped"), transfer)
    side.begins(Offer(files=1, bytes=10, names=("b",)))  # another program of hers, which goes on
    said = "alice was stopped there; 5 B are kept (a), and go on when it sends the same again"
    assert side.told == [said]
    side.receiving._event(PathEvent("relay", "up", "", "", None, 1.0, "greeted"))
    side.receiving.path_ends(path, "alice", PeerStopped("stopped"), transfer)
    assert side.told == [said] * 2
    assert missed == [transfer] * 2
    transfer.done.errback(Incomplete("it did not come back"))


def test_a_refusal_is_logged_as_that_and_a_loss_as_a_loss(side: Side) -> None:
    down(side, Unreachable("reset"))
    assert side.told == ["path lost: relay (reset)"]
    side.home.set_rights("alice", [Right.FILES], allowed=False)
    down(side, Refused("bob takes no files from you"))
    assert side.told[1:] == ["alice offered files and was refused: p2pxfer contacts allow alice files lets it"]


def test_that_one_path_was_told_of_already_hides_no_other_one_with_the_same_reason(side: Side) -> None:
    side.home.set_rights("alice", [Right.FILES], allowed=False)
    error = Refused("bob takes no files from you")
    down(side, error)
    down(side, error, key=b"s" * 32)
    assert side.told[1:] == ["path lost: relay (bob takes no files from you)"]


def test_an_explained_path_of_which_nothing_is_told_hides_no_other_one(side: Side) -> None:
    """It had made room for another one, and was told of as gone then."""
    side.home.set_rights("alice", [Right.FILES], allowed=False)
    error = Refused("bob takes no files from you")
    path: Any = SimpleNamespace(peer_key=KEY)
    side.receiving.path_ends(path, "alice", error, None)
    down(side, error, key=b"s" * 32)
    assert side.told[1:] == ["path lost: relay (bob takes no files from you)"]
