"""What an inbox makes of paths that come too late or bring nothing, and of whom it does not know."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.core.codec import Message
from p2pxfer.core.contact.codebook import CodeBook
from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.pairing import SID_BYTES, PairFrame, Pairing, Party, Setting
from p2pxfer.core.messages import Introduction, NatSummary
from p2pxfer.core.session.channelwire import Attach, ChannelMessage, Compare, Open, Reset
from p2pxfer.core.session.transferwire import Offer
from p2pxfer.core.session.wire import Bye, Pair1, PairConfirm, Problem
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import ConfigError, P2pxferError, PeerStopped, ProtocolBreach, Refused, Unreachable, WrongCode
from p2pxfer.net.connection.liveness import PATH, PacketsLost
from p2pxfer.net.connection.tls import Vanished
from p2pxfer.net.private.home import Home
from p2pxfer.net.session import bothsame
from p2pxfer.net.session.bothsame import COMPARE_S, BothSame
from p2pxfer.net.session.firstcontact import PAIRING_S
from p2pxfer.net.session.path import CLOSE_S
from p2pxfer.net.session.patience import STOPPED_S
from p2pxfer.net.transfer import declining
from p2pxfer.net.transfer import inbox as module
from p2pxfer.net.transfer.admittance import Acceptance
from p2pxfer.net.transfer.folder import Folder
from p2pxfer.net.transfer.idlers import MAX_OF_CONTACT, MAX_OF_STRANGER, MAX_OF_STRANGERS, QUIET_S
from p2pxfer.net.transfer.inbox import MAX_MEETINGS, Inbox
from p2pxfer.net.transfer.inboxowner import InboxOwner, Known
from p2pxfer.net.transfer.undecided import GONE_S
from p2pxfer.status import Event, Peer
from tests.moments import for_now
from tests.net.machines import machine_at
from tests.net.reactors import Threads

KEY = bytes(32)
NUMBER = bytes([1]) * 32
OFFER = Offer(handle=1, transfer=NUMBER, files=1, size=15, page=b"page")


class FakePath:
    """A path of the one peer."""

    peer_name = "alice"
    peer_key = KEY
    rtt = None
    began = 0.0
    quiet_for = 0.0

    def __init__(self, number: int, kind: str) -> None:
        self.facts = SimpleNamespace(number=number, kind=kind, local="", remote="", beside=0)
        self.closed = False
        self.refused: P2pxferError | None = None
        self.said: list[Message] = []

    def send(self, message: Message) -> None:
        self.said.append(message)

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        return bytes(length)

    def refuse(self, error: P2pxferError) -> None:
        self.refused = error

    def open_session(self) -> None:
        """Nothing to allow."""

    def close(self) -> None:
        self.closed = True


class FakeTransfer:
    """A transfer that is over as soon as it is confirmed."""

    number = NUMBER
    manifest = None

    def __init__(self, reactor: Clock) -> None:
        self._reactor = reactor
        self.confirmed: float | None = None
        self.published = True
        self.abandoned = False
        self.heard: list[object] = []

    @property
    def over(self) -> bool:
        return self.confirmed is not None

    def message(self, path: object, message: object) -> None:
        self.heard.append(message)

    def confirm(self) -> None:
        if self.published:
            self.confirmed = self._reactor.seconds()

    def close_path(self, path: object) -> None:
        """Nothing is missed."""

    def abandon(self) -> None:
        self.abandoned = True


class World:
    """An inbox whose transfers are fakes, and one meeting with the peer."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Threads()
        owner: Any = SimpleNamespace(
            known=lambda key: Known("alice", "contact"),
            path_gone=lambda path: None,
            compares=False,
            unread="",
            path_ends=lambda path, peer, error, brought: None,
            code_tried=lambda path: None,
        )
        me = machine_at(Home(tmp_path / "home"), self.clock, "bob")
        self.inbox = Inbox(me, lambda _: Folder(str(tmp_path)), "contacts", CodeBook(), owner, lambda event: None)
        self.begun: list[FakeTransfer] = []
        monkeypatch.setattr(self.inbox, "_begin", self._begin)
        self.meeting: Any = SimpleNamespace(started=0.0, party=SimpleNamespace(peer_key=KEY))
        self.inbox._session(KEY).known = Known("alice", "contact")
        self.clock.advance(1.0)

    def _begin(self, session: Any, path: object, number: bytes, budget: object) -> FakeTransfer:
        transfer = FakeTransfer(self.clock)
        self.begun.append(transfer)
        return transfer

    def offer(self, path: Any) -> None:
        self.inbox.path_up(self.meeting, path)
        self.inbox.path_message(path, OFFER)

    def end(self, path: Any) -> None:
        self.inbox.path_message(path, Bye())
        self.inbox.path_down(self.meeting, path, Unreachable("closed"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_path_that_comes_when_all_is_done_begins_nothing(world: World) -> None:
    """The relay carried a small file and is closed when the direct path of the same meeting offers it again."""
    relay, direct = FakePath(1, "relay"), FakePath(2, "punched")
    world.offer(relay)
    world.end(relay)
    world.clock.advance(0.1)
    world.offer(direct)
    (transfer,) = world.begun
    assert transfer.heard == [OFFER, OFFER]
    world.end(direct)
    assert not transfer.abandoned


def test_the_same_files_in_a_later_meeting_are_another_transfer(world: World) -> None:
    first, second = FakePath(1, "relay"), FakePath(2, "relay")
    world.offer(first)
    world.end(first)
    world.clock.advance(5.0)
    world.meeting.started = world.clock.seconds()
    world.offer(second)
    assert len(world.begun) == 2


def test_a_farewell_before_the_end_leaves_no_lock_behind(world: World) -> None:
    path = FakePath(1, "relay")
    world.offer(path)
    world.begun[0].published = False
    world.end(path)
    assert world.begun[0].abandoned


@pytest.mark.parametrize("number", [NUMBER, bytes([2]) * 32], ids=["the same", "another"])
def test_a_second_offer_on_one_path_begins_nothing(world: World, number: bytes) -> None:
    """Else one path could begin any number of transfers and leave each with half a manifest in memory."""
    path: Any = FakePath(1, "relay")
    world.offer(path)
    with pytest.raises(ProtocolBreach):
        world.inbox.path_message(path, structs.replace(OFFER, transfer=number))
    (transfer,) = world.begun
    assert transfer.heard == [OFFER]


# -- who brings nothing --------------------------------------------------------------------------------------------


class FakeMeeting:
    """A meeting of which the test says what is up."""

    made: list[FakeMeeting]

    def __init__(self, reactor: Clock, introduction: Any, party: Any, client: object, owner: object) -> None:
        self.started = reactor.seconds()
        self.party, self.introduction, self.owner = party, introduction, owner
        self.paths: list[FakePath] = []
        self.closed = self.had_path = False
        self.made.append(self)

    def start(self) -> None:
        """Nothing is dialled."""

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """A connection to the server that counts how often it was left for another one."""

    def __init__(self) -> None:
        self.left = 0
        self.registered = object()

    def introduced(self, introduction: object) -> None:
        """No router is asked."""

    def reconnect(self) -> None:
        self.left += 1


CONTACT = bytes([9]) * 32


@pytest.fixture
def open_house(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Everybody may send, only one key is a contact's, and meetings are fakes."""
    contacts = {CONTACT: Known("dora", "contact")}
    owner: Any = world.inbox._owner
    owner.known = contacts.get
    world.inbox._admittance._acceptance = "all"
    world.inbox._client = world.client = FakeClient()  # type: ignore[assignment,attr-defined]  # all that is used
    world.inbox._session(KEY).known = Known("", "id")
    FakeMeeting.made = []
    monkeypatch.setattr(module, "Meeting", FakeMeeting)
    return world


def meet(world: World, key: bytes, token: bytes | None = b"t" * 32) -> FakeMeeting:
    world.clock.advance(0.01)
    introduction: Any = SimpleNamespace(peer_id=key, session=bytes(16), my_nat=NatSummary(), relay_token=token)
    before = len(FakeMeeting.made)
    world.inbox.introduced(introduction)
    assert len(FakeMeeting.made) == before + 1, "the introduction was not taken up"
    return FakeMeeting.made[-1]


def standing() -> list[FakeMeeting]:
    return [meeting for meeting in FakeMeeting.made if not meeting.closed]


def path_of(world: World, meeting: Any, number: int, kind: str = "relay") -> Any:
    path: Any = FakePath(number, kind)
    path.peer_key = meeting.party.peer_key
    meeting.paths.append(path)
    meeting.had_path = True
    world.inbox.path_up(meeting, path)
    return path


def test_a_stranger_who_proves_no_code_does_not_keep_the_path(world: World) -> None:
    world.inbox._session(KEY).known = None
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.clock.advance(PAIRING_S - 1)
    assert for_now(path.refused) is None
    world.clock.advance(1)
    assert isinstance(path.refused, Unreachable)
    world.inbox.path_down(world.meeting, path, path.refused)
    calls: Any = world.clock.getDelayedCalls()
    assert not [call for call in calls if call.func == world.inbox._quiet._look]


@pytest.mark.parametrize("wrong", [True, False])
def test_a_path_that_a_wrong_code_ends_is_not_said_to_be_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(world.inbox, "_tell", told.append)
    world.inbox._sessions.clear()
    world.inbox._session(KEY).known = None
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.inbox.path_down(world.meeting, path, WrongCode("wrong code") if wrong else Unreachable("gone"))
    assert (describe(told[-1]) == "") is wrong
    assert told[-1].state == "down"


def test_a_path_that_was_lost_in_a_pairing_is_not_refused_as_well(world: World) -> None:
    world.inbox._session(KEY).known = None
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.inbox.path_down(world.meeting, path, Unreachable("gone"))
    assert path.refused is None


def test_a_path_over_which_nothing_is_offered_ends(world: World) -> None:
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.clock.advance(QUIET_S - 1)
    assert path.refused is None
    world.clock.advance(1)
    assert isinstance(path.refused, Unreachable)


def test_a_path_over_which_nothing_was_offered_is_not_said_to_be_lost(world: World) -> None:
    told: list[str] = []
    world.inbox._session(KEY).paths._tell = lambda event: told.append(describe(event))
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.clock.advance(QUIET_S)
    assert path.refused is not None
    world.inbox.path_down(world.meeting, path, path.refused)
    assert not any("lost" in text for text in told)


def test_a_spare_path_stays_beside_a_transfer_and_for_a_while_after_it(world: World) -> None:
    busy: Any = FakePath(1, "punched")
    spare: Any = FakePath(2, "relay")
    world.offer(busy)
    world.inbox.path_up(world.meeting, spare)
    for _ in range(10):
        world.clock.advance(QUIET_S)
    assert (busy.refused, spare.refused) == (None, None)
    world.clock.advance(QUIET_S - 1)
    world.end(busy)
    world.clock.advance(1)
    assert spare.refused is None
    world.clock.advance(QUIET_S)
    assert spare.refused is not None


class StreamPath(FakePath):
    """A path that takes everything that is said of a stream."""

    writable = True

    def __init__(self, number: int) -> None:
        super().__init__(number, "punched")
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


def stream(world: World, *messages: ChannelMessage) -> StreamPath:
    """A path that brings a stream."""
    made = StreamPath(1)
    path: Any = made
    world.inbox.path_up(world.meeting, path)
    for message in (Attach(instance=bytes(16)), *messages):
        world.inbox.path_message(path, message)
        world.clock.advance(0)
    return made


OPEN = Open(number=0, channel=0, service="stream", credit=0, about="log.txt")


def test_a_path_on_which_no_stream_is_offered_ends(world: World) -> None:
    path = stream(world)
    world.clock.advance(QUIET_S - 1)
    assert path.refused is None
    world.clock.advance(1)
    assert isinstance(path.refused, Unreachable)


@pytest.mark.parametrize("name", ["a/b", "log.txt"], ids=["refused at once", "given up"])
def test_a_path_of_a_stream_that_is_over_ends(world: World, name: str) -> None:
    """Its sender hears of the end first."""
    owner: Any = world.inbox._owner
    owner.decide = lambda peer, offer: Deferred()
    owner.transfer_started = lambda peer, stream, paths: stream.done.addErrback(lambda failure: None)
    path = stream(world, structs.replace(OPEN, about=name), Reset(number=1, channel=0, word="E_DENIED", message="no"))
    world.clock.advance(QUIET_S)
    world.clock.advance(QUIET_S)
    assert isinstance(path.refused, Unreachable)


def test_a_stream_that_waits_for_an_answer_keeps_its_paths(world: World) -> None:
    owner: Any = world.inbox._owner
    owner.decide = lambda peer, offer: Deferred()
    owner.transfer_started = lambda peer, stream, paths: stream.done.addErrback(lambda failure: None)
    path = stream(world, OPEN)
    world.clock.wait()  # a thread has looked whether it may come
    for _ in range(10):
        world.clock.advance(QUIET_S)
    assert path.refused is None


def test_who_compares_words_has_time_for_it_and_not_for_ever(world: World) -> None:
    owner: Any = world.inbox._owner
    seen: list[Any] = []
    owner.compared = lambda path, peer: seen.append(path)
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.inbox.path_message(path, Compare())
    assert seen == [path]
    while world.clock.seconds() < COMPARE_S - QUIET_S:
        world.clock.advance(QUIET_S)
    assert path.refused is None
    for _ in range(3):
        world.clock.advance(QUIET_S)
    assert isinstance(path.refused, Unreachable)


def test_a_path_that_is_gone_is_not_looked_at(world: World) -> None:
    path: Any = FakePath(1, "relay")
    world.inbox.path_up(world.meeting, path)
    world.inbox.path_down(world.meeting, path, Unreachable("gone"))
    world.clock.advance(2 * QUIET_S)
    assert path.refused is None


def prove(world: World, compare: bool) -> StreamPath:
    """Alice proves a code on a path that is up; whether her user wants words compared."""
    code = parse_code("4-acid-acorn-acre")
    world.inbox._admittance._codes.open(code, world.clock.seconds())
    made = StreamPath(1)
    path: Any = made
    world.inbox.path_up(world.meeting, path)
    bob = Party("bob", world.inbox._machine.identity.id.digest)
    setting = Setting(own=Party("alice", KEY), peer=bob, sid=bytes(SID_BYTES), scalar=b"s" * 32)
    alice = Pairing.initiator(code, setting)
    (first,) = alice.start()
    world.inbox.path_message(path, Pair1(body=first.body))
    shown: Any = made.sent[-1]
    (confirm,) = alice.receive(PairFrame.PAIR2, shown.body)
    world.inbox.path_message(path, PairConfirm(body=confirm.body, compare=compare))
    return made


def test_a_code_is_spent_also_where_the_contact_cannot_be_stored(world: World) -> None:
    world.inbox._session(KEY).known = None
    used: list[P2pxferError | None] = []
    owner: Any = world.inbox._owner
    owner.code_used = used.append
    tried: list[object] = []
    owner.code_tried = tried.append

    def full(key: bytes, name: str, words: object) -> Known:
        raise ConfigError("the contacts cannot be written")

    owner.paired = full
    with pytest.raises(ConfigError):
        prove(world, compare=False)
    assert used == [None]
    assert tried == [*world.inbox._session(KEY).paths.ordered()]
    assert world.inbox._session(KEY).known is None


@pytest.mark.parametrize("proves", [True, False])
def test_who_needs_no_code_is_told_as_what_it_proves_before_it_offers(world: World, *, proves: bool) -> None:
    """With ``--accept all`` everybody may offer at once, and whoever has a code proves it nevertheless."""
    world.inbox._session(KEY).known = Known("", "id")
    told: list[Event] = []
    world.inbox._tell = world.inbox._proofs._tell = told.append
    owner: Any = world.inbox._owner
    owner.code_used = lambda error: None
    owner.paired = lambda key, name, words: Known("alice", "code")
    path: Any = FakePath(1, "relay")
    if proves:
        path = prove(world, compare=False)
    else:
        world.inbox.path_up(world.meeting, path)
    world.inbox.path_message(path, OFFER)
    (peer,) = [event for event in told if isinstance(event, Peer)]
    assert peer.verified == ("code" if proves else "id")


def test_who_is_to_be_compared_first_is_not_known_by_the_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And stays until the comparison is over, of which the owner is told everything."""
    monkeypatch.setattr(bothsame, "words_on", lambda path: ("a", "b"))
    session = world.inbox._session(KEY)
    session.known = None
    owner: Any = world.inbox._owner
    comparisons: list[BothSame] = []
    owner.code_used = lambda error: None
    owner.to_compare = lambda key, name, both: comparisons.append(both)
    path: Any = prove(world, compare=True)
    (both,) = comparisons
    assert session.known is None
    assert not path.sent[-1].compare  # nobody wanted it here
    for _ in range(3):
        world.clock.advance(QUIET_S)
    assert path.refused is None
    ended: list[Any] = []

    async def yes(words: object) -> None:
        """Say so."""

    Deferred.fromCoroutine(both.agree(yes)).addErrback(ended.append)
    world.inbox.path_down(world.meeting, path, Unreachable("the line was cut"))
    assert "the line was cut" in str(ended[0].value)
    assert session.contacts == {}


@pytest.fixture
def comparing(world: World, monkeypatch: pytest.MonkeyPatch) -> StreamPath:
    """The path on which a peer proved a code whose words are compared now."""
    monkeypatch.setattr(bothsame, "words_on", lambda path: ("a", "b"))
    world.inbox._session(KEY).known = None
    owner: Any = world.inbox._owner
    owner.code_used = lambda error: None
    owner.to_compare = lambda key, name, both: None
    return prove(world, compare=True)


def test_beside_a_comparison_another_path_of_the_peer_stays(world: World, comparing: StreamPath) -> None:
    """Nothing is proved on it, and it may be the direct one."""
    beside: Any = FakePath(2, "punched")
    world.inbox.path_up(world.meeting, beside)
    world.clock.advance(PAIRING_S)
    for _ in range(3):
        world.clock.advance(QUIET_S)
    assert (beside.refused, comparing.refused) == (None, None)


def test_a_farewell_is_taken_from_whoever_is_not_known_yet(world: World, comparing: StreamPath) -> None:
    """It may overtake the yes, which goes another path."""
    beside: Any = FakePath(2, "punched")
    world.inbox.path_up(world.meeting, beside)
    world.inbox.path_message(beside, Bye())
    assert beside.closed
    assert comparing.refused is None


def test_an_inbox_that_pairs_nobody_refuses_to_compare(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bothsame, "words_on", lambda path: ("a", "b"))
    world.inbox._session(KEY).known = None
    owner: Any = world.inbox._owner
    owner.code_used = lambda error: None
    owner.to_compare = partial(InboxOwner.to_compare, owner)  # what an owner does that says nothing of it
    with pytest.raises(Refused):
        prove(world, compare=True)
    assert world.inbox._session(KEY).known is None


def test_of_one_strangers_meetings_the_oldest_without_a_path_gives_way(open_house: World) -> None:
    first = meet(open_house, KEY)
    path_of(open_house, first, 1)
    second = meet(open_house, KEY)
    for _ in range(MAX_OF_STRANGER - 2):
        meet(open_house, KEY)
    assert len(standing()) == MAX_OF_STRANGER
    meet(open_house, KEY)
    assert second.closed
    assert not first.closed
    for _ in range(2 * MAX_MEETINGS):
        meet(open_house, KEY)
    assert len(standing()) == len(open_house.inbox._meetings) == MAX_OF_STRANGER


def test_what_carries_a_transfer_gives_way_to_nobody(open_house: World) -> None:
    carrying = [meet(open_house, KEY) for _ in range(MAX_OF_STRANGER)]
    for number, meeting in enumerate(carrying):
        open_house.inbox.path_message(path_of(open_house, meeting, number), OFFER)
    for _ in range(2 * MAX_OF_STRANGER):
        meet(open_house, KEY)
    assert not any(meeting.closed for meeting in carrying)
    assert len(standing()) == 2 * MAX_OF_STRANGER


class Unreadable:
    """Contacts of which one is denied files, and which cannot be read once ``unread`` is set."""

    def __init__(self, world: World, acceptance: Acceptance) -> None:
        self.unread = ""
        self._contacts = {KEY: Known("eve", "contact", files=False), CONTACT: Known("dora", "contact")}
        owner: Any = world.inbox._owner
        owner.known = self._known
        self._owner = owner
        world.inbox._admittance._acceptance = acceptance

    def _known(self, key: bytes) -> Known | None:
        self._owner.unread = self.unread
        return None if self.unread else self._contacts.get(key)


def a_path(world: World, number: int, key: bytes) -> Any:
    path: Any = FakePath(number, "relay")
    path.peer_key = key
    meeting: Any = SimpleNamespace(started=world.clock.seconds(), party=SimpleNamespace(peer_key=key))
    world.inbox.path_up(meeting, path)
    return path


ATTACH = Attach(instance=bytes(16))


@pytest.mark.parametrize("message", [OFFER, ATTACH])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("acceptance", ["contacts", "all"])
def test_while_contacts_cannot_be_read_nothing_new_is_taken(
    world: World, acceptance: Acceptance, message: Message, *, known: bool
) -> None:
    """Nobody can say then who is denied files; it is no refusal, after which the sender would not come back."""
    contacts = Unreadable(world, acceptance)
    session = world.inbox._session(KEY)
    contacts.unread = "contacts.json cannot be read"
    session.known = Known("eve", "contact", files=False) if known else world.inbox._admittance.known(KEY)
    path = a_path(world, 1, KEY)
    with pytest.raises(Unreachable, match=r"contacts cannot be read") as raised:
        world.inbox.path_message(path, message)
    assert raised.value.retry
    assert world.begun == []
    contacts.unread = ""
    session.known = Known("eve", "contact", files=False)
    with pytest.raises(Refused, match="takes no files from you"):
        world.inbox.path_message(path, message)
    assert world.begun == []


def test_what_is_under_way_comes_back_while_contacts_cannot_be_read(world: World) -> None:
    """It was taken by one who might; another transfer of the same sender is a new one."""
    contacts = Unreadable(world, "contacts")
    world.inbox._session(CONTACT).known = Known("dora", "contact")
    world.inbox.path_message(a_path(world, 1, CONTACT), OFFER)
    (transfer,) = world.begun
    contacts.unread = "contacts.json cannot be read"
    world.inbox.path_message(a_path(world, 2, CONTACT), OFFER)
    assert transfer.heard == [OFFER, OFFER]
    with pytest.raises(Unreachable, match="contacts cannot be read"):
        world.inbox.path_message(a_path(world, 3, CONTACT), structs.replace(OFFER, transfer=bytes(32)))
    transfer.confirm()
    with pytest.raises(Unreachable, match="contacts cannot be read"):
        world.inbox.path_message(a_path(world, 4, CONTACT), OFFER)
    assert world.begun == [transfer]


def test_a_stream_under_way_comes_back_while_contacts_cannot_be_read(world: World) -> None:
    owner: Any = world.inbox._owner
    owner.decide = lambda peer, offer: Deferred()
    owner.transfer_started = lambda peer, stream, paths: stream.done.addErrback(lambda failure: None)
    begun = stream(world, OPEN)
    world.clock.wait()  # a thread has looked whether it may come
    contacts = Unreadable(world, "contacts")
    contacts.unread = "contacts.json cannot be read"
    path: Any = StreamPath(2)
    world.inbox.path_up(world.meeting, path)
    world.inbox.path_message(path, ATTACH)
    assert path in world.inbox._session(KEY).arrivals
    assert begun.refused is path.refused is None


def test_who_has_a_relay_and_is_asked_for_a_direct_path_alone_repeats_no_plan(open_house: World) -> None:
    assert not meet(open_house, CONTACT, token=None).party.beside
    carrying = meet(open_house, CONTACT)
    assert not carrying.party.beside
    open_house.inbox.path_up(carrying, path_of(open_house, carrying, 1, "punched"))  # type: ignore[arg-type]  # a fake
    assert not meet(open_house, CONTACT, token=None).party.beside, "it may be dead, and the sender knows"
    open_house.inbox.path_up(carrying, path_of(open_house, carrying, 2))  # type: ignore[arg-type]  # a fake
    assert meet(open_house, CONTACT, token=None).party.beside
    assert not meet(open_house, CONTACT).party.beside
    assert not meet(open_house, KEY, token=None).party.beside


def test_who_compares_words_gives_way_to_nobody(open_house: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bothsame, "words_on", lambda path: ("a", "b"))
    owner: Any = open_house.inbox._owner
    owner.code_used = lambda error: None
    owner.to_compare = lambda key, name, both: None
    comparing = meet(open_house, KEY)
    comparing.paths.append(prove(open_house, compare=True))
    for number in range(2 * MAX_OF_STRANGERS):
        path_of(open_house, meet(open_house, KEY), 2 + number)
    assert not comparing.closed


def test_many_strangers_leave_room_for_a_contact(open_house: World) -> None:
    own = [meet(open_house, CONTACT) for _ in range(MAX_OF_CONTACT)]
    for number in range(2 * MAX_MEETINGS):
        meet(open_house, number.to_bytes(32, "big"))
    assert not any(meeting.closed for meeting in own)
    assert len(standing()) == MAX_OF_CONTACT + MAX_OF_STRANGERS
    meet(open_house, CONTACT)
    assert [meeting.closed for meeting in own] == [True] + [False] * (MAX_OF_CONTACT - 1)


@pytest.mark.parametrize(("key", "left"), [(KEY, 0), (CONTACT, 1)], ids=["stranger", "contact"])
def test_only_a_contact_makes_the_receiver_leave_the_server_by_losing_packets(
    open_house: World, key: bytes, left: int
) -> None:
    meeting: Any = meet(open_house, key)
    path: Any = path_of(open_house, meeting, 1)
    open_house.inbox.path_down(meeting, path, PacketsLost("nothing comes"))
    assert open_house.client.left == left  # type: ignore[attr-defined]  # the fixture's


def lose(house: World, meeting: Any, path: Any) -> int:
    """Packets get lost on a path; how often the server was left by now."""
    house.inbox.path_down(meeting, path, PacketsLost("nothing comes"))
    return house.client.left  # type: ignore[attr-defined, no-any-return]  # the fixture's


def test_a_nat_that_lost_one_connection_has_lost_the_quiet_ones_beside_it(open_house: World) -> None:
    """On which nothing may be sent for seconds, so that nothing shows; the server is left once."""
    meeting: Any = meet(open_house, CONTACT)
    first, second, third = paths = [path_of(open_house, meeting, number, "punched") for number in (1, 2, 3)]
    for path in paths:
        path.quiet_for = PATH.unanswered + 0.1
    assert [lose(open_house, meeting, path) for path in (first, second, third)] == [1, 1, 1]


def test_beside_a_connection_that_speaks_the_server_is_not_left(open_house: World) -> None:
    meeting: Any = meet(open_house, CONTACT)
    first, second, third = (path_of(open_house, meeting, number, "punched") for number in (1, 2, 3))
    first.quiet_for = second.quiet_for = PATH.unanswered + 0.1
    assert [lose(open_house, meeting, path) for path in (first, second, third)] == [0, 0, 1]


def test_one_that_was_quiet_and_spoke_again_counts_when_it_is_lost(open_house: World) -> None:
    meeting: Any = meet(open_house, CONTACT)
    first, second = (path_of(open_house, meeting, number, "punched") for number in (1, 2))
    second.quiet_for = PATH.unanswered + 0.1
    assert lose(open_house, meeting, first) == 1
    second.quiet_for = 0.0
    assert lose(open_house, meeting, second) == 2


def test_nobody_new_is_met_while_nobody_can_say_who_is_a_contact(open_house: World) -> None:
    """Neither the contact, who would hear that it is none and give up, nor anybody else; then both as before."""
    owner: Any = open_house.inbox._owner
    known, owner.known, owner.unread = owner.known, lambda key: None, "too many open files"
    for key in (CONTACT, KEY):
        introduction: Any = SimpleNamespace(peer_id=key, session=bytes(16), my_nat=NatSummary(), relay_token=None)
        open_house.inbox.introduced(introduction)
    assert FakeMeeting.made == []
    owner.known, owner.unread = known, ""
    meet(open_house, CONTACT)
    meet(open_house, KEY)


def test_for_a_stranger_nobody_is_dialled(open_house: World) -> None:
    open_house.inbox._admittance._acceptance = "contacts"
    introduction: Any = SimpleNamespace(peer_id=KEY, session=bytes(16), my_nat=NatSummary(), relay_token=None)
    open_house.inbox.introduced(introduction)
    assert FakeMeeting.made == []
    meet(open_house, CONTACT)


def unread_meets(house: World, monkeypatch: pytest.MonkeyPatch, *keys: bytes) -> list[Any]:
    """Who is introduced while the contacts cannot be read; the meetings that came of it."""
    monkeypatch.setattr(declining, "Meeting", FakeMeeting)
    owner: Any = house.inbox._owner
    owner.known, owner.unread = lambda key: None, "too many open files"
    for key in keys:
        house.inbox.introduced(
            Introduction(
                session=bytes(32), initiator=False, peer_id=key, observed=["192.0.2.1:2000"], relay_token=bytes(32)
            )
        )
    return list(FakeMeeting.made)


@pytest.mark.parametrize("key", [CONTACT, KEY], ids=["contact", "stranger"])
def test_while_contacts_cannot_be_read_everybody_hears_the_same_over_the_relay_and_nobody_is_dialled(
    open_house: World, monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    (meeting,) = unread_meets(open_house, monkeypatch, key)
    introduction = meeting.introduction
    assert (introduction.dial, introduction.observed, introduction.lan, introduction.mapped) == (False, [], [], [])
    assert (meeting.party.trusted, meeting.party.peer_name) == (False, None)
    path: Any = FakePath(1, "relay")
    meeting.owner.path_up(meeting, path)
    assert path.refused is not None and path.refused.message == "bob can take nothing new now"
    assert isinstance(path.refused, Unreachable) and path.refused.retry
    assert key not in open_house.inbox._sessions or key == KEY


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "beside a path"])
def test_who_goes_on_with_what_was_taken_is_met_while_contacts_cannot_be_read(
    open_house: World, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """Not told that nothing new is taken: what it brings is not new, and a path that is left would be given up."""
    first: Any = meet(open_house, CONTACT)
    path = path_of(open_house, first, 1)
    open_house.inbox.path_message(path, OFFER)
    if cut:
        open_house.inbox.path_down(first, path, Unreachable("cut"))
        open_house.inbox.meeting_failed(first, [])
    second = unread_meets(open_house, monkeypatch, CONTACT)[-1]
    assert second.owner is open_house.inbox
    assert second.party.trusted, "it is dialled as before"
    again = path_of(open_house, second, 2)
    open_house.inbox.path_message(again, OFFER)
    (transfer,) = open_house.begun
    assert transfer.heard == [OFFER, OFFER]


@pytest.mark.parametrize("ended", ["never begun", "over"])
def test_who_was_here_and_brings_nothing_hears_that_nothing_new_is_taken(
    open_house: World, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    first: Any = meet(open_house, CONTACT)
    path = path_of(open_house, first, 1)
    if ended == "over":
        open_house.inbox.path_message(path, OFFER)
        open_house.inbox.path_message(path, Bye())
    open_house.inbox.path_down(first, path, Unreachable("closed"))
    assert unread_meets(open_house, monkeypatch, CONTACT)[-1].owner is open_house.inbox._declining


def test_few_at_a_time_hear_that_nothing_can_be_taken(open_house: World, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [bytes([number]) * 32 for number in range(declining.MOST)]
    made = unread_meets(open_house, monkeypatch, *keys, keys[0])
    assert [meeting.closed for meeting in made] == [True] + [False] * declining.MOST
    made[-1].owner.meeting_failed(made[-1], [])
    made = unread_meets(open_house, monkeypatch, KEY, CONTACT)
    assert [meeting.closed for meeting in made] == [True, True] + [False] * (declining.MOST + 1)
    closing = Deferred.fromCoroutine(open_house.inbox.close())
    assert all(meeting.closed for meeting in made if meeting is not made[declining.MOST])
    assert closing.called


def test_nobody_is_met_by_an_inbox_that_is_being_closed(open_house: World) -> None:
    """The connection to the server outlives the inbox for as long as a transfer takes to end."""
    meeting: Any = meet(open_house, CONTACT)
    path: Any = path_of(open_house, meeting, 1)
    closed: list[object] = []
    Deferred.fromCoroutine(open_house.inbox.close()).addBoth(closed.append)
    assert (closed, meeting.closed) == ([], True)
    introduction: Any = SimpleNamespace(peer_id=CONTACT, session=bytes(16), my_nat=NatSummary())
    open_house.inbox.introduced(introduction)
    assert FakeMeeting.made == [meeting]
    open_house.inbox.path_down(meeting, path, Unreachable("closed"))
    assert closed == [None]
    open_house.inbox.introduced(introduction)
    assert FakeMeeting.made == [meeting]


@pytest.mark.parametrize(
    ("farewell", "seconds"), [(PeerStopped("the receiver was stopped"), STOPPED_S), (None, CLOSE_S)]
)
def test_only_who_was_stopped_says_so_and_waits_no_longer_than_a_moment(
    open_house: World, farewell: PeerStopped | None, seconds: float
) -> None:
    path: Any = path_of(open_house, meet(open_house, CONTACT), 1)
    closed: list[object] = []
    Deferred.fromCoroutine(open_house.inbox.close(farewell)).addBoth(closed.append)
    said = [Problem(word="E_STOPPED", message="the receiver was stopped")] if farewell is not None else []
    assert path.said == said
    open_house.clock.advance(seconds - 0.1)
    assert not closed
    open_house.clock.advance(0.1)
    assert closed == [None]


@pytest.mark.parametrize("farewell", [PeerStopped("the receiver was stopped"), None])
def test_what_is_settled_on_the_disk_gets_its_own_time(open_house: World, farewell: PeerStopped | None) -> None:
    path_of(open_house, meet(open_house, CONTACT), 1)
    settled: Deferred[None] = Deferred()
    arrivals: Any = open_house.inbox._session(CONTACT).arrivals
    arrivals.unended = lambda: [SimpleNamespace(close=lambda: settled)]
    closed: list[object] = []
    Deferred.fromCoroutine(open_house.inbox.close(farewell)).addBoth(closed.append)
    open_house.clock.advance(CLOSE_S)
    assert not closed
    settled.callback(None)
    open_house.clock.advance(CLOSE_S)
    assert closed == [None]


# -- whose sender may have been killed -----------------------------------------------------------------------------


def asked_by_one_who_vanished(house: World) -> FakeTransfer:
    """What is asked about, whose only path ended as if its sender had been killed."""
    meeting: Any = meet(house, CONTACT)
    path = path_of(house, meeting, 1)
    brought: Any = FakeTransfer(house.clock)
    brought.attached = 0
    undecided = house.inbox._session(CONTACT).arrivals.undecided
    Deferred.fromCoroutine(undecided.ask(brought, Deferred()))
    house.clock.advance(1.0)
    house.inbox.path_down(meeting, path, Vanished("reset"))
    undecided.lost(brought, path, Vanished("reset"))
    house.inbox.meeting_failed(meeting, [])
    return brought  # type: ignore[no-any-return]  # what it was made as


def test_whoever_asks_for_meetings_that_fail_is_not_taken_for_killed(open_house: World) -> None:
    asked = asked_by_one_who_vanished(open_house)
    for _ in range(3):
        open_house.clock.advance(3.0)
        meeting: Any = meet(open_house, CONTACT)
        open_house.clock.advance(1.0)
        open_house.inbox.meeting_failed(meeting, [Unreachable("nobody came")])
        open_house.clock.advance(1.0)
    assert not asked.abandoned
    for _ in range(3):
        open_house.clock.advance(GONE_S)
    assert asked.abandoned


def test_whoever_is_met_for_long_may_ask_again_after_that(open_house: World) -> None:
    asked = asked_by_one_who_vanished(open_house)
    meeting: Any = meet(open_house, CONTACT)
    for _ in range(2):
        open_house.clock.advance(GONE_S)
    open_house.clock.advance(GONE_S - 0.5)
    open_house.inbox.meeting_failed(meeting, [Unreachable("nobody came")])
    open_house.clock.advance(GONE_S)
    assert not asked.abandoned
    open_house.clock.advance(GONE_S)
    assert asked.abandoned


def test_whoever_asks_for_no_meeting_was_killed(open_house: World) -> None:
    asked = asked_by_one_who_vanished(open_house)
    meet(open_house, KEY)
    open_house.clock.advance(GONE_S)
    assert asked.abandoned
