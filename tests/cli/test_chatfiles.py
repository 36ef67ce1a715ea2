from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pxfer.cli import chatsending
from p2pxfer.cli.chatfiles import ChatFiles
from p2pxfer.cli.watching import GONE_S
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import Declined, Incomplete, P2pxferError, PeerFailed, PeerStopped, Unreachable
from p2pxfer.net.private.home import Contact, Home
from p2pxfer.net.queue.sendjobs import SendJob, SendJobs
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.patience import LOST
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.places import Received
from p2pxfer.status import Accepted, Note, Offer, Resumed
from tests.guard import LostErrors
from tests.net.machines import machine_at
from tests.net.reactors import Threads

KEY = bytes(range(32))


class Transfer:
    """What a chat sees of a transfer that comes."""

    def __init__(self, name: str) -> None:
        self.offer = Offer(files=1, bytes=1, names=(name,))
        self.done: Deferred[Any] = Deferred()
        self.attached = 1

    def abandon(self) -> None:
        self.done.errback(Failure(Incomplete("the sender has not come back")))


def test_an_answer_is_for_the_one_offer_that_is_shown(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    told: list[Any] = []
    clock: Any = Clock()
    files = ChatFiles(
        machine_at(home, clock), KnownPeer(KEY, "bob", "contact"), destination=str(tmp_path), acceptance="ask",
        tell=lambda event, _: told.append(event), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    answers: dict[str, bool] = {}
    offered = {name: Transfer(name) for name in ("first", "second", "gone", "last")}
    nothing: Any = None
    for name, transfer in offered.items():
        moving: Any = transfer
        files.transfer_started("bob", moving, nothing)
        decision: Any = files.decide("bob", transfer.offer)
        decision.addCallback(lambda answer, name=name: answers.__setitem__(name, answer))
    shown = [event.message for event in told]
    assert len(shown) == 1 and "first" in shown[0]
    assert files.answer(True)
    assert answers == {"first": True}
    assert "second" in told[-1].message
    # The transfer whose offer is not shown yet ends, and then the one whose offer is.
    offered["gone"].done.errback(Failure(Incomplete("the peer is gone")))
    offered["second"].done.errback(Failure(Incomplete("the peer is gone")))
    assert "last" in told[-1].message
    assert files.answer(False)
    assert answers["last"] is False
    assert not files.answer(True)


def test_a_question_goes_away_with_the_sender_that_was_stopped(tmp_path: Path) -> None:
    told: list[Any] = []
    home = Home(tmp_path / "home")
    clock: Any = Clock()
    home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    files = ChatFiles(
        machine_at(home, clock), KnownPeer(KEY, "bob", "contact"), destination=str(tmp_path), acceptance="ask",
        tell=lambda event, _: told.append(event), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    answers: list[bool] = []
    path: Any = None
    transfers = [Transfer("taken"), Transfer("asked")]
    for transfer in transfers:
        moving: Any = transfer
        files.transfer_started("bob", moving, path)
        decision: Any = files.decide("bob", transfer.offer)
        decision.addCallback(answers.append)
    assert files.answer(True)
    del told[:]
    files.path_ends(path, "bob", PeerStopped("the chat has ended"), None)
    files.path_gone(path)
    assert (told, answers) == ([], [True])  # another path still carries both
    for transfer in transfers:
        transfer.attached = 0
    files.path_gone(path)
    assert answers == [True, False] and not files.asking
    assert [event.message for event in told] == [
        "not received: bob was stopped there before anything was taken of asked"
    ]


def test_a_lost_connection_is_said_by_the_chat_and_not_once_more_by_its_file(tmp_path: Path) -> None:
    told: list[Any] = []
    home = Home(tmp_path / "home")
    clock: Any = Clock()
    files = ChatFiles(
        machine_at(home, clock), KnownPeer(KEY, "bob", "contact"), destination=str(tmp_path), acceptance="ask",
        tell=lambda event, _: told.append(event), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    files._tell_some(Note(LOST))
    files._tell_some(Note("bob was stopped there; waiting for it to come back"))
    assert told == [Note("bob was stopped there; waiting for it to come back")]


@pytest.mark.parametrize("name", ["bob", None])
def test_with_contacts_that_cannot_be_read_nothing_is_taken(tmp_path: Path, name: str | None) -> None:
    """Nor from one that is no contact: it may be one meanwhile that is denied files."""
    told: list[Any] = []
    home = Home(tmp_path / "home")
    clock: Any = Clock()
    files = ChatFiles(
        machine_at(home, clock), KnownPeer(KEY, name, "contact" if name else "id"), destination=str(tmp_path),
        acceptance="contacts", tell=lambda event, _: told.append(event), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    home.add_contact(Contact("bob", PeerId(KEY), "code", "2026-01-01"))
    assert files.known(KEY)
    (home.path / "contacts.json").write_text("{")
    answers: list[bool] = []
    for _ in range(2):
        assert files.known(KEY) is None
        decision: Any = files.decide("bob", Offer(files=1, bytes=1, names=("a",)))
        decision.addCallback(answers.append)
    assert answers == [False, False]
    (note,) = told
    assert note.message.startswith("nobody is let in: ")


def test_what_was_saved_is_said_with_whom_it_came_from_and_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    told: list[str | None] = []
    clock: Any = Clock()
    files = ChatFiles(
        machine_at(Home(tmp_path / "home"), clock), KnownPeer(KEY, "bob", "contact"), destination="there",
        acceptance="contacts", tell=lambda event, text: told.append(text), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    transfer: Any = Transfer("a file.txt")
    transfer.bytes_by_path = {"direct": 1}
    nothing: Any = None
    files.transfer_started("bob", transfer, nothing)
    transfer.done.callback(Received(b"", ("a file.txt",), 1))
    assert told[0] is not None
    assert told[0].splitlines()[1:] == [f"saved a file.txt from bob in {tmp_path / 'there'}"]


def test_the_hashes_of_earlier_runs_are_read_and_written_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a file is opened to be sent, and let go of when that has failed, the lines of the chat go on."""
    here = threading.get_ident()
    users: list[tuple[str, bool]] = []

    def note(name: str) -> None:
        real = getattr(HashCache, name)

        def noted(self: HashCache, *words: Any) -> None:
            users.append((name, threading.get_ident() == here))
            real(self, *words)

        monkeypatch.setattr(HashCache, name, noted)

    note("__init__")
    note("close")

    class Job:
        def __init__(self, *_words: Any, **_options: Any) -> None:
            self.bytes_by_path: dict[str, int] = {}
            self.path_kind = "none"

        async def run(self) -> bytes:
            raise Unreachable("nobody is there")

    monkeypatch.setattr(chatsending, "OutgoingJob", Job)
    home = Home(tmp_path / "home")
    told: list[Any] = []
    threads = Threads()
    reactor: Any = threads
    client: Any = object()
    files = ChatFiles(
        machine_at(home, reactor), KnownPeer(KEY, "bob", "contact"), destination=str(tmp_path), acceptance="ask",
        tell=lambda event, _: told.append(event), on_idle=lambda: None, here=lambda: True,
    )  # fmt: skip
    files._sending.start(client)
    (tmp_path / "note").write_text("to be sent")
    files.send(str(tmp_path / "note"))
    while not any("not sent: nobody is there" in event.message for event in told):
        threads.wait()
        threads.advance(0)
    assert users == [("__init__", False), ("close", False)]
    stopped = files._sending._disk.stop()
    while not stopped.called:
        threads.wait()


class Sending:
    """Files that are sent to bob, who is not there until :attr:`job` is told so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, here: bool) -> None:
        self.threads = Threads()
        self.told: list[str] = []
        self.jobs: list[Any] = []
        jobs = self.jobs

        class Job:
            def __init__(self, *_words: Any, tell: Any, **_options: Any) -> None:
                self.bytes_by_path: dict[str, int] = {}
                self.path_kind = "none"
                self.tell = tell
                self.outcome: Deferred[bytes] = Deferred()
                jobs.append(self)

            async def run(self) -> bytes:
                return await self.outcome

        monkeypatch.setattr(chatsending, "OutgoingJob", Job)
        reactor: Any = self.threads
        self.files = ChatFiles(
            machine_at(Home(folder / "home"), reactor), KnownPeer(KEY, "bob", "contact"), destination=str(folder),
            acceptance="ask", tell=lambda event, _: self.told.append(getattr(event, "message", "")),
            on_idle=lambda: None, here=lambda: here,
        )  # fmt: skip
        self._folder = folder
        client: Any = object()
        self.files._sending.start(client)

    def send(self, name: str) -> None:
        (self._folder / name).write_text("to be sent")
        self.files.send(str(self._folder / name))

    def until(self, condition: Any) -> None:
        for _ in range(1000):
            if condition():
                return
            self.threads.wait()
            self.threads.advance(0)
        raise AssertionError(self.told)

    def close(self) -> None:
        closing = Deferred.fromCoroutine(self.files._sending.close())
        self.until(lambda: closing.called)


def test_files_for_a_peer_that_is_not_there_are_said_to_wait_and_at_the_end_not_to_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = Sending(tmp_path, monkeypatch, here=False)
    sending.send("hello.txt")
    sending.send("mid.bin")
    sending.send("last")
    sending.until(lambda: sending.jobs)
    assert sending.told == [
        "mid.bin waits behind hello.txt",
        "last waits behind mid.bin",
        "bob is not here yet; hello.txt waits until bob is, as long as this chat runs",
    ]
    sending.close()
    assert sending.told[3:] == ["not sent: hello.txt, mid.bin, last; /send them again"]
    assert sending.files.idle


def test_a_file_that_waited_is_said_to_be_sent_when_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sending = Sending(tmp_path, monkeypatch, here=False)
    sending.send("hello.txt")
    sending.until(lambda: sending.jobs)
    sending.jobs[0].tell(Accepted())
    sending.jobs[0].tell(Accepted())
    assert sending.told[1:] == ["sending hello.txt (1 file, 10 B)"]
    sending.close()


def test_what_waits_behind_a_file_that_is_cut_is_named_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = Sending(tmp_path, monkeypatch, here=True)
    sending.send("huge.bin")
    sending.send("hello.txt")
    sending.until(lambda: sending.jobs)
    sending.jobs[0].tell(Accepted())
    sending.close()
    assert sending.told[:2] == ["hello.txt waits behind huge.bin", "sending huge.bin (1 file, 10 B)"]
    assert sending.told[2].startswith("0 B of 10 B of huge.bin are kept there")
    assert sending.told[3:] == ["not sent: hello.txt; /send it again"]


def test_a_second_send_says_what_the_peer_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sending = Sending(tmp_path, monkeypatch, here=True)
    sending.send("huge.bin")
    sending.until(lambda: sending.jobs)
    sending.jobs[0].tell(Accepted())
    sending.jobs[0].tell(Resumed(have_bytes=81 * 2**20))
    assert sending.told[1:] == ["going on: bob has 81.0 MiB already"]
    sending.close()


def record_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "record"]


def test_a_fault_in_the_middle_of_a_file_leaves_its_record_and_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost_errors: LostErrors
) -> None:
    """As any other end, it says what is kept and how that goes on."""
    sending = Sending(tmp_path, monkeypatch, here=True)
    before = record_threads()
    sending.send("huge.bin")
    sending.until(lambda: sending.jobs)
    sending.jobs[0].tell(Accepted())
    sending.until(lambda: len(record_threads()) > len(before))
    sending.jobs[0].outcome.errback(ZeroDivisionError("in the pump"))
    sending.until(lambda: sending.files.idle)
    assert len(lost_errors.flush(ZeroDivisionError)) == 1
    assert sending.told[1].startswith("0 B of 10 B of huge.bin are kept there; they go on when you send it again")
    assert sending.told[2:] == ["not sent: a fault inside the program"]
    assert len(SendJobs(tmp_path / "home").all()) == 1
    assert record_threads() == before
    sending.close()


@pytest.mark.parametrize("accepted", [True, False])
def test_a_file_that_the_peer_declines_is_no_job_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    """Nor is what an earlier chat left of it."""
    jobs = SendJobs(tmp_path / "home")
    jobs.save(SendJob([str(tmp_path / "huge.bin")], "bob"))
    jobs.close()
    sending = Sending(tmp_path, monkeypatch, here=True)
    sending.send("huge.bin")
    sending.until(lambda: sending.jobs)
    if accepted:
        sending.jobs[0].tell(Accepted())
    sending.jobs[0].outcome.errback(Declined("bob said no"))
    sending.until(lambda: sending.files.idle)
    assert sending.told == ["sending huge.bin (1 file, 10 B)", "not sent: bob said no"]
    assert jobs.all() == []
    sending.close()


class Coming(IncomingTransfer):
    """One that is taken, as a chat sees it."""

    have_bytes = 0
    attached = 1
    ended = False
    offer = Offer(files=1, bytes=2**20, names=("huge.bin",))

    def __init__(self) -> None:
        self.sender, self.number = KEY, KEY
        self.done = Deferred()


class Taking:
    """A chat that takes the files of alice."""

    def __init__(self, folder: Path) -> None:
        home = Home(folder / "home")
        home.add_contact(Contact("alice", PeerId(KEY), "code", "2026-01-01"))
        self.threads = Threads()
        self.told: list[str] = []
        self.files = ChatFiles(
            machine_at(home, self.threads), KnownPeer(KEY, "alice", "contact"), destination=str(folder),
            acceptance="contacts", tell=lambda event, _: self.told.append(getattr(event, "message", "")),
            on_idle=lambda: None, here=lambda: True,
        )  # fmt: skip
        self.path: Any = None

    def take(self, transfer: Coming) -> None:
        self.files.transfer_started("alice", transfer, self.path)
        self.files.decide("alice", transfer.offer)
        self.threads.advance(0)

    def lose(self, transfer: Coming, error: P2pxferError) -> None:
        transfer.attached = 0
        self.files.path_ends(self.path, "alice", error, transfer)
        self.files.path_gone(self.path)
        self.threads.advance(0)


def test_a_file_that_comes_is_said_when_it_begins_and_when_its_sender_leaves(tmp_path: Path) -> None:
    taking, coming = Taking(tmp_path), Coming()
    taking.take(coming)
    assert taking.told == ["huge.bin (1 file, 1.0 MiB) from alice comes"]
    coming.have_bytes = 2**19
    taking.lose(coming, PeerStopped("the chat has ended"))
    taking.files.path_gone(taking.path)
    taking.threads.advance(0)
    assert len(taking.told) == 2
    kept = "alice has left: 512.0 KiB of 1.0 MiB of huge.bin from alice are kept in"
    assert taking.told[1].startswith(kept) and "they go on when alice sends it again" in taking.told[1]
    coming.attached = 1
    taking.files._tell_some(Accepted())
    taking.files._tell_some(Accepted())
    assert taking.told[2:] == ["huge.bin (1 file, 1.0 MiB) from alice goes on: 512.0 KiB are here"]


def test_a_file_that_its_sender_cannot_go_on_with_is_said_with_the_reason_and_the_chat_goes_on(tmp_path: Path) -> None:
    taking, failing, other = Taking(tmp_path), Coming(), Coming()
    for transfer in (failing, other):
        taking.take(transfer)
    del taking.told[:]
    taking.lose(failing, PeerFailed("huge.bin changed while it was being sent"))
    assert len(taking.told) == 1
    assert taking.told[0].startswith("alice could not go on: huge.bin changed while it was being sent; 0 B of 1.0 MiB")
    assert taking.files._stopped.keys() == {failing}


def test_a_file_that_another_path_carries_on_is_not_said_to_be_cut(tmp_path: Path) -> None:
    taking, coming = Taking(tmp_path), Coming()
    taking.take(coming)
    taking.lose(coming, Unreachable("nothing came any more"))
    assert len(taking.told) == 1
    coming.attached = 1
    taking.threads.advance(GONE_S)
    assert len(taking.told) == 1
    taking.lose(coming, Unreachable("nothing came any more"))
    taking.threads.advance(GONE_S)
    kept = "0 B of 1.0 MiB of huge.bin are kept, and go on when alice is back or sends it again"
    assert taking.told[1:] == [f"no path to alice any more; {kept}"]
