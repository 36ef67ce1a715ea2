"""What people read about each event, and that no kind of event was forgotten."""

from __future__ import annotations

import json
import re
import typing

import pytest
from msgspec import structs

from p2pxfer import inventory, status
from p2pxfer.cli.report import TRIED, Reporter
from p2pxfer.core.words.eventtext import describe
from p2pxfer.status import Nat

EVENTS: dict[type, tuple[status.Event, str]] = {
    inventory.Identity: (inventory.Identity("id", "alice", "h:1", "/home"), ""),
    inventory.JobListed: (inventory.JobListed("12345678", "send", "bob", ("a",), 1, 2, "/", "2026-01-01", "cut"), ""),
    inventory.Agent: (inventory.Agent(1, 2.5, "bob", "id", "h:1", "1.2.3.4:5", True, 0, 0, 0), ""),
    inventory.QueuedOne: (
        inventory.QueuedOne("12345678", "bob", ("a\x1b", "b", "c", "d"), attended=False),
        r"queued as 12345678: a\\x1b, b, c ... to bob; no agent runs .* nothing is sent$",
    ),
    inventory.ContactListed: (inventory.ContactListed("bob", "id", "code", "2026-01-01", "known"), ""),
    status.Registered: (status.Registered("bob", "id", "1.2.3.4:5"), "registered as bob, seen as 1.2.3.4:5"),
    status.CodeShown: (status.CodeShown("3-a-b-c", 600), "3-a-b-c .*10 minutes"),
    status.Words: (
        status.Words("anna\x1b", ("one", "two")),
        r"compare by voice with anna\\x1b: one two",
    ),
    status.Peer: (status.Peer("alice", "id", "code"), "peer alice id .verified by code."),
    status.Nat: (status.Nat("x", "x", "x", "x"), ""),
    status.Path: (status.Path("direct", "active", "l", "r", 3.0, 20.0, ""), "path: direct to r after 0.02 s"),
    status.Introduced: (status.Introduced("s", "p"), ""),
    status.Verdict: (
        status.Verdict("relay", 20.0, None, "both-random", "both", "map", "either", "Only the relay.\x1b"),
        r"Only the relay.\\x1b$",
    ),
    status.Offer: (status.Offer(2, 2048, ("a", "b")), "offered: a, b .2 files, 2.0 KiB"),
    status.Accepted: (status.Accepted(), ""),
    status.RefusedOffer: (status.RefusedOffer("because"), "refused: because"),
    status.Progress: (status.Progress(1, 2, 3.0, "direct"), ""),
    status.Resumed: (status.Resumed(1024), "1.0 KiB are here already"),
    status.Done: (status.Done(5, 1, 2.0, {"relay": 5}, "00", ("a.txt",)), "done: 1 file, 5 B in 2.0 s.*\nsaved a.txt"),
    status.Exposed: (status.Exposed("web", "h:80", ("bob", "eve")), "h:80 is exposed as web to bob, eve"),
    status.Listening: (status.Listening("h:8080", "alice", "web"), "listening at h:8080 for web of alice"),
    status.Connection: (
        status.Connection(1, "alice", "web", "refused", 0, why="no\x1b"),
        r"no connection with alice for web: no\\x1b$",
    ),
    status.ChatLine: (status.ChatLine("00", "there", "hello", 0, "received"), ""),
    status.Note: (status.Note("something"), "something"),
    status.Failed: (status.Failed("E_DISK", "the disk\x1b is full", True), r"error: the disk\\x1b is full"),
}


