"""`send -` to `receive --stdout` between two NATs while the path is cut: not a byte is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene, file_hash, random_file
from tests.streams import giver, opened, taker

MIB = 1 << 20
SIZE = 192 * MIB


@pytest.mark.deadline(300)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_a_stream_survives_the_loss_of_its_direct_path(lab_factory: LabFactory, tmp_path: Path, router: str) -> None:
    """Without the relay: a NAT forgets everything and gets another address; another hole is punched."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        source, out = tmp_path / "in", tmp_path / "out"
        digest = random_file(source, SIZE)
        with opened(out) as target:
            bob = taker(scene, target, "--path", "direct")
        with source.open("rb") as file:
            alice = giver(scene, file, "--path", "direct", "--limit", "24M")
        wait_until(lambda: out.stat().st_size > SIZE // 8, 60)
        lab.reboot_nat(router, new_address=True)
        assert out.stat().st_size < SIZE
        said = [end.ends(0, 120) for end in (alice, bob)]
        assert lab.server_bytes() - before < 2 * MIB
        assert said[0].count("path: punched") >= 2, said
        assert file_hash(out) == digest


@pytest.mark.deadline(300)
def test_a_stream_into_a_file_survives_the_server(lab_factory: LabFactory, tmp_path: Path) -> None:
    """Over the relay; the file appears whole, and only then."""
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        source = tmp_path / "in"
        digest = random_file(source, SIZE // 2)
        bob = scene.receive("--no-code", "--once", "--path", "relay")
        with source.open("rb") as file:
            alice = giver(scene, file, "--path", "relay", "--name", "dump.bin", "--limit", "16M")
        arrived = scene.inbox.glob
        wait_until(lambda: any(path.stat().st_size > SIZE // 16 for path in arrived(".p2pxfer-*/data")), 60)
        server.stop()
        assert not (scene.inbox / "dump.bin").exists()
        scene.start_server()
        assert alice.ends(0, 120).count("path: relay") >= 2
        bob.succeed(30)
        assert file_hash(scene.inbox / "dump.bin") == digest
        assert lab.server_bytes() - before > 2 * (SIZE // 2)
