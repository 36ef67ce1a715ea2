"""``p2pxfer netcheck`` on loopback, where there is no NAT, alone and with a peer, and its ways to fail."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact, Home
from scripts.product import JsonEvent, Program
from tests.e2e.conftest import Outcome, Stage, names_in
from tests.scene import WORDS, events_of, file_hash, last, random_file


def test_events(stage: Stage) -> None:
    outcome = stage.run("netcheck", as_json=True)
    assert (outcome.status, outcome.err) == (0, "")
    nat = last(outcome.events, "nat")
    assert nat.pop("t") >= 0
    assert nat == {
        "event": "nat",
        "mapping": "none",
        "filtering": "unknown",
        "ports": "preserving",
        "hairpin": "unknown",
        "step": 0,
        "low": 0,
        "high": 0,
        "addresses": ["127.0.0.1"],
        "router": [],
        "mapped": [],
        "why": nat["why"],
        "side": "here",
        "unsolicited": "rst",
        "simultaneous": "yes",
    }
    assert set(nat["why"]) == {"filtering", "hairpin", "mapped"}
    assert "no other address" in nat["why"]["filtering"]
    registered = last(outcome.events, "registered")
    assert registered["name"] == ""
    assert registered["observed"].startswith("127.0.0.1:")
    assert outcome.events[-1]["event"] == "nat"


def test_text(stage: Stage) -> None:
    outcome = stage.run("netcheck")
    assert (outcome.status, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    assert lines[0].startswith("asking the server at 127.0.0.1:")
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [
        "mapping", "outside", "outside", "filtering", "unasked", "simultaneous", "hairpin", "port",
    ]  # fmt: skip
    assert "Others can reach this machine directly" in lines[-1]
    quiet = stage.run("--quiet", "netcheck")
    assert (quiet.status, quiet.out) == (0, "")
    assert "asking the server" not in quiet.err
    assert "Others can reach this machine directly" in quiet.err


def test_a_server_with_one_endpoint_cannot_tell(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        stage.ports = stage.ports[:1]  # type: ignore[assignment]  # one instead of two
        stage.start_server()
        outcome = stage.run("netcheck", as_json=True)
        nat = last(outcome.events, "nat")
        assert (outcome.status, nat["mapping"]) == (0, "unknown")
        assert "one endpoint" in nat["why"]["mapping"]
        text = stage.run("netcheck").err
        assert "unknown: the server has one endpoint only" in text
        assert "Direct paths are tried in any case" in text


def test_without_a_server(stage: Stage) -> None:
    stage.fails_plainly(2, "no rendezvous server is set", "netcheck", server="")
    pin = stage.address.partition("#")[2]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}#{pin}"
        outcome = stage.run("netcheck", server=nowhere)
    assert outcome.status == 3
    assert "cannot be reached" in outcome.err.splitlines()[-1]


def test_a_server_that_says_nothing(stage: Stage) -> None:
    pin = stage.address.partition("#")[2]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}#{pin}"
        outcome = stage.run("netcheck", "--timeout", "1", server=address, as_json=True)
    assert outcome.status == 3
    error = last(outcome.events, "error")
    assert (error["code"], error["retry"]) == ("E_PEER_GONE", True)
    assert "within 1 seconds" in error["message"]


def test_nonsense_is_refused(stage: Stage) -> None:
    stage.fails(2, "E_USAGE", "unexpected extra argument", "netcheck", "bob", "carol")
    stage.fails(2, "E_USAGE", "with a PEER", "netcheck", "--path", "relay")
    stage.fails(2, "E_USAGE", "with a PEER", "netcheck", "--gentle")
    stage.fails(2, "E_USAGE", "Invalid value", "netcheck", "bob", "--path", "short")
    stage.fails(2, "E_USAGE", "--timeout", "netcheck", "--timeout", "nan")


# -- with a peer -------------------------------------------------------------------------------------------------------


DIRECT = {"direct": ("open", "both"), "ipv6": ("ipv6", "")}
"""A direct path on loopback, which has both families, and why it came."""


def checked(stage: Stage, *words: str) -> Outcome:
    """Alice checks with bob; must succeed."""
    outcome = stage.run("netcheck", "bob", *words, as_json=True)
    assert (outcome.status, outcome.err) == (0, ""), outcome
    return outcome


def paths(events: list[JsonEvent], state: str = "up") -> set[str]:
    return {event["path"] for event in events if event["event"] == "path" and event["state"] == state}


@contextlib.contextmanager
def stopped(program: Program) -> Iterator[None]:
    """For so long the program does nothing, though it is registered."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(program.pid, signal.SIGCONT)


