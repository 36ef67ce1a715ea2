"""Agents behind two NATs, with nobody there: what is queued, what is exposed, and a reboot in the middle of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts.product import Program
from tests.agents import configure, start_agent, until
from tests.e2e.conftest import wait_until
from tests.lab.conftest import LabFactory
from tests.lab.namespaces import entered
from tests.lab.nat import KINDS
from tests.lab.talking import Talk, all_went_on
from tests.scene import Scene, file_hash, random_file
from tests.services import Service, echo

MIB = 1 << 20
DIRECT = 'path = "direct"\n'


def arrived(home: Path, sender: str, name: str) -> Path:
    """Where an agent puts a file of this contact."""
    return home / "inbox" / sender / name


def queue(scene: Scene, home: Path, source: Path, peer: str, *words: str, path: str = "direct") -> None:
    """Leave a file to the agent of a home, without the relay unless `path` says otherwise."""
    program = scene.program(peer, home, "send", "--queue", "--path", path, *words, source, peer)
    assert program.wait_for("queued")["attended"]
    program.succeed(60)


def is_under_way(home: Path, agent: Program, size: int) -> None:
    """More than this has arrived of the one transfer to a home, and not all."""
    until(home, lambda now: any(job.direction == "receive" and job.bytes > size for job in now.transfers), agent, 120)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("router", ["nat_a", "nat_b"])
def test_two_agents_send_to_each_other_while_a_nat_moves(lab_factory: LabFactory, tmp_path: Path, router: str) -> None:
    """Both directions at once, and a service of one for the other; a NAT forgets all and gets another address."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        with entered(lab.names["alice"]):
            service = Service(echo)
        with service:
            configure(
                scene.alice,
                f'{DIRECT}name = "alice"\n[[services]]\ntarget = "{service.address}"\nto = ["bob"]\nas = "echo"\n',
            )
            configure(scene.bob, f'{DIRECT}name = "bob"\n')
            alice = start_agent(scene, "alice", scene.alice)
            bob = start_agent(scene, "bob", scene.bob)
            sources = [tmp_path / "to-bob.bin", tmp_path / "to-alice.bin"]
            digests = [random_file(source, 60 * MIB) for source in sources]
            user = scene.program("bob", scene.bob, "connect", "alice:echo", "--listen", "0", "--path", "direct")
            at = str(user.wait_for("listening")["address"])
            talks = [Talk(lab, at) for _ in range(4)]
            all_went_on(talks)
            # Slowly: both are still under way when the second one was looked at, on a busy machine too.
            queue(scene, scene.alice, sources[0], "bob", "--limit", "5M")
            queue(scene, scene.bob, sources[1], "alice", "--limit", "5M")
            is_under_way(scene.bob, bob, 4 * MIB)
            is_under_way(scene.alice, alice, 4 * MIB)
            lab.reboot_nat(router, new_address=True)
            targets = [arrived(scene.bob, "alice", "to-bob.bin"), arrived(scene.alice, "bob", "to-alice.bin")]
            assert not any(target.exists() for target in targets)
            all_went_on(talks)
            for target, digest in zip(targets, digests, strict=True):
                wait_until(target.exists, 120)
                assert file_hash(target) == digest
            all_went_on(talks)
            for talk in talks:
                talk.ends()
        assert lab.server_bytes() - before < 2 * MIB


@pytest.mark.deadline(600)
@pytest.mark.parametrize("size", [256, pytest.param(1024, marks=pytest.mark.soak)])
def test_a_reboot_of_both_hosts_in_a_queued_transfer(lab_factory: LabFactory, tmp_path: Path, size: int) -> None:
    """Every process is killed and only the state directories are kept; only the agents are started again."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        scene.start_server()
        scene.make_contacts()
        before = lab.server_bytes()
        for home, name in ((scene.alice, "alice"), (scene.bob, "bob")):
            configure(home, f'{DIRECT}name = "{name}"\n')
        source = tmp_path / "big.bin"
        digest = random_file(source, size * MIB)
        agents = [start_agent(scene, "alice", scene.alice), start_agent(scene, "bob", scene.bob)]
        queue(scene, scene.alice, source, "bob", "--limit", "32M")
        is_under_way(scene.bob, agents[1], size * MIB // 4)
        for agent in agents:
            os.killpg(agent.pid, signal.SIGKILL)
        for agent in agents:
            agent.wait(30)
        target = arrived(scene.bob, "alice", "big.bin")
        assert not target.exists()
        start_agent(scene, "alice", scene.alice)
        bob = start_agent(scene, "bob", scene.bob)
        wait_until(target.exists, 240)
        assert file_hash(target) == digest
        assert "going on: " in bob.last_words(100)
        assert lab.server_bytes() - before < 2 * MIB


@pytest.mark.deadline(300)
def test_two_agents_over_the_relay_go_on_with_a_server_that_was_started_anew(
    lab_factory: LabFactory, tmp_path: Path
) -> None:
    """What is queued arrives, and the connections to a service live on."""
    lab = lab_factory(KINDS["port-restricted"], KINDS["port-restricted"], rtt_ms=40)
    with Scene(lab, tmp_path, loopback=False) as scene:
        server = scene.start_server()
        scene.make_contacts()
        with entered(lab.names["alice"]):
            service = Service(echo)
        with service:
            served = f'[[services]]\ntarget = "{service.address}"\nto = ["bob"]\nas = "echo"\n'
            configure(scene.alice, f'path = "relay"\nname = "alice"\n{served}')
            configure(scene.bob, 'path = "relay"\nname = "bob"\n')
            start_agent(scene, "alice", scene.alice)
            bob = start_agent(scene, "bob", scene.bob)
            source = tmp_path / "to-bob.bin"
            digest = random_file(source, 40 * MIB)
            user = scene.program("bob", scene.bob, "connect", "alice:echo", "--listen", "0", "--path", "relay")
            at = str(user.wait_for("listening")["address"])
            talks = [Talk(lab, at) for _ in range(4)]
            all_went_on(talks)
            queue(scene, scene.alice, source, "bob", "--limit", "5M", path="relay")
            is_under_way(scene.bob, bob, 4 * MIB)
            server.stop()
            target = arrived(scene.bob, "alice", "to-bob.bin")
            assert not target.exists()
            before = lab.server_bytes()
            scene.start_server()
            wait_until(target.exists, 120)
            assert file_hash(target) == digest
            assert lab.server_bytes() - before > 2 * 16 * MIB
            all_went_on(talks)
            for talk in talks:
                talk.ends()
