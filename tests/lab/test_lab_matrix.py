"""Runs of the matrix in both ways, one that cannot connect in time, and what the homes of the matrix have in them."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest

from scripts.matrixlib import attempts as module
from scripts.matrixlib.attempts import attempts, built
from scripts.matrixlib.homes import furnished, lab_of
from scripts.matrixlib.results import Attempt, Case, Way
from tests.lab import probe
from tests.lab.conftest import LabFactory
from tests.lab.habits import QUIET_S, UNANSWERED_S, shorten_memory
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.lab.topology import Lab

PUNCH = 23456


def runs(case: Case, count: int) -> list[Attempt]:
    """So many, one after the other in one lab."""
    with closing(attempts(case)) as more:  # type: ignore[type-var]  # a generator
        return list(islice(more, count))


@pytest.mark.deadline(90)
@pytest.mark.parametrize(
    "case",
    [
        Case("none", "port-restricted", "meetings"),
        Case("none", "port-restricted", "programs"),
        Case("sequential", "port-restricted/rst", "meetings"),
    ],
    ids=lambda case: f"{case.one}+{case.other}-{case.way}",
)
def test_runs_that_connect_have_their_times_and_their_syns(case: Case) -> None:
    """In one lab, one after the other: a first SYN is enough, or both cross, or a plan is made for every run anew."""
    for each in runs(case, 2):
        print(each)
        assert (each.case, each.reason) == (case, "")
        assert each.ms is not None
        assert each.tcp_ms is not None
        # The round trip between the two is 40 ms; the receiver may have dialled half of it before the sender knew.
        assert 15 < each.tcp_ms < each.ms < 10_000
        assert each.syns is not None
        assert 1 <= sum(each.syns) < (20 if case.one == "none" else 3000)


@pytest.mark.deadline(90)
def test_what_cannot_connect_says_what_a_sender_would() -> None:
    (done,) = runs(Case("port-restricted/no-simo", "port-restricted/no-simo"), 1)
    assert done.ms is None
    assert done.reason.startswith("no direct path to bob: the NAT here")


@pytest.mark.deadline(90)
@pytest.mark.parametrize("way", get_args(Way))
def test_a_run_that_does_not_end_in_time_is_a_failed_one(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can cross these NATs at once, and the limit is far below what the sender tries."""
    monkeypatch.setattr(module, "LIMIT", 0.2)
    (done,) = runs(Case("symmetric/no-simo", "symmetric/no-simo", way), 1)
    assert done.ms is None
    assert done.reason
    assert done.syns is not None


@pytest.mark.deadline(90)
def test_nothing_of_a_failed_meeting_is_left_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way between the homes is cut and the sender still dials when its time is over; then the way is free."""
    case = Case("port-restricted/rst", "port-restricted")
    with built(case) as (lab, scene), module.meetings(scene) as run:
        outside = ", ".join(lab.public_addr(router) for router in ("nat_a", "nat_b"))
        lab.block("pub", f"ip saddr {{ {outside} }} ip daddr {{ {outside} }}")
        with monkeypatch.context() as patched:
            patched.setattr(module, "LIMIT", 2.0)
            failed, counted = module.attempt(case, lab, run, 0, module.syns_of(lab))
        lab.unblock("pub")
        connected, _ = module.attempt(case, lab, run, 1, counted)
    assert failed.ms is None
    assert failed.reason.startswith("alice said nothing for 2 s")
    assert failed.syns is not None
    assert min(failed.syns) > 0
    assert connected.reason == ""
    assert connected.ms is not None


# -- what the homes have in them ---------------------------------------------------------------------------------------


@pytest.mark.deadline(60)
def test_a_router_that_gives_ports_makes_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else connects two NATs that draw every port at random from all; the port may be at either."""
    for one, other in (("symmetric", "mapped"), ("mapped", "symmetric")):
        (done,) = runs(Case(one, other), 1)
        assert done.reason == ""
    monkeypatch.setattr(module, "LIMIT", 5.0)
    (done,) = runs(Case("symmetric", "symmetric"), 1)
    assert done.ms is None


def test_others_take_ports_behind_a_busy_nat(tmp_path: Path) -> None:
    """Twenty a second, behind this NAT and not behind the other."""
    pair = ("sequential/busy", "sequential")
    begin = time.monotonic()
    with lab_of(Case(*pair)) as lab, furnished(pair, lab, tmp_path):
        server = probe.Server(lab)
        own = 0
        first = {role: server.observe(role, PUNCH, server.endpoints[0]).seen[1] for role in ("alice", "bob")}
        taken = {"alice": 0}
        while taken["alice"] <= 10:
            assert time.monotonic() < begin + 40
            time.sleep(0.2)
            own += 1
            now = {role: server.observe(role, PUNCH + own, server.endpoints[1]).seen[1] for role in first}
            taken = {role: now[role] - first[role] - own for role in first}
        passed = time.monotonic() - begin
    assert taken["bob"] == 0
    assert taken["alice"] < 20 * passed + 2


@pytest.mark.parametrize(("home", "ports"), [("web-only", {443}), ("port-restricted", {443, 9000})])
def test_who_may_dial_the_web_only_can_dial_nothing_else(home: str, ports: set[int], tmp_path: Path) -> None:
    with lab_of(Case(home, "none")) as lab, furnished((home, "none"), lab, tmp_path):
        listeners = [probe.listen(lab, "bob", port) for port in (443, 9000)]
        dials = [probe.dial(lab, "alice", (lab.addr("bob"), port), PUNCH) for port in (443, 9000)]
        answers = probe.settle(dials, 2.0)
        assert {
            dial.remote[1] for dial, found in zip(dials, answers, strict=True) if found is Answer.CONNECTED
        } == ports
        assert answers.count(Answer.SILENT) == len(listeners) - len(ports)


def remembered(lab: Lab) -> dict[str, int]:
    """For how many seconds alice's NAT still keeps its TCP connections, by their states."""
    listing = lab.run("nat_a", ["conntrack", "-L", "-p", "tcp"], check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[3]: int(row[2]) for row in rows}


@pytest.mark.parametrize("forgetful", [True, False])
def test_a_nat_with_a_short_memory_forgets_in_time(forgetful: bool, lab_factory: LabFactory) -> None:
    """A SYN that nobody answers opens a port for whom it was meant; an ordinary NAT remembers that for long."""
    lab = lab_factory(KINDS["port-restricted"], None, firewall_b="drop", rtt_ms=0)
    if forgetful:
        shorten_memory(lab, "nat_a")
    server = probe.Server(lab)
    held = server.observe("alice", PUNCH + 1, server.endpoints[0])
    # It has left when the call returns, and is not repeated.
    probe.dial(lab, "alice", (lab.addr("bob"), PUNCH), PUNCH).sock.close()
    times = remembered(lab)
    assert (times["ESTABLISHED"] <= QUIET_S) == forgetful
    assert (times.get("SYN_SENT", 0) <= UNANSWERED_S) == forgetful
    held.close()
    deadline = time.monotonic() + 20
    while forgetful and "SYN_SENT" in remembered(lab):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    tap = lab.socket("alice", socket.SOCK_RAW, socket.IPPROTO_TCP)
    probe.dial(lab, "bob", (lab.public_addr("nat_a"), PUNCH), PUNCH)
    assert arrives(tap) != forgetful


def arrives(tap: socket.socket) -> bool:
    """Whether anything for the punch port comes in within three seconds; the first header is the one of IPv4."""
    while (packet := probe.receive(tap, 3.0)) is not None:
        if packet[20:24] == struct.pack("!HH", PUNCH, PUNCH):
            return True
    return False