def test_a_check_is_no_transfer(pair: Stage) -> None:
    """The receiver is not used up by it: no question, no code spent, nothing written; then ``--once`` takes a file."""
    bob = pair.receive("--once")
    outcome = checked(pair)
    checked(pair)
    assert names_in(pair.inbox) == []
    pair.send_good()
    bob.succeed(20)
    events = events_of(bob)
    names = [event["event"] for event in events]
    assert [names.count(name) for name in ("code", "offer", "done", "error")] == [1, 1, 1, 0]
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert notes == ["alice checks the network; nothing is offered"] * 2
    before = events[: names.index("offer")]
    assert {event["why"] for event in before if event["event"] == "path" and event["state"] == "down"} == {
        "the session is over"
    }
    # What alice saw of the first check.
    assert [event["event"] for event in outcome.events if event["event"] in ("introduced", "peer", "verdict")] == [
        "introduced", "peer", "verdict",
    ]  # fmt: skip


def test_events_of_a_check(pair: Stage) -> None:
    pair.receive()
    events = checked(pair).events
    here, there = (event for event in events if event["event"] == "nat")
    assert (here["side"], there["side"]) == ("here", "there")
    for nat in (here, there):
        assert (nat["mapping"], nat["ports"], nat["addresses"]) == ("none", "preserving", ["127.0.0.1"])
        assert (nat["filtering"], "no other address" in nat["why"]["filtering"]) == ("unknown", True)
    verdict = events[-1]
    assert verdict.pop("t") > 0
    assert 0 < verdict.pop("after_ms") < 10_000
    assert verdict.pop("rtt_ms") > 0
    path = verdict.pop("path")
    assert DIRECT[path] == (verdict.pop("reason"), verdict.pop("where"))
    assert verdict.pop("message").startswith("The path to bob: direct")
    assert verdict == {"event": "verdict", "change": "none", "at": ""}
    assert path in paths(events)
    assert last(events, "peer")["verified"] == "contact"


def test_text_of_a_check(pair: Stage) -> None:
    pair.receive()
    outcome = pair.run("netcheck", "bob")
    assert (outcome.status, outcome.out) == (0, "")
    lines = outcome.err.splitlines()
    table = [line for line in lines if line.startswith("  ")]
    assert table[0].split() == ["here", "bob"]
    assert table[1].split() == ["mapping", "none", "none"]
    assert [line for line in lines if line.startswith("asking")][1:] == [
        "asking the server for bob", "asking bob what it finds on its side",
    ]  # fmt: skip
    assert lines[-2].startswith("The path to bob: direct")
    assert lines[-1] in (
        "Each side has an address of its own, without a NAT.",
        "Both have IPv6, where nothing is translated.",
    )


@pytest.mark.parametrize("mine", [True, False], ids=["here", "there"])
def test_only_the_relay_is_allowed(pair: Stage, mine: bool) -> None:
    """A verdict for the relay is a check that was made: 0."""
    bob = pair.receive(*([] if mine else ["--path", "relay"]))
    outcome = checked(pair, *(["--path", "relay"] if mine else []))
    verdict = last(outcome.events, "verdict")
    side = "here" if mine else "there"
    assert (verdict["path"], verdict["reason"], verdict["change"]) == ("relay", "forbidden", "allow")
    assert (verdict["where"], verdict["at"]) == (side, side)
    assert "leave out --path relay" in verdict["message"]
    assert paths(outcome.events) == {"relay"}
    bob.stop()
    assert paths(events_of(bob)) == {"relay"}


def test_never_the_relay(pair: Stage) -> None:
    pair.receive()
    outcome = checked(pair, "--path", "direct")
    assert paths(outcome.events) <= DIRECT.keys()
    assert last(outcome.events, "verdict")["path"] in DIRECT


def test_a_check_beside_a_transfer_of_the_same_peer(pair: Stage) -> None:
    """Nothing of the transfer is lost when the check ends its paths."""
    bob = pair.receive()
    source = pair.folder / "large.bin"
    digest = random_file(source, 24 << 20)
    alice = pair.send(source, "--limit", "8M")  # else it may be through before it is stopped
    bob.wait_for("accepted")
    with stopped(alice):
        checked(pair)
    alice.succeed(60)
    assert file_hash(pair.inbox / source.name) == digest


