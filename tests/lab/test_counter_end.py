"""A NAT that counts comes to the end of its ports just when the other side aims at those that come next."""

from __future__ import annotations

from contextlib import closing

import pytest

from scripts.matrixlib.attempts import acquaint, built, end, nominated, started
from scripts.matrixlib.results import Case
from scripts.product import STARTING
from tests.lab import plan
from tests.lab.nat import SEQUENTIAL_PORTS
from tests.lab.topology import Lab

STEP = 2
CHOICES = len(range(SEQUENTIAL_PORTS[0], SEQUENTIAL_PORTS[1] + 1, STEP))


def use_up(lab: Lab, left: int) -> None:
    """Make bob's NAT give out ports until ``left`` are left before it begins anew."""
    for _ in range((CHOICES - 1 - left - number_of(seen_of(lab))) % CHOICES):
        with closing(lab.socket("bob")) as sock:
            sock.setblocking(False)
            sock.connect_ex((lab.server_addresses[0], plan.DISCARD_PORT))


def seen_of(lab: Lab) -> int:
    """The port that a connection of bob's gets now."""
    with closing(lab.socket("srv")) as listener, closing(lab.socket("bob")) as sock:
        listener.bind((lab.server_addresses[1], 0))
        listener.listen()
        for each in (listener, sock):
            each.settimeout(10)
        sock.connect(listener.getsockname())
        there, (_, port) = listener.accept()
        there.close()
    return int(port)


def number_of(port: int) -> int:
    """Which of its choices the NAT gave."""
    return (port - SEQUENTIAL_PORTS[0]) // STEP


def test_a_counter_is_brought_to_its_end() -> None:
    with built(Case("none", "sequential-2")) as (lab, _):
        use_up(lab, 2)
        assert [seen_of(lab) for _ in range(3)] == [
            SEQUENTIAL_PORTS[0] + STEP * number for number in (CHOICES - 2, CHOICES - 1, 0)
        ]


@pytest.mark.deadline(150)
@pytest.mark.parametrize("other", ["port-restricted/rst-limited", "port-restricted", "sequential"])
def test_a_counter_that_comes_to_its_end_is_no_hindrance(other: str) -> None:
    """What the sender aims at lies beyond the end; so the receiver looks again where its NAT has come to."""
    with built(Case(other, "sequential-2")) as (lab, scene):
        lefts = range(4)
        for number in lefts:
            acquaint(scene.folder, number)
        with started(scene, "alice") as alice, started(scene, "bob") as bob:
            for program in (alice, bob):
                program.wait_for("ready", STARTING)
            for left in lefts:
                # The server is to see ports from the middle: those after the end would be candidates otherwise.
                use_up(lab, CHOICES // 2)
                bob.tell(f"meet {left}")
                bob.wait_for("registered", STARTING)
                use_up(lab, left)
                alice.tell(f"meet {left}")
                found = nominated(alice)
                print(f"{other}, {left} ports left: direct after {found[0]:.0f} ms, TCP after {found[1]} ms")
                for program in (alice, bob):
                    end(program)
                lab.flush_nat(*lab.kinds)
