"""Two hosts with two ways to each other, through a NAT and by a cable of their own, each too slow for what is sent."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scripts.product import JsonEvent, Program
from tests.lab import twoways
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.lab.topology import Lab
from tests.lab.twoways import NET, SECOND, sent_bytes, slow_down
from tests.scene import Scene, events_of, file_hash, last, random_file

MIB = 1 << 20
SIZE = 32 * MIB
MBIT = 24.0
"""What either way carries."""
DEVICES = {"lan": SECOND, "punched": "eth0"}
CUTS = {"lan": ("bob", f"ip daddr {NET}.0/24"), "punched": ("nat_a", 'iifname "lan" oifname "lan"')}
"""Of each way where its packets are dropped, and which."""
MOST_CHANGES = 4
"""How often the active path may change at either end although both ways deliver the same."""
LATE = 10 * MIB
"""Most bytes that are sent again where a way is cut: what was under way on it."""


def two_ways(lab_factory: LabFactory) -> Lab:
    """Hosts whose router keeps them apart, but sends back what one sends to the other's outside endpoint."""
    lab = lab_factory(KINDS["port-restricted/hairpin"], one_nat=True, isolated=True, rtt_ms=20)
    twoways.join(lab)
    for device in DEVICES.values():
        slow_down(lab, "alice", device, MBIT)
    return lab


class Transfer:
    """One with the relay forbidden, and what the two programs say."""

    def __init__(self, lab: Lab, scene: Scene) -> None:
        scene.start_server()
        scene.make_contacts()
        self.source = scene.folder / "big.bin"
        self.digest = random_file(self.source, SIZE)
        self.before = {kind: sent_bytes(lab, "alice", device) for kind, device in DEVICES.items()}
        self.relayed = lab.server_bytes()
        self.receiver = scene.receive("--once", "--no-code", "--path", "direct")
        self.sender = scene.send(self.source, "--path", "direct")
        self.heard: list[JsonEvent] = []
        self._listening = threading.Thread(target=listen, args=(self.receiver, self.heard), daemon=True)
        self._listening.start()

    def finish(self, scene: Scene) -> None:
        """Both end well, and the file is right."""
        self.sender.succeed(30)
        self._listening.join(60)
        self.receiver.succeed(30)
        assert file_hash(scene.inbox / self.source.name) == self.digest

    def sent(self, lab: Lab) -> dict[str, int]:
        """What alice has sent by either way since the beginning."""
        return {kind: sent_bytes(lab, "alice", device) - self.before[kind] for kind, device in DEVICES.items()}


def listen(program: Program, heard: list[JsonEvent]) -> None:
    heard.extend(events_of(program))


@pytest.mark.deadline(120)
@pytest.mark.parametrize(("lan", "punched"), [(MBIT, MBIT), (36.0, 12.0)])
def test_one_transfer_goes_by_both_ways_at_once(
    lab_factory: LabFactory, tmp_path: Path, lan: float, punched: float
) -> None:
    """Each carries what its rate allows, which is counted at the cables and not only said by the programs."""
    lab = two_ways(lab_factory)
    for kind, mbit in (("lan", lan), ("punched", punched)):
        slow_down(lab, "alice", DEVICES[kind], mbit)
    with Scene(lab, tmp_path, loopback=False) as scene:
        transfer = Transfer(lab, scene)
        said = events_of(transfer.sender)
        transfer.finish(scene)
        sent = transfer.sent(lab)
        carried = last(transfer.heard, "done")["bytes_by_path"]
        print(f"at the cables {sent}, said {carried}")
        assert set(carried) == set(DEVICES)
        shares = {kind: count / SIZE for kind, count in carried.items()}
        assert shares["punched"] == pytest.approx(punched / (lan + punched), abs=0.15)
        assert all(sent[kind] >= carried[kind] for kind in DEVICES)
        assert sum(sent.values()) < SIZE + LATE
        assert lab.server_bytes() - transfer.relayed < MIB
    assert [event["event"] for event in said].count("introduced") == 1
    changes = [
        [event["path"] for event in events if event.get("state") == "active"] for events in (said, transfer.heard)
    ]
    print(f"the paths that were called active: {changes}")
    assert all(len(kinds) <= MOST_CHANGES for kinds in changes), "they took turns"


@pytest.mark.deadline(120)
@pytest.mark.parametrize("cut", CUTS)
def test_when_one_way_is_cut_the_other_one_goes_on(lab_factory: LabFactory, tmp_path: Path, cut: str) -> None:
    """Without another introduction, and at no time without a path; only what was under way is sent again."""
    lab = two_ways(lab_factory)
    with Scene(lab, tmp_path, loopback=False) as scene:
        transfer = Transfer(lab, scene)
        said: list[JsonEvent] = []
        stopped = 0
        for event in transfer.sender.events(60):
            said.append(event)
            sent = transfer.sent(lab)
            if not stopped and min(sent.values()) > SIZE // 8:
                lab.block(*CUTS[cut])
                stopped = sent[cut]
        transfer.finish(scene)
        sent = transfer.sent(lab)
        carried = last(transfer.heard, "done")["bytes_by_path"]
        print(f"{cut} cut after {stopped}, in the end {sent}, said {carried}")
        assert stopped
        assert lab.server_bytes() - transfer.relayed < MIB
    downs = [event["why"] for event in said if event.get("state") == "down" and event["path"] == cut]
    # A connection beside it may have been tried, and have gone for that.
    assert any("does not arrive" in why or "silent" in why for why in downs), downs
    assert set(carried) == set(DEVICES)
    assert SIZE <= sum(carried.values()) < SIZE + LATE
    assert [event["event"] for event in said].count("introduced") == 1
    assert not any(event["event"] == "note" for event in said), "the transfer was never without a path"
