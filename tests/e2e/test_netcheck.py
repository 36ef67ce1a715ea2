"""``p2pxfer netcheck`` on loopback, where there is no NAT, and its ways to fail."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.e2e.conftest import Stage
from tests.scene import last


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
        "why": nat["why"],
    }
    assert set(nat["why"]) == {"filtering", "hairpin"}
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
        "mapping", "outside", "outside", "filtering", "hairpin",
    ]  # fmt: skip
    assert "Others can reach this machine directly" in lines[-1]


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
    stage.fails(2, "E_USAGE", "unexpected extra argument", "netcheck", "bob")
    stage.fails(2, "E_USAGE", "--timeout", "netcheck", "--timeout", "nan")
