"""A direct path on a poor line and a relay on a good one: data moves to the relay, and back when the line is mended."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import wait_until
from tests.lab import forgetful_program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.sending import MIB, Sending, path_is
from tests.lab.topology import Lab

SIZE = 128 * MIB
MOVED = 12 * MIB
"""When so much came by another path than before, that one carries."""
FRESH_S = 12
"""How long a path's measurement is believed here, seconds: at the relay's rate a third of the file."""
WINDOW = 400_000
"""What a kernel buffers for one connection, bytes: a poor line has that to drain before anything is known of it."""
KIND = "port-restricted/random-port"
POOR, RELAYED, GOOD = 0.8, 24.0, 80.0
"""What the way between the two homes carries at first and later, and the one from the server to bob, in Mbit/s."""


class Ways:
    """What comes to bob from alice's home and from the server, each at a rate of its own."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._tc("qdisc add dev pub-b root handle 1: htb default 0")
        for number, mbit in (("1:1", POOR), ("1:2", RELAYED)):
            self._tc(f"class add dev pub-b parent 1: classid {number} htb rate {mbit}mbit")
            self._tc(f"qdisc add dev pub-b parent {number} pfifo limit 50")
        sources = {"1:1": lab.public_addr("nat_a"), "1:2": ", ".join(lab.server_addresses)}
        rules = "".join(
            f"ip saddr {{ {source} }} ip daddr {lab.public_addr('nat_b')} meta priority set {number} counter\n"
            for number, source in sources.items()
        )
        lab.nft("pub", f"table ip lab_ways {{\nchain sort {{ type filter hook forward priority 0;\n{rules}}}\n}}\n")

    def _tc(self, words: str) -> None:
        self._lab.run("pub", ["tc", *words.split()], check=True)

    def mend(self) -> None:
        """The way between the homes is a good one from now on."""
        self._tc(f"class change dev pub-b parent 1: classid 1:1 htb rate {GOOD}mbit")

    def came(self) -> tuple[int, int]:
        """Bytes that came to bob directly, and by the relay."""
        shown = self._lab.run("pub", ["nft", "list", "table", "ip", "lab_ways"], check=True).stdout
        direct, relayed = map(int, re.findall(r"bytes (\d+)", shown))
        return direct, relayed


@pytest.mark.deadline(350)
def test_data_moves_to_a_better_relay_and_back_when_the_direct_path_recovers(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    """The direct path stands before the relay carried anything to speak of, and is the slow one, but not for ever."""
    lab = lab_factory(KINDS[KIND], KINDS[KIND], rtt_ms=20, tcp_window=WINDOW)
    ways = Ways(lab)
    with Sending(lab, tmp_path, SIZE, script=(forgetful_program.__file__, str(FRESH_S))) as sending:
        began = time.monotonic()
        sending.sender.until(path_is("punched", "active"))
        wait_until(lambda: ways.came()[1] > MOVED, 60)
        moved = time.monotonic() - began
        poor, _ = ways.came()
        ways.mend()
        wait_until(lambda: ways.came()[0] > poor + MOVED, 90)
        back = time.monotonic() - began
        relayed = ways.came()[1]
        said, _ = sending.arrives()
        direct, all_relayed = ways.came()
    print(f"by the relay after {moved:.0f} s ({poor} bytes came directly), directly after {back:.0f} s, then {direct}")
    assert all_relayed - relayed < (direct - poor) / 2
    changes = sum(map(path_is("relay", "active"), said)) + sum(map(path_is("punched", "active"), said))
    assert changes <= 6
