"""The library's endpoints between two NATs: a connection lives on while paths and server change."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.product import BIN, Program
from tests.lab import endpoint_program
from tests.lab.conftest import LabFactory
from tests.lab.nat import KINDS
from tests.scene import Scene

ROUNDS = 10
PATIENCE = 90.0
MIB = 1 << 20


class Ends:
    """Both ends of one connection, and what the one that connects has said."""

    def __init__(self, scene: Scene, path: str) -> None:
        for role, home in (("serve", scene.alice), ("ask", scene.bob)):
            argv: list[str | Path] = [BIN / "python", "-m", endpoint_program.__name__, role, path]
            env = {"P2PXFER_HOME": str(home), "P2PXFER_SERVER": scene.address}
            who = "alice" if role == "serve" else "bob"
            root = Path(__file__).parents[2]
            program = Program(scene.place, who, argv, scene.folder / f"{role}.log", env=env, cwd=root, commanded=True)
            scene.callback(program.stop)
            if role == "serve":
                assert next(program.events(PATIENCE)) == {"serves": True}
        self.program = program
        self.paths: list[str] = []
        self.rounds = 0

    def goes_on(self, until_paths: int) -> None:
        """Some more rounds came back whole, and so many paths have carried."""
        enough = self.rounds + ROUNDS
        for said in self.program.events(PATIENCE):
            if "path" in said:
                self.paths.append(said["path"])
            else:
                self.rounds = said["round"]
            if self.rounds >= enough and len(self.paths) >= until_paths:
                return
        raise AssertionError(f"it ended{self.program.last_words()}")

    def finish(self) -> None:
        self.program.tell("enough")
        self.program.succeed(PATIENCE)


@pytest.mark.deadline(240)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_a_connection_of_endpoints_lives_on_when_a_nat_moves(
    lab_factory: LabFactory, tmp_path: Path, router: str
) -> None:
    """Without the relay: another hole is punched."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        ends = Ends(scene, "direct")
        ends.goes_on(1)
        lab.reboot_nat(router, new_address=True)
        ends.goes_on(2)
        ends.finish()
        assert set(ends.paths) == {"punched"}
        assert lab.server_bytes() - before < MIB


@pytest.mark.deadline(240)
def test_a_connection_of_endpoints_over_the_relay_survives_the_server(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        ends = Ends(scene, "relay")
        ends.goes_on(1)
        server.stop()
        scene.start_server()
        ends.goes_on(2)
        ends.finish()
        assert set(ends.paths) == {"relay"}
        # There and back, each in and out of the server.
        assert lab.server_bytes() - before > 4 * endpoint_program.ROUND * ends.rounds