def test_every_kind_of_event_is_shown_or_silent_on_purpose() -> None:
    assert set(EVENTS) == set(typing.get_args(status.Event))
    named = {kind for kind in vars(status).values() if isinstance(kind, type) and hasattr(kind, "event")}
    assert set(EVENTS) == named


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_what_people_read(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    event, pattern = EVENTS[kind]
    assert re.search(pattern, describe(event)) if pattern else not describe(event)
    Reporter(False).tell(event)
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err == (describe(event) + "\n" if pattern else "")


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_what_programs_read(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    event, _ = EVENTS[kind]
    Reporter(True).tell(event)
    shown = capsys.readouterr()
    assert not shown.err
    assert json.loads(shown.out)["event"] == event.event


MIB = 1 << 20


@pytest.mark.parametrize(
    ("moved", "says"),
    [
        ({"relay": 8 * MIB}, "done: 1 file, 8.0 MiB in 2.0 s (4.0 MiB/s); relay 8.0 MiB (100 %)"),
        (
            {"relay": MIB, "direct": MIB},
            "done: 1 file, 8.0 MiB, of which 2.0 MiB were sent, in 2.0 s; relay",
        ),
        ({}, "done: 1 file, 8.0 MiB, of which nothing had to be sent, in 2.0 s"),
        ({"direct": 9 * MIB}, "done: 1 file, 8.0 MiB, with repeats 9.0 MiB were sent, in 2.0 s (4.5 MiB/s); direct"),
    ],
)
def test_what_was_sent_is_told_from_what_is_whole(moved: dict[str, int], says: str) -> None:
    """After a delta, or a cut, it is less than there is."""
    assert describe(status.Done(8 * MIB, 1, 2.0, moved, "00")).startswith(says)


class Screen:
    """A terminal with a progress display, as far as the reporter sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[str] = []
        self.waits: list[str | None] = []
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setattr("p2pxfer.cli.display.display_of", self._make)

    def _make(self, news: str) -> Screen:
        self.shown.append(f"display{news}")
        return self

    def tell(self, news: str) -> None:
        self.shown.append(f"news: {news}")

    def update(self, event: status.Progress, waits: str | None) -> None:
        self.waits.append(waits)

    def say(self, text: str) -> None:
        self.shown.append(text)

    def close(self) -> None:
        self.shown.append("closed")


def test_a_failure_takes_the_progress_display_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False)
    report.tell(EVENTS[status.Progress][0])
    report.tell(EVENTS[status.Failed][0])
    assert screen.shown == ["display", "closed"]
    assert capsys.readouterr().err == "error: the disk\\x1b is full\n"


def test_no_progress_runs_over_a_question(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False)
    report.tell(EVENTS[status.Progress][0])
    report.ask("well? ")
    report.tell(EVENTS[status.Progress][0])
    assert screen.shown == ["display", "closed"]
    report.answered(echoed=True)
    report.tell(EVENTS[status.Progress][0])
    assert screen.shown == ["display", "closed", "display"]
    report.ask("well? ")
    report.close()
    report.close()
    assert capsys.readouterr().err == "well? well? \n"


def test_what_is_said_while_a_question_is_open_has_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen(monkeypatch)
    report = Reporter(False)
    report.ask("well? ")
    report.tell(status.Note("something else"))
    report.answered(echoed=True)
    report.tell(status.Note("more"))
    assert capsys.readouterr().err == "well? \nsomething else\nwell? more\n"


def test_of_a_question_of_several_lines_the_last_comes_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen(monkeypatch)
    report = Reporter(False)
    report.ask("wrong code\nwell? ")
    report.tell(status.Note("something else"))
    assert capsys.readouterr().err == "wrong code\nwell? \nsomething else\nwell? "


def test_what_was_there_before_is_no_part_of_the_rate_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next display begins with it."""
    screen = Screen(monkeypatch)
    report = Reporter(False)
    for event in (status.Progress, status.Resumed, status.Progress):
        report.tell(EVENTS[event][0])
    assert [text for text in screen.shown if text in ("display", "closed")] == ["display", "closed", "display"]


def test_what_arrived_takes_the_progress_display_away_in_other_words_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False)
    report.tell(EVENTS[status.Progress][0])
    report.tell(EVENTS[status.Done][0], "done, and where")
    assert screen.shown == ["display", "closed"]
    assert capsys.readouterr().err == "done, and where\n"


def test_progress_that_rests_is_taken_away_and_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False)
    progress = EVENTS[status.Progress][0]
    report.tell(progress, "")
    assert screen.shown == []
    report.tell(progress, "waiting for alice")
    report.rest()
    report.tell(progress)
    assert [text for text in screen.shown if text in ("display", "closed")] == ["display", "closed", "display"]
    assert screen.waits == ["waiting for alice", None]


