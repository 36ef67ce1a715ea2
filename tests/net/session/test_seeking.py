"""When a job asks to be introduced again, and when it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from p2pxfer.core.messages import NatSummary, PathPolicy
from p2pxfer.core.session.upgrades import HURRY_S, PAUSES_S, Upgrades
from p2pxfer.errors import NoDirectPath, P2pxferError, RateLimited, Unreachable
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.session.seeking import LONGEST_PAUSE_S, RESEEK_S, WAIT_S, Seeking, Target
from p2pxfer.net.session.standing import Standing

TARGET = Target(to="bob", key=None, name="bob", alias=None, verified="contact", code=None)


class Job:
    """What the search asks of its owner, and a server that always answers."""

    def __init__(
        self,
        target: Target = TARGET,
        begun: bool = True,
        answer: Any = succeed,
        policy: PathPolicy = "auto",
        dial: bool = True,
    ) -> None:
        self.clock = Clock()
        self.dial = dial
        self.standing = Standing.NOTHING
        self.begun = begun
        self.cut = False
        paths: Any = SimpleNamespace(upgrades=Upgrades(), slowest_trip=0.0)
        self.paths: PathSet = paths
        self.confirmed = 0
        self.meetings: list[Any] = []
        self.renewals = 0
        self.missed: list[P2pxferError] = []
        self.answer = answer
        self.asked: list[tuple[str, int]] = []
        self.policies: list[str] = []
        self.nats = (NatSummary(), NatSummary())
        self.registered = object()
        clock: Any = self.clock
        client: Any = self
        self.seeking = Seeking(clock, client, target, policy, self)
        self.running = Deferred.fromCoroutine(self.seeking.run())
        self.over: list[object] = []
        self.running.addBoth(self.over.append)

    # the owner

    def meet(self, introduction: object, *, beside: bool) -> Any:
        decided: Deferred[None] = Deferred()
        self.meetings.append(
            SimpleNamespace(
                had_path=False, unheard=False, given_up=False, at=self.clock.seconds(), ending=decided,
                party=SimpleNamespace(beside=beside), introduction=SimpleNamespace(dial=self.dial),
                decided=lambda: decided, punch=SimpleNamespace(nats=self.nats),
            )
        )  # fmt: skip
        return self.meetings[-1]

    def not_met(self, error: P2pxferError) -> None:
        self.missed.append(error)

    # the client

    async def when_registered(self) -> None:
        """The server is always there."""

    def introduce(self, to: str, policy: str, wait_s: int) -> Deferred[object]:
        self.asked.append((to, wait_s))
        self.policies.append(policy)
        return self.answer(object())  # type: ignore[no-any-return]  # succeed, or a failure

    async def renew(self) -> None:
        self.renewals += 1

    def direct_dies(self) -> None:
        """A direct path stood until now, and the relay goes on."""
        self.paths.upgrades.stands(0.0)
        self.paths.upgrades.died(self.clock.seconds())
        self.standing = Standing.RELAYED
        self.seeking.wake()

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)


@pytest.fixture
def job() -> Job:
    return Job()


def test_a_meeting_that_the_peer_never_heard_of_is_followed_at_once_from_the_same_port(job: Job) -> None:
    job.meetings[0].unheard = True
    job.seeking.wake()
    assert (len(job.meetings), job.renewals) == (2, 0)


def test_a_server_that_says_so_every_time_does_not_make_a_loop(job: Job) -> None:
    for _ in range(500):
        job.meetings[-1].unheard = True
        job.seeking.wake()
    assert len(job.meetings) == 2
    for _ in range(60):
        job.pass_time(1.0)
        job.meetings[-1].unheard = True
        job.seeking.wake()
    assert len(job.meetings) < 30


def test_a_peer_that_brings_no_path_is_asked_for_more_and_more_seldom(job: Job) -> None:
    job.cut = True
    job.pass_time(60)
    assert 5 < len(job.meetings) < 30
    assert job.renewals < 30


@pytest.mark.parametrize(
    ("confirms", "stands", "fewest", "most"), [(0, 0.0, 8, 40), (1000, 0.0, 150, 10**6), (0, LONGEST_PAUSE_S, 9, 14)]
)
def test_a_peer_that_ends_each_path_is_met_again_soon_only_where_something_was_gained_or_it_took_long(
    job: Job, confirms: int, stands: float, fewest: int, most: int
) -> None:
    """By whatever error: it may be a peer that wants this side to hammer at the server."""
    begun = job.clock.seconds()
    while job.clock.seconds() < begun + 60:
        meeting, met = job.meetings[-1], len(job.meetings)
        meeting.had_path = True
        job.confirmed += confirms
        job.pass_time(stands)
        job.seeking.wake()
        while len(job.meetings) == met:
            job.pass_time(0.01)
    assert fewest < len(job.meetings) < most


def test_a_peer_that_turns_everybody_away_for_hours_is_met_once_a_minute(job: Job) -> None:
    while job.clock.seconds() < 3600:
        met = len(job.meetings)
        job.meetings[-1].had_path = True
        job.seeking.wake()
        while len(job.meetings) == met:
            job.pass_time(0.05)
    assert 60 < len(job.meetings) < 200


def test_after_a_punch_that_failed_the_next_one_starts_later_and_from_another_port(job: Job) -> None:
    job.seeking.wake()
    assert len(job.meetings) == 1
    job.pass_time(0.6)
    assert (len(job.meetings), job.renewals) == (2, 1)


def test_a_doubted_relay_is_replaced_at_once(job: Job) -> None:
    job.meetings[0].had_path = True
    job.standing = Standing.DOUBTED
    job.seeking.wake()
    assert (len(job.meetings), job.renewals) == (2, 1)
    job.seeking.wake()  # a doubted one whose meeting brought nothing is no reason to hurry
    assert len(job.meetings) == 2
    job.pass_time(0.6)
    assert (len(job.meetings), job.renewals) == (3, 2)


def test_a_cut_transfer_waits_for_a_path_not_longer_than_it_should_take(job: Job) -> None:
    job.cut = True
    job.standing = Standing.DOUBTED
    job.pass_time(RESEEK_S - 0.05)
    assert len(job.meetings) == 1
    job.pass_time(0.7)
    assert len(job.meetings) == 2
    job.cut = False
    job.pass_time(30)
    assert len(job.meetings) == 2


def test_a_direct_path_that_came_late_stops_the_search_until_it_dies(job: Job) -> None:
    job.direct_dies()
    job.pass_time(PAUSES_S[0] / 2)
    job.standing = Standing.DIRECT
    job.pass_time(60)
    assert len(job.meetings) == 1
    job.direct_dies()
    job.pass_time(PAUSES_S[0] - 0.1)
    assert len(job.meetings) == 1
    job.pass_time(0.8)
    assert (len(job.meetings), job.policies) == (2, ["auto", "auto"])


def test_while_the_relay_carries_a_direct_path_is_looked_for_again_and_again(job: Job) -> None:
    """The first attempt after a loss brings another relay leg too; those that repeat it bring none."""
    job.direct_dies()
    job.pass_time(PAUSES_S[0] + 0.6)
    assert job.policies == ["auto", "auto"]
    job.pass_time(PAUSES_S[1] - 0.7)
    assert len(job.meetings) == 2
    job.pass_time(LONGEST_PAUSE_S + 0.7)
    assert job.policies[2:] == ["direct"]
    job.seeking.wake()  # the punch came to nothing
    job.pass_time(PAUSES_S[2] - LONGEST_PAUSE_S - 0.7)
    assert len(job.meetings) == 3
    job.pass_time(60 * 60.0)
    assert set(job.policies[2:]) == {"direct"}
    assert 6 < len(job.meetings) < 12
    assert all(meeting.party.beside for meeting in job.meetings[2:])


KEEPS = NatSummary(mapping="endpoint-independent")


@pytest.mark.parametrize("theirs", [KEEPS, NatSummary(mapping="port-dependent")])
def test_a_punch_that_should_have_succeeded_is_repeated_once_before_long(job: Job, theirs: NatSummary) -> None:
    job.nats = job.meetings[0].punch.nats = KEEPS, theirs
    job.standing = Standing.RELAYED
    job.meetings[0].ending.callback(None)
    job.pass_time(PAUSES_S[0] + LONGEST_PAUSE_S)
    for repeated in job.meetings[1:]:
        repeated.ending.callback(None)
    job.pass_time(PAUSES_S[0] + LONGEST_PAUSE_S)
    assert job.policies == (["auto", "direct"] if theirs is KEEPS else ["auto"])


def test_a_punch_is_not_repeated_whose_direct_path_stands(job: Job) -> None:
    job.meetings[0].punch.nats = KEEPS, KEEPS
    job.standing = Standing.DIRECT
    job.meetings[-1].ending.callback(None)
    job.pass_time(60)
    assert job.policies == ["auto"]


def test_who_never_had_a_direct_path_is_looked_for_again_after_a_while(job: Job) -> None:
    job.standing = Standing.RELAYED
    job.pass_time(PAUSES_S[2] - 0.1)
    assert len(job.meetings) == 1
    job.pass_time(0.7)
    assert job.policies == ["auto", "direct"]


@pytest.mark.parametrize(("dial", "policy"), [(False, "auto"), (True, "relay")])
def test_where_no_direct_path_is_allowed_none_is_looked_for_again(dial: bool, policy: PathPolicy) -> None:
    job = Job(policy=policy, dial=dial)
    job.standing = Standing.RELAYED
    job.pass_time(3600.0)
    assert len(job.meetings) == 1
    job.running.cancel()


def test_a_peer_that_cannot_be_asked_beside_the_relay_is_asked_when_the_next_attempt_is_due(job: Job) -> None:
    job.standing = Standing.RELAYED
    job.answer = lambda _: fail(NoDirectPath("the peer does not dial"))
    job.pass_time(3600.0)
    assert 5 < len(job.policies) < 12
    assert job.asked[-1] == ("bob", 0)
    assert (job.missed, job.over) == ([], [])


def test_who_cannot_be_asked_after_a_loss_is_asked_more_and_more_seldom_while_the_relay_carries(job: Job) -> None:
    """The peer is on its way back at first; a server that says E_RATE must not hear more of it."""
    job.direct_dies()
    job.answer = lambda _: fail(RateLimited("too many requests in a short time"))
    job.pass_time(HURRY_S)
    first = len(job.policies)
    assert first > HURRY_S / (LONGEST_PAUSE_S + 1)
    job.pass_time(3600.0)
    assert len(job.policies) < first + 13


@pytest.mark.parametrize("standing", [Standing.NOTHING, Standing.DIRECT])
def test_an_answer_that_comes_when_the_relay_carries_no_more_begins_no_meeting_beside_it(
    job: Job, standing: Standing
) -> None:
    job.standing = Standing.RELAYED
    coming: Deferred[object] = Deferred()
    job.answer = lambda _: coming
    job.pass_time(PAUSES_S[2] + 0.6)
    job.standing, job.answer = standing, succeed
    job.seeking.wake()
    coming.callback(object())
    assert job.policies == ["auto", "direct"] + (["auto"] if standing is Standing.NOTHING else [])
    assert not any(meeting.party.beside for meeting in job.meetings)


def test_a_relay_that_dies_while_it_is_asked_beside_it_is_followed_by_another_one(job: Job) -> None:
    job.standing = Standing.RELAYED
    coming: Deferred[object] = Deferred()
    job.answer = lambda _: coming
    job.pass_time(PAUSES_S[2] + 0.6)
    assert job.policies == ["auto", "direct"]
    job.standing, job.answer = Standing.NOTHING, succeed
    coming.errback(NoDirectPath("no"))
    job.pass_time(LONGEST_PAUSE_S)
    assert job.policies == ["auto", "direct", "auto"]
    assert not job.over


@pytest.mark.parametrize("standing", [Standing.NOTHING, Standing.DOUBTED])
def test_a_relay_that_dies_in_the_pause_before_a_new_punch_ends_the_pause(job: Job, standing: Standing) -> None:
    """What lost the direct path often takes the relay along a moment later."""
    job.standing = Standing.RELAYED
    job.seeking.wake()
    job.pass_time(0.1)
    job.seeking.wake()  # another path was lost, and the relay stands still
    job.pass_time(0.1)
    assert len(job.meetings) == 1
    job.standing = standing
    job.seeking.wake()
    job.pass_time(0.6)
    assert len(job.meetings) == 2


def test_no_answer_is_asked_again_with_growing_pauses_and_ends_a_search_that_never_began(job: Job) -> None:
    job.answer = lambda _: fail(Unreachable("nobody"))
    job.seeking.wake()
    job.pass_time(20)
    assert len(job.meetings) == 1
    assert 4 <= len(job.missed) <= 40
    assert not job.over
    job.begun = False
    job.pass_time(6)
    (failure,) = job.over
    assert failure.check(Unreachable)  # type: ignore[attr-defined]  # a Failure
    job.pass_time(20)
    assert not job.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("alias", "begun", "asked"),
    [
        (None, False, [("bob", 0)]),
        (None, True, [("bob", WAIT_S)]),
        ("bobby", False, [("bob", 0), ("bobby", 0)]),
        ("bobby", True, [("bob", 0), ("bobby", 0), ("bob", WAIT_S)]),
    ],
)
def test_only_a_peer_that_may_come_later_is_waited_for_at_the_server(
    alias: str | None, begun: bool, asked: list[tuple[str, int]]
) -> None:
    job = Job(replace(TARGET, alias=alias), begun, lambda _: fail(Unreachable("nobody")))
    assert job.asked == asked
    assert bool(job.over) is not begun
    job.running.cancel()


def test_a_peer_that_comes_while_the_server_waits_is_met_at_once() -> None:
    coming: Deferred[object] = Deferred()
    job = Job(answer=lambda _: coming)
    job.pass_time(WAIT_S / 2)
    assert not job.meetings
    coming.callback(object())
    assert len(job.meetings) == 1
    job.running.cancel()


def test_a_cancelled_search_leaves_nothing_behind(job: Job) -> None:
    job.running.cancel()
    assert job.over == [None]
    assert not job.clock.getDelayedCalls()


@pytest.mark.parametrize(("key", "spelling"), [(None, True), (bytes(32), False)])
def test_a_name_that_may_be_a_slip_is_told_as_one(key: bytes | None, spelling: bool) -> None:
    """Of a contact the key is known, so its name was not misspelled."""
    job = Job(replace(TARGET, key=key), False, lambda _: fail(Unreachable("this peer is not here now")))
    (ended,) = job.over
    message = str(getattr(ended, "value", None))
    assert message.startswith("bob is not here now: start p2pxfer receive there, or wait for it with --wait")
    assert message.endswith("; or the name is spelled otherwise there") == spelling
