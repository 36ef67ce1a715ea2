"""`p2pxfer pipe` between two NATs while its paths change: not a byte is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.pipes import joined
from tests.scene import Scene, file_hash, random_file

MIB = 1 << 20
SIZE = 192 * MIB


@pytest.mark.deadline(300)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_a_pipe_survives_the_loss_of_its_direct_path(lab_factory: LabFactory, tmp_path: Path, router: str) -> None:
    """Without the relay: another hole is punched, and both directions go on where they were."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        sources = {"alice": tmp_path / "one", "bob": tmp_path / "two"}
        hashes = {"bob": random_file(sources["alice"], SIZE), "alice": random_file(sources["bob"], SIZE // 4, seed=3)}
        ends = joined(scene, sources, "--path", "direct")
        out = tmp_path / "bob.out"
        wait_until(lambda: out.stat().st_size > SIZE // 8, 60)
        lab.reboot_nat(router, new_address=True)
        at = out.stat().st_size
        assert at < SIZE
        said = [end.ends(0, 120) for end in ends]
        assert lab.server_bytes() - before < 2 * MIB
        for text in said:
            assert text.count("path: punched") >= 2, text
        for role, digest in hashes.items():
            assert file_hash(tmp_path / f"{role}.out") == digest


@pytest.mark.deadline(300)
def test_a_pipe_goes_over_the_relay_and_survives_the_server(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        source = tmp_path / "one"
        digest = random_file(source, SIZE)
        ends = joined(scene, {"alice": source}, "--path", "relay")
        out = tmp_path / "bob.out"
        wait_until(lambda: out.stat().st_size > SIZE // 8, 60)
        server.stop()
        assert out.stat().st_size < SIZE
        scene.start_server()
        for end in ends:
            assert end.ends(0, 120).count("path: relay") >= 2
        assert file_hash(out) == digest
