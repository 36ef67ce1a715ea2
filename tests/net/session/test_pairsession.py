"""Whom a session between two contacts meets, when it gives up, and what its end looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from p2pxfer.core.messages import Introduction
from p2pxfer.core.names import check_name
from p2pxfer.core.session.channelwire import Attach, Open
from p2pxfer.core.session.pathchoice import OVER
from p2pxfer.core.session.wire import Bye, Problem
from p2pxfer.errors import IdentityMismatch, Incomplete, PeerStopped, ProtocolBreach, Unreachable
from p2pxfer.net.session.pairsession import MAX_MEETINGS, pipe_name
from p2pxfer.net.session.patience import FAREWELL_S, STOPPED_S
from p2pxfer.status import Note, Peer
from p2pxfer.status import Path as PathEvent
from tests.net.session.sessionstand import HIGHEST, LOWEST, Stand


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    stand = Stand(monkeypatch, tmp_path, LOWEST)
    assert not stand.session.asks
    yield stand
    stand.session.close()


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    stand = Stand(monkeypatch, tmp_path, HIGHEST)
    assert stand.session.asks
    yield stand
    stand.session.close()


def test_nobody_but_the_contact_is_met(waiting: Stand, asking: Stand) -> None:
    waiting.introduce(b"x" * 32)
    assert waiting.client.taken_up == []
    waiting.introduce(LOWEST)
    assert waiting.client.taken_up == [LOWEST]
    # Who asks is not asked.
    asking.introduce(HIGHEST)
    assert asking.client.taken_up == []
    with pytest.raises(IdentityMismatch):
        asking.session.meet(Introduction(session=bytes(32), initiator=True, peer_id=b"x" * 32), beside=False)


def test_the_peer_is_told_by_the_name_that_it_has_here(waiting: Stand) -> None:
    waiting.path()
    assert [event.name for event in waiting.told if isinstance(event, Peer)] == ["bob"]


@pytest.mark.parametrize(("kind", "beside"), [("relay", True), ("punched", False)])
def test_who_has_a_relay_and_is_asked_for_a_direct_path_alone_repeats_no_plan(
    waiting: Stand, kind: str, beside: bool
) -> None:
    """A direct path may be dead, and who asks knows it."""
    waiting.path(kind=kind)
    assert waiting.meet().party.beside is beside


def test_introductions_without_end_dial_a_few_times_at_once(waiting: Stand) -> None:
    for _ in range(3 * MAX_MEETINGS):
        waiting.introduce(LOWEST)
    assert len(waiting.client.taken_up) == MAX_MEETINGS


def test_a_relay_path_ends_when_a_newer_one_stands(asking: Stand) -> None:
    """Or every direct path that is lost would leave one behind, at both ends and at the server."""
    relays: list[Any] = []
    for number in range(0, 6 * MAX_MEETINGS, 2):
        meeting = asking.meet()
        _, relay = asking.path(number)
        assert all(old.closed for old in relays)
        assert asking.session.paths.ordered() == [relay]
        relays.append(relay)
        _, direct = asking.path(number + 1, "direct")
        asking.lose(meeting, direct)
    assert len(asking.session._meetings) == 1


def test_what_still_comes_on_a_path_that_was_replaced_is_dropped(asking: Stand) -> None:
    """The peer sends it again on the next path; its end here is no loss, and no reason to look for another path."""
    first = asking.meet()
    _, old = asking.path(1)
    wanted: Any = asking.session._seeking
    wanted.wake = lambda: pytest.fail("another introduction is wanted")
    asking.meet()
    _, new = asking.path(2)
    assert old.closed
    asking.session.path_message(old, Attach(instance=bytes(16)))
    asking.lose(first, old)
    assert asking.errors == []
    assert asking.session.paths.ordered() == [new]


@pytest.mark.parametrize("kind", ["punching", "direct"])
def test_a_meeting_that_has_more_than_the_relay_stays(asking: Stand, kind: str) -> None:
    first = asking.meet()
    asking.path(1)
    if kind == "direct":
        asking.path(2, "direct")
    first.punching = kind == "punching"
    asking.meet()
    asking.path(3)
    assert not first.closed
    assert len(asking.session._meetings) == 2


def test_whoever_waits_takes_up_an_introduction_in_place_of_an_old_relay_path(waiting: Stand) -> None:
    """The other end may have lost paths that still look whole here."""
    for number in range(3 * MAX_MEETINGS):
        assert waiting.meet() is not None, number
        waiting.path(number)
    assert len(waiting.session._meetings) == MAX_MEETINGS
    assert len(waiting.session.paths) == MAX_MEETINGS
    assert waiting.errors == []


def test_who_never_came_and_who_did_not_come_back(waiting: Stand, asking: Stand) -> None:
    asking.session.not_met(Unreachable("this peer is not here now"))
    asking.clock.advance(31)
    assert [type(error) for error in asking.errors] == [Unreachable]
    assert "bob does not run p2pxfer pipe now" in asking.errors[0].message
    meeting, path = waiting.path()
    waiting.clock.advance(300)
    assert waiting.errors == []
    waiting.session.path_down(meeting, path, Unreachable("lost"))
    waiting.clock.advance(31)
    assert [type(error) for error in waiting.errors] == [Incomplete]


def test_a_breach_ends_the_session_and_is_told(waiting: Stand) -> None:
    _, path = waiting.path()
    waiting.session.path_message(path, Open(number=0, channel=0, service="pipe", credit=1))
    assert [type(error) for error in waiting.errors] == [ProtocolBreach]
    assert [message.word for message in path.sent if isinstance(message, Problem)] == ["E_STATE"]
    # What still comes is not looked at.
    waiting.session.path_message(path, Attach(instance=bytes(16)))
    assert len(waiting.errors) == 1


@pytest.mark.parametrize(("farewell", "seconds"), [(PeerStopped("stopped"), STOPPED_S), (None, FAREWELL_S)])
def test_who_was_stopped_waits_a_moment_for_its_farewell(
    waiting: Stand, farewell: PeerStopped | None, seconds: float
) -> None:
    _, path = waiting.path()
    left: list[None] = []
    Deferred.fromCoroutine(waiting.session.leave(farewell)).addCallback(left.append)
    waiting.clock.advance(seconds - 0.1)
    assert (path.closed, left) == (True, [])
    waiting.clock.advance(0.1)
    assert left == [None]


def test_bye_closes_the_path_and_what_goes_then_is_no_loss(waiting: Stand) -> None:
    meeting, path = waiting.path()
    _, other = waiting.path(2, "direct")
    waiting.session.path_message(path, Bye())
    assert path.closed
    waiting.told.clear()
    waiting.lose(meeting, other)
    waiting.lose(meeting, path)
    assert [event.why for event in waiting.told if isinstance(event, PathEvent)] == [OVER, OVER]
    assert not [event for event in waiting.told if isinstance(event, Note)]


def test_a_loss_after_a_new_meeting_is_one_again(waiting: Stand) -> None:
    meeting, path = waiting.path()
    waiting.session.path_message(path, Bye())
    waiting.lose(meeting, path)
    waiting.meet()
    waiting.lose(*waiting.path(3))
    assert [event.message for event in waiting.told if isinstance(event, Note)] == [
        "the connection was lost; reconnecting"
    ]


def test_a_search_that_is_given_up_in_its_pause_is_no_fault(asking: Any) -> None:
    """It is not logged as one either, for which the test would fail by itself."""
    asking.path()
    asking.client.registering.errback(Unreachable("the server is gone"))
    assert not asking.session._search.called
    asking.session.close()
    assert asking.session._search.called
    assert asking.errors == []


def test_the_name_of_a_pipe_is_a_name_and_follows_from_the_key() -> None:
    assert check_name(pipe_name(LOWEST)) == pipe_name(LOWEST)
    assert pipe_name(LOWEST) == "pipe-" + 27 * "a"
    assert pipe_name(LOWEST) != pipe_name(HIGHEST)
