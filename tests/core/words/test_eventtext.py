"""Sizes in words."""

from __future__ import annotations

import pytest

from p2pxfer.core.words.eventtext import describe, human_size, received_text, superseded_text
from p2pxfer.status import Done

KIB, MIB, GIB, TIB = (1 << power for power in (10, 20, 30, 40))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1023.7, "1.0 KiB"),
        (KIB, "1.0 KiB"),
        (MIB - 60, "1023.9 KiB"),
        (MIB - 1, "1.0 MiB"),
        (MIB, "1.0 MiB"),
        (GIB - 1, "1.0 GiB"),
        (TIB - 1, "1.0 TiB"),
        (5000 * TIB, "5000.0 TiB"),
    ],
)
def test_no_size_is_1024_of_a_unit_that_has_a_next_one(size: float, text: str) -> None:
    assert human_size(size) == text


def test_what_came_is_said_with_whom_it_came_from_and_where_it_is() -> None:
    done = Done(5, 2, 2.0, {"relay": 5}, "00", ("a.txt", "b\x1b.txt"))
    assert received_text(done, "bob", "/home/x/in").splitlines()[1:] == [
        "saved a.txt from bob in /home/x/in",
        "saved b\\x1b.txt from bob in /home/x/in",
    ]
    assert received_text(done, "bob", "").splitlines()[1] == "saved a.txt from bob"
    assert received_text(done, "bob", None).splitlines()[1] == "written to a.txt from bob"


def test_what_did_not_come_is_said_file_by_file() -> None:
    done = Done(5, 2, 2.0, {"relay": 5}, "00", left_out=("d/x\x1b", "d/y"))
    said = describe(done).splitlines()
    assert said[1:] == [
        "left out d/x\\x1b: it changed or could not be read while it was sent",
        "left out d/y: it changed or could not be read while it was sent",
    ]


def test_what_is_kept_of_an_earlier_transfer_is_said_with_the_way_to_drop_it() -> None:
    assert superseded_text(3, ["a", "b", "c", "d"], "7") == (
        "3 B are kept of an earlier transfer of the same name, a, b, c ...: p2pxfer jobs cancel 7 drops them"
    )
