from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace
from twisted.internet.task import Clock

from p2pxfer.net.server.admission import Admission, AdmissionSettings, Visitor, descriptor_ceiling

LIMITS = AdmissionSettings(accept_rate=1000, accept_burst=1000, pending=8, pending_per_source=3, per_source=5)


class Door:
    """An admission under test, and who was expelled in which order."""

    def __init__(self, limits: AdmissionSettings = LIMITS) -> None:
        self.clock = Clock()
        self.admission = Admission(self.clock, limits)
        self.expelled: list[str] = []
        self.visitors: dict[str, Visitor] = {}

    def come(self, label: str, address: str) -> bool:
        visitor = self.admission.admit(ip_address(address), lambda: self.expelled.append(label))
        if visitor is not None:
            self.visitors[label] = visitor
        return visitor is not None


def test_silence_ends_after_ten_seconds() -> None:
    door = Door()
    door.come("a", "8.8.8.8")
    door.clock.advance(9.9)
    assert door.expelled == []
    door.clock.advance(0.2)
    assert door.expelled == ["a"]


def test_the_first_message_has_five_more_seconds() -> None:
    door = Door()
    door.come("a", "8.8.8.8")
    door.clock.advance(9)
    door.visitors["a"].handshaken()
    door.clock.advance(4.9)
    assert door.expelled == []
    door.clock.advance(0.2)
    assert door.expelled == ["a"]


def test_who_is_known_stays() -> None:
    door = Door()
    door.come("a", "8.8.8.8")
    door.visitors["a"].handshaken()
    door.visitors["a"].settled()
    door.clock.advance(1e6)
    assert door.expelled == []
    assert (door.admission.pending, door.admission.total) == (0, 1)
    for _ in range(2):
        door.visitors["a"].gone()
    assert door.admission.total == 0
    assert door.clock.getDelayedCalls() == []


def test_a_source_that_floods_pushes_out_its_own() -> None:
    door = Door()
    door.come("calm", "9.9.9.9")
    for n in range(5):
        assert door.come(f"flood-{n}", "8.8.8.8")
    assert door.expelled == ["flood-0", "flood-1"]
    assert door.admission.pending == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("8.8.8.8", "::ffff:8.8.8.8", True),
        ("8.8.8.8", "8.8.8.9", False),
        ("2a00::1", "2a00::2", True),
        ("2a00::1", "2a00:0:0:1::1", False),
    ],
)
def test_what_counts_as_one_source(one: str, other: str, same: bool) -> None:
    door = Door(replace(LIMITS, pending_per_source=1))
    door.come("one", one)
    door.come("other", other)
    assert door.expelled == (["one"] if same else [])


def test_a_source_has_so_many_places_in_all() -> None:
    door = Door()
    for n in range(5):
        assert door.come(str(n), "8.8.8.8")
        door.visitors[str(n)].settled()
    assert not door.come("5", "8.8.8.8")
    assert door.come("other", "9.9.9.9")
    door.visitors["0"].gone()
    assert door.come("5", "8.8.8.8")


def test_the_oldest_stranger_makes_room_for_the_next() -> None:
    door = Door()
    for n in range(12):
        assert door.come(str(n), f"8.8.8.{n}")
    assert door.expelled == ["0", "1", "2", "3"]
    assert door.admission.pending == 8
    assert door.admission.evicted == 4


def test_descriptors_run_out_for_strangers_first() -> None:
    door = Door(replace(LIMITS, ceiling=3))
    for n in range(3):
        door.come(str(n), f"8.8.8.{n}")
    door.visitors["0"].settled()
    assert door.come("3", "8.8.8.3")
    assert door.expelled == ["1"]
    for label in ("2", "3"):
        door.visitors[label].settled()
    assert not door.come("4", "8.8.8.4")
    assert door.admission.total == 3


def test_the_rate_of_accepting_is_bounded() -> None:
    door = Door(replace(LIMITS, accept_rate=2, accept_burst=3, pending=100))
    assert [door.come(str(n), f"8.8.8.{n}") for n in range(4)] == [True, True, True, False]
    door.clock.advance(0.5)
    assert door.come("5", "8.8.8.5")
    assert not door.come("6", "8.8.8.6")
    assert door.admission.refused == 2


def test_the_ceiling_comes_from_the_system() -> None:
    assert descriptor_ceiling() > 0
