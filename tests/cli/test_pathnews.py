"""What a sender is told of its peer and its paths beside the plain events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.cli.pathnews import ABSENT_S, UNANSWERED_S, PathNews
from p2pxfer.cli.report import TRIED
from p2pxfer.core.messages import Introduction, NatSummary
from p2pxfer.core.words.parting import unanswered_text
from p2pxfer.status import Event, Introduced, Note, Path, Verdict

KEEPS = NatSummary(mapping="endpoint-independent", ports="preserving")
RANDOM = NatSummary(mapping="port-dependent", ports="random", low=1024, high=65535)
MET = Introduced(session="", peer="")


def active(kind: Any) -> Path:
    return Path(kind, "active", "", "", None, 0.0, "carries the data")


class Desk:
    """The news, and what was told of it."""

    def __init__(self, policy: Any = "auto", *, stranger: bool = False) -> None:
        self.clock = Clock()
        self.told: list[Event] = []
        self.news = PathNews(self.clock, "bob", policy, self.told.append, stranger=stranger)

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.told if isinstance(event, Note)]


def met(nats: tuple[NatSummary, NatSummary], **more: Any) -> Any:
    introduction = Introduction(bytes(32), True, bytes(32), dial=more.pop("dial", True), relay_token=bytes(32))
    facts = {"tried": "", "plan_state": "none", "one_address": False, **more}
    return SimpleNamespace(introduction=introduction, punch=SimpleNamespace(nats=nats, **facts))


def test_who_has_to_wait_for_the_peer_is_told_once() -> None:
    desk = Desk()
    desk.clock.advance(ABSENT_S)
    assert desk.notes == ["waiting for bob, who is not here yet"]
    desk.news.hear(MET)
    desk.news.stop()
    assert not desk.clock.getDelayedCalls()


@pytest.mark.parametrize("end", ["introduced", "stopped"])
def test_who_does_not_have_to_wait_hears_nothing(end: str) -> None:
    desk = Desk()
    if end == "introduced":
        desk.news.hear(MET)
    desk.news.stop()
    desk.clock.advance(10 * ABSENT_S)
    assert desk.told == []


@pytest.mark.parametrize("policy", ["auto", "relay", "direct"])
@pytest.mark.parametrize("stranger", [True, False])
def test_that_a_stranger_may_not_be_answered_is_said_once_while_no_path_is_up(stranger: bool, policy: Any) -> None:
    desk = Desk(policy, stranger=stranger)
    for _ in range(2):
        desk.news.hear(MET)
        desk.clock.advance(2 * UNANSWERED_S)
    said = [f"bob has not answered yet: {unanswered_text('bob')}"]
    assert desk.notes == (said if stranger and policy != "direct" else [])
    assert not desk.clock.getDelayedCalls()


@pytest.mark.parametrize("moments", [[0, 6], [0, 9, 18, 27]])
def test_a_second_introduction_does_not_put_off_why_nobody_answers(moments: list[float]) -> None:
    desk = Desk(stranger=True)
    for now in moments:
        desk.clock.advance(now - desk.clock.seconds())
        desk.news.hear(MET)
        assert len(desk.notes) == (now >= UNANSWERED_S)
    desk.clock.advance(UNANSWERED_S - min(moments[-1], UNANSWERED_S))
    assert desk.notes == [f"bob has not answered yet: {unanswered_text('bob')}"]


def test_a_stranger_that_is_answered_hears_nothing_of_that() -> None:
    desk = Desk(stranger=True)
    desk.news.hear(MET)
    desk.news.hear(Path("relay", "up", "", "", None, 0.0, "greeted"))
    desk.clock.advance(2 * UNANSWERED_S)
    desk.news.hear(MET)  # after the path was lost
    desk.clock.advance(2 * UNANSWERED_S)
    assert desk.notes == []


def test_beside_the_relay_a_direct_path_is_tried_which_is_said_once() -> None:
    desk = Desk()
    first, *others = [desk.news.hear(active(kind)) for kind in ("relay", "punched", "relay")]
    assert first == f"path: relay after 0.00 s; {TRIED}"
    assert others == [None, None]
    assert desk.told == []


@pytest.mark.parametrize("policy", ["relay", "direct"])
def test_where_no_other_path_is_wanted_none_is_tried_and_none_explained(policy: str) -> None:
    desk = Desk(policy)
    assert desk.news.hear(active("relay")) is None
    if policy == "relay":
        desk.news.relayed(met((KEEPS, RANDOM)))
        assert desk.told == []


def test_why_there_is_only_the_relay_and_what_would_change_that() -> None:
    desk = Desk()
    meeting = met((RANDOM, KEEPS), plan_state="followed", tried="900 dials were made")
    desk.news.relayed(meeting)
    (told,) = desk.told
    assert isinstance(told, Verdict)
    assert (told.path, told.reason, told.where, told.change) == ("relay", "not-found", "here", "map")
    assert told.message.startswith("No direct path: The NAT here chooses outside ports")
    assert "900 dials were made" in told.message
    assert "turn on UPnP" in told.message
    desk.news.relayed(meeting)  # another punch that ended like the one before
    assert len(desk.told) == 1
    assert desk.news.hear(active("relay")) is None  # nothing is tried any more
    desk.news.relayed(met((KEEPS, KEEPS)))
    assert len(desk.told) == 2


def test_a_peer_that_allows_the_relay_only() -> None:
    desk = Desk()
    desk.news.relayed(met((KEEPS, KEEPS), dial=False))
    (told,) = desk.told
    assert isinstance(told, Verdict)
    assert told.reason == "forbidden"
    assert "bob allows no direct path (--path relay)" in told.message


def test_two_behind_one_address() -> None:
    desk = Desk()
    desk.news.relayed(met((KEEPS, KEEPS), one_address=True, tried="both are behind one public address"))
    (told,) = desk.told
    assert isinstance(told, Verdict)
    assert told.reason == "same-nat"
    assert "both are behind" not in told.message