def test_what_is_tried_and_why_not_stands_beside_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False)
    relay, direct = (status.Path(kind, "active", "l", "r", 3.0, 20.0, "") for kind in ("relay", "direct"))
    report.tell(relay, f"{describe(relay)}; {TRIED}")
    report.tell(EVENTS[status.Progress][0])
    report.tell(EVENTS[status.Verdict][0])
    report.tell(direct)
    report.tell(EVENTS[status.Verdict][0])
    report.tell(relay)
    report.tell(status.Path("direct", "down", "l", "r", 3.0, 20.0, "it broke"))
    assert [text for text in screen.shown if text.startswith(("display", "news"))] == [
        f"display{TRIED}", "news: Only the relay.\\x1b", "news: ",
        "news: Only the relay.\\x1b", "news: path lost: direct (it broke)",
    ]  # fmt: skip


def test_quiet_people_see_what_they_must(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(monkeypatch)
    report = Reporter(False, quiet=True)
    for event, _ in EVENTS.values():
        report.tell(event, "a text" if isinstance(event, status.Path) else None)
    report.ask("well? ")
    report.answered(echoed=True)
    report.tell(status.Connection(1, "alice", "web", "open", 1), "a text")
    assert screen.shown == []
    must = (status.CodeShown, status.Words, status.Listening, status.Connection, status.Failed)
    seen = [EVENTS[kind][0] for kind in EVENTS if kind in must]
    assert capsys.readouterr().err == "".join(describe(event) + "\n" for event in seen) + "well? "


def test_what_the_command_was_called_for_is_seen_by_quiet_people_too(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter(False, quiet=True)
    report.tell(status.Note("on the way"))
    report.tell(status.Note("found"), wanted=True)
    assert capsys.readouterr().err == "found\n"


# -- a NAT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nat", "says"),
    [
        (Nat("none", "unknown", "preserving", "unknown"), ["address to itself", "can reach this machine directly"]),
        (
            Nat("endpoint-independent", "unknown", "changed", "unknown"),
            ["same for every destination", "another number than inside", "whose NAT keeps its mapping"],
        ),
        (
            Nat("port-dependent", "unknown", "sequential", "unknown", 2, addresses=("198.18.1.1",)),
            ["symmetric", "in a row, +2 for every connection", "198.18.1.1", "direct paths are harder"],
        ),
        (
            Nat("address-dependent", "unknown", "block", "unknown", 0, 2048, 2559, ("198.18.1.1", "198.18.1.2")),
            ["from a block, 2048 to 2559 (estimated)", "198.18.1.1, 198.18.1.2", "changes from connection"],
        ),
        (Nat("unknown", "unknown", "unknown", "unknown"), ["unknown: nobody answered", "tried in any case"]),
        (
            Nat("port-dependent", "x", "random", "x", router=("pcp", "upnp"), mapped=("198.18.1.1:40000",)),
            ["speaks PCP and UPnP, and leads 198.18.1.1:40000 here", "through the port that the router gives it"],
        ),
        (Nat("port-dependent", "x", "random", "x", router=("nat-pmp",)), ["no use: the router speaks NAT-PMP, but"]),
    ],
)
def test_what_is_said_of_a_nat(nat: Nat, says: list[str]) -> None:
    why = {"mapping": "nobody answered"} if nat.mapping == "unknown" else {"hairpin": "it is not measured"}
    text = describe(structs.replace(nat, why=why))
    for words in says:
        assert words in text
    assert text.splitlines()[-1].endswith(".")
    assert not text.splitlines()[-1].startswith(" ")
    assert describe(nat) == ""  # beside a transfer it is for programs
