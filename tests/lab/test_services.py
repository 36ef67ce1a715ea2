"""Services behind NAT: connections that live on while paths and server change, and ssh and rsync as people use them."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import BIN, Program
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import entered
from tests.lab.nat import KINDS
from tests.lab.talking import ROUND, Talk, all_went_on
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file
from tests.services import Service, echo

MIB = 1 << 20
TOOLS = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "rsync": "rsync"}


@contextlib.contextmanager
def exposed(scene: Scene, lab: Lab, *words: str) -> Iterator[tuple[str, Program]]:
    """An echo of alice at a port of bob's home."""
    with entered(lab.names["alice"]):
        service = Service(echo)
    with service:
        alice = scene.program("alice", scene.alice, "expose", service.address, "--to", "bob", *words)
        alice.wait_for("exposed")
        bob = scene.program("bob", scene.bob, "connect", "alice", "--listen", "0", *words)
        yield str(bob.wait_for("listening")["address"]), bob


@pytest.mark.deadline(300)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_connections_live_on_when_a_nat_forgets_and_moves(lab_factory: LabFactory, tmp_path: Path, router: str) -> None:
    """Without the relay: another hole is punched, and every connection goes on where it was."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        with exposed(scene, lab, "--path", "direct") as (at, bob):
            talks = [Talk(lab, at) for _ in range(8)]
            all_went_on(talks)
            assert bob.wait_for("path")["path"] == "punched"
            lab.reboot_nat(router, new_address=True)
            all_went_on(talks)
            for talk in talks:
                talk.ends()
            assert lab.server_bytes() - before < 2 * MIB
            active = [event for event in bob_events(bob) if event["event"] == "path" and event["state"] == "up"]
            assert {event["path"] for event in active} == {"punched"}


def bob_events(program: Program) -> list[dict[str, object]]:
    """What a program has still to say until it is stopped."""
    program.stop()
    return list(program.events(30))


@pytest.mark.deadline(300)
def test_connections_over_the_relay_live_on_when_the_server_is_started_anew(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    lab = lab_factory(KINDS["symmetric"], KINDS["symmetric"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        with exposed(scene, lab, "--path", "relay") as (at, _):
            talks = [Talk(lab, at) for _ in range(8)]
            all_went_on(talks)
            server.stop()
            scene.start_server()
            all_went_on(talks)
            for talk in talks:
                talk.ends()
            # There and back, each in and out of the server.
            assert lab.server_bytes() - before > 4 * ROUND * sum(talk.rounds for talk in talks)


# -- ssh and rsync -------------------------------------------------------------------------------------------------


class SshServer:
    """A real sshd of alice's, with keys of its own, at a high port of her loopback interface."""

    def __init__(self, scene: Scene, lab: Lab) -> None:
        missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
        if missing:
            pytest.fail(f"this test needs: apt-get install {' '.join(missing)}", pytrace=False)
        self._scene = scene
        self.folder = scene.folder / "ssh"
        self.folder.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized")
        host_key = (self.folder / "host.pub").read_text()
        (self.folder / "known").write_text(f"alice {host_key}")
        # Where it keeps its children without privileges; the package makes it at the start of the system.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "config"
        options = {
            "ListenAddress": "127.0.0.1:2222", "HostKey": self.folder / "host", "PidFile": "none", "UsePAM": "no",
            "AuthorizedKeysFile": self.folder / "authorized", "StrictModes": "no", "PermitRootLogin": "yes",
            "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no", "LogLevel": "VERBOSE",
        }  # fmt: skip
        config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        self.log = self.folder / "sshd.log"
        sshd = shutil.which("sshd")
        assert sshd is not None
        self._child = lab.popen("alice", [sshd, "-D", "-f", str(config), "-E", str(self.log)])
        scene.callback(self._child.wait, 10)
        scene.callback(self._child.kill)
        wait_until(lambda: self.log.exists() and "Server listening" in self.log.read_text(), 30)

    def client(self) -> list[str]:
        """The command `ssh` for bob's home, through `p2pxfer connect`."""
        scene = self._scene
        proxy: list[str | Path] = [
            BIN / "p2pxfer", "--server", scene.address, "--home", scene.bob, "-v",
            "connect", "alice:ssh", "--listen", "-", "--path", "direct",
        ]  # fmt: skip
        options = {
            "ProxyCommand": shlex.join(map(str, proxy)), "UserKnownHostsFile": str(self.folder / "known"),
            "StrictHostKeyChecking": "yes", "IdentityFile": str(self.folder / "user"), "IdentitiesOnly": "yes",
            "BatchMode": "yes", "HostKeyAlias": "alice",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", *words, "-l", "root"]


@pytest.mark.deadline(300)
def test_ssh_and_rsync_go_through_two_nats_and_over_a_change_of_path(lab_factory: LabFactory, tmp_path: Path) -> None:
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        server = SshServer(scene, lab)
        alice = scene.program(
            "alice", scene.alice, "expose", "127.0.0.1:2222", "--as", "ssh", "--to", "bob", "--path", "direct"
        )
        alice.wait_for("exposed")
        source, target = tmp_path / "source", tmp_path / "target"
        digest = random_file(source, 48 * MIB)
        ssh = [*server.client(), "alice"]
        log = tmp_path / "ssh.err"
        with source.open("rb") as file, log.open("w") as errors:
            words = [*ssh, f"cat > {shlex.quote(str(target))}"]
            child = lab.popen("bob", words, stdin=subprocess.PIPE, stderr=errors)
            assert isinstance(child.stdin, io.TextIOWrapper)
            with child.stdin:
                child.stdin.buffer.write(file.read(24 * MIB))
                wait_until(lambda: target.exists() and target.stat().st_size > MIB, 90)
                lab.reboot_nat("nat_b", new_address=True)
                shutil.copyfileobj(file, child.stdin.buffer)
            assert child.wait(120) == 0, log.read_text()
        assert file_hash(target) == digest
        assert log.read_text().count("path: punched") >= 2, log.read_text()

        tree, copy = tmp_path / "tree", tmp_path / "copy"
        (tree / "deep" / "er").mkdir(parents=True)
        for number in range(40):
            (tree / "deep" / f"file{number}").write_bytes(os.urandom(1000 * number))
        random_file(tree / "deep" / "er" / "large", 3 * MIB)
        with (tmp_path / "rsync.err").open("w") as errors:
            rsync = ["rsync", "-a", "-e", shlex.join(server.client()), f"{tree}/", f"alice:{copy}/"]
            child = lab.popen("bob", rsync, stderr=errors)
            assert child.wait(120) == 0, (tmp_path / "rsync.err").read_text()
        names = sorted(path.relative_to(tree) for path in tree.rglob("*"))
        assert names == sorted(path.relative_to(copy) for path in copy.rglob("*"))
        for name in names:
            if (tree / name).is_file():
                assert file_hash(tree / name) == file_hash(copy / name)