def test_nothing_is_claimed_that_the_server_could_not_show(tmp_path: Path) -> None:
    """With one endpoint it sees no mapping; the path is measured all the same."""
    with Stage(tmp_path) as stage:
        stage.ports = stage.ports[:1]  # type: ignore[assignment]  # one instead of two
        stage.start_server()
        stage.make_contacts()
        stage.receive()
        events = checked(stage).events
        here, there = (event for event in events if event["event"] == "nat")
        assert (here["mapping"], there["mapping"]) == ("unknown", "unknown")
        assert "one endpoint" in here["why"]["mapping"]
        assert "did not see enough" in there["why"]["mapping"]
        verdict = last(events, "verdict")
        assert (verdict["path"], verdict["reason"]) in (("direct", "met"), ("ipv6", "ipv6"))


# -- and fails ---------------------------------------------------------------------------------------------------------


def test_who_is_no_contact_is_not_checked_with(stage: Stage) -> None:
    bob = stage.receive()
    stage.fails(2, "E_USAGE", "bob is not a contact", "netcheck", "bob")
    stage.fails(2, "E_USAGE", "not a peer id", "netcheck", "p2px1-nonsense")
    bob.stop()
    assert not [event for event in events_of(bob) if event["event"] == "introduced"]


def test_a_peer_that_is_not_there(pair: Stage) -> None:
    pair.fails(3, "E_PEER_GONE", "bob is not here now: start p2pxfer receive there", "netcheck", "bob")


def forget_alice(stage: Stage) -> None:
    assert stage.run("contacts", "remove", "alice", home=stage.bob).status == 0


@pytest.mark.parametrize("acceptance", ["ask", "all"])
def test_a_stranger_learns_nothing_and_spends_no_code(pair: Stage, acceptance: str) -> None:
    forget_alice(pair)
    if acceptance == "ask":
        answers, into = os.pipe()
        pair.callback(os.close, into)
        bob = pair.asking_receiver(answers, "--code", WORDS)
        os.close(answers)
    else:
        bob = pair.receive("--code", WORDS, "--accept", acceptance)
    pair.fails(4, "E_UNKNOWN", "does not know this key", "netcheck", "bob")
    bob.stop()
    events = events_of(bob)
    assert [event["code"] for event in events if event["event"] == "error"] == ["E_INTERRUPTED"]
    assert not [event for event in events if event["event"] in ("offer", "done")]
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert all("is no contact here: nothing was taken" in note for note in notes), notes
    assert len([event for event in events if event["event"] == "code"]) == 1


def test_a_receiver_that_meets_no_strangers_does_not_answer_one(pair: Stage) -> None:
    forget_alice(pair)
    bob = pair.receive("--no-code")
    pair.fails(3, "E_PEER_GONE", "within 3 seconds", "netcheck", "bob", "--timeout", "3")
    bob.stop()
    assert not [event for event in events_of(bob) if event["event"] == "introduced"]


def test_a_peer_with_another_key(pair: Stage) -> None:
    """Nobody has the key of the contact, and somebody else has its name."""
    pair.receive()
    Home(pair.alice).remove_contact("bob")
    other = PeerId(Home(pair.folder / "carol-home").identity().id.digest)
    Home(pair.alice).add_contact(Contact("bob", other, "code", datetime.date.today().isoformat()))
    pair.fails(5, "E_PIN", "was verified before", "netcheck", "bob")


def test_a_peer_that_does_nothing(pair: Stage) -> None:
    with stopped(pair.receive()):
        line = pair.fails(3, "E_PEER_GONE", "bob was not over within 4 seconds", "netcheck", "bob", "--timeout", "4")
    assert line.startswith("p2pxfer: ")


def test_interrupted(pair: Stage) -> None:
    with stopped(pair.receive()):
        alice = pair.program("alice", pair.alice, "netcheck", "bob")
        alice.wait_for("introduced")
        os.kill(alice.pid, signal.SIGINT)
        assert alice.wait(40).status == 130
    error = events_of(alice)[-1]
    assert (error["event"], error["code"]) == ("error", "E_INTERRUPTED")
    assert error["message"] == "interrupted before the check was over"
