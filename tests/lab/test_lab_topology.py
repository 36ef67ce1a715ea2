"""The lab itself: delay, counters, cuts, blocks, programs, isolation and removal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import namespaces, probe
from tests.lab.namespaces import LabError
from tests.lab.nat import KINDS
from tests.lab.probe import Answer
from tests.lab.topology import Lab

LabFactory = Callable[..., Lab]

MIB = 1024 * 1024
PORT = 23456
REPO = Path(__file__).parents[2]


def connection(lab: Lab, role: str, target: str) -> tuple[socket.socket, socket.socket]:
    """Connect `role` to a listener at `target`, which must be reachable; return both ends."""
    listener = probe.listen(lab, target, 0)
    attempt = probe.dial(lab, role, (lab.addr(target), listener.getsockname()[1]))
    sock, _ = probe.accept(listener)
    assert probe.settle([attempt], 5.0) == [Answer.CONNECTED]
    listener.close()
    return attempt.sock, sock


def connect_time(lab: Lab, role: str, target: str) -> float:
    """Return the shortest of nine connection times in seconds; load can only lengthen them."""
    listener = probe.listen(lab, target, 0)
    remote = (lab.addr(target), listener.getsockname()[1])
    times = []
    for _ in range(9):
        begin = time.monotonic()
        attempt = probe.dial(lab, role, remote)
        assert probe.settle([attempt], 5.0) == [Answer.CONNECTED]
        times.append(time.monotonic() - begin)
        probe.reset(attempt.sock)
    return min(times)


def transfer(source: socket.socket, target: socket.socket, size: int) -> float:
    """Send zeros from one end to the other and return the seconds it took."""
    source.setblocking(True)
    target.setblocking(True)
    begin = time.monotonic()
    sender = threading.Thread(target=source.sendall, args=(bytes(size),))
    sender.start()
    left = size
    while left:
        left -= len(target.recv(MIB))
    sender.join()
    return time.monotonic() - begin


@pytest.mark.parametrize("rtt_ms", [20, 80])
def test_round_trips(rtt_ms: int, lab_factory: LabFactory) -> None:
    """The hosts are one round trip from each other and half of it from the server."""
    lab = lab_factory(None, None, rtt_ms=rtt_ms)
    full, half = rtt_ms / 1000, rtt_ms / 2000
    assert full <= connect_time(lab, "alice", "bob") <= full * 1.1 + 0.001
    assert half <= connect_time(lab, "bob", "srv") <= half * 1.1 + 0.001


def test_no_delay(lab_factory: LabFactory) -> None:
    """Cables take next to no time."""
    assert connect_time(lab_factory(None, None, rtt_ms=0), "alice", "bob") < 0.003


def test_fast_at_a_distance(lab_factory: LabFactory) -> None:
    """The line is not what limits a connection; it does 400 MB/s where nobody else computes."""
    lab = lab_factory(None, None, rtt_ms=40, tcp_window=64 * MIB)
    seconds = transfer(*connection(lab, "alice", "bob"), 128 * MIB)
    assert 128 * MIB / seconds > 30e6


def test_rate(lab_factory: LabFactory) -> None:
    """A line of 20 Mbit/s carries no more, and not much less."""
    lab = lab_factory(None, None, rtt_ms=4, rate_bps=20_000_000)
    seconds = transfer(*connection(lab, "alice", "bob"), 2 * MIB)
    assert 2 * MIB * 8 / 20e6 <= seconds <= 2 * MIB * 8 / 20e6 * 1.6


def test_loss_is_survived_and_slows(lab_factory: LabFactory) -> None:
    """TCP gets everything across a lossy line, by sending some of it again."""
    lab = lab_factory(None, None, rtt_ms=4, loss=0.02, seed=7)
    source, target = connection(lab, "alice", "bob")
    transfer(source, target, MIB)
    # struct tcp_info: total_retrans is the 32-bit number at offset 100.
    info = source.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(info[100:104], sys.byteorder) >= 3


def test_counters_tell_relayed_from_direct(lab_factory: LabFactory) -> None:
    """The server's counter moves with the server's traffic and with nothing else."""
    lab = lab_factory(None, None, rtt_ms=0)
    source, target = connection(lab, "alice", "srv")
    before = lab.server_bytes()
    transfer(source, target, MIB)
    assert MIB <= lab.server_bytes() - before <= 1.1 * MIB
    source, target = connection(lab, "alice", "bob")
    before, bob, line = lab.server_bytes(), lab.link_bytes("bob"), lab.link_bytes("nat_b")
    transfer(source, target, MIB)
    # The end of the earlier transfer may still be acknowledged: a packet, not a megabyte.
    assert lab.server_bytes() - before < 2000
    assert MIB <= lab.link_bytes("bob") - bob <= 1.1 * MIB
    assert MIB <= lab.link_bytes("nat_b") - line <= 1.1 * MIB


@pytest.mark.parametrize("rtt_ms", [0, 20])
@pytest.mark.parametrize("role", ["alice", "nat_a", "srv"])
def test_cut_is_silent_and_passes(role: str, rtt_ms: int, lab_factory: LabFactory) -> None:
    """Nothing passes a cut line, no error tells of it, and what was sent arrives afterwards."""
    lab = lab_factory(rtt_ms=rtt_ms)
    source, target = connection(lab, "alice", "srv")
    lab.cut(role)
    lab.cut(role)
    source.send(b"later")
    listener = probe.listen(lab, "srv", PORT)
    assert probe.settle([probe.dial(lab, "alice", (lab.addr("srv"), PORT))]) == [Answer.SILENT]
    assert not probe.has_guest(listener)
    assert probe.receive(target, 0) is None
    lab.restore(role)
    lab.restore(role)
    assert probe.receive(target, 5.0) == b"later"


@pytest.mark.parametrize("role", ["alice", "srv"])
def test_hard_cut_is_noticed(role: str, lab_factory: LabFactory) -> None:
    """A host whose own link is down has no way out until it is restored."""
    lab = lab_factory(rtt_ms=0)
    source, target = connection(lab, "alice", "srv")
    lab.cut(role, hard=True)
    with pytest.raises(OSError, match="unreachable"):
        lab.socket(role).connect((lab.public_addr("nat_b"), PORT))
    lab.restore(role)
    source.send(b"later")
    assert probe.receive(target, 5.0) == b"later"
    with pytest.raises(LabError, match="not a host"):
        lab.cut("nat_b", hard=True)


def test_block_by_port_and_by_quota(lab_factory: LabFactory) -> None:
    """Rules of one's own: a port that is shut, and a flow that stalls after some bytes."""
    lab = lab_factory(rtt_ms=0)
    listeners = {port: probe.listen(lab, "srv", port) for port in (PORT, PORT + 1)}
    remotes = [(lab.addr("srv"), port) for port in listeners]
    lab.block("nat_a", f"tcp dport {PORT}")
    answers = probe.settle([probe.dial(lab, "alice", remote) for remote in remotes])
    assert answers == [Answer.SILENT, Answer.CONNECTED]
    lab.unblock("nat_a")
    assert probe.settle([probe.dial(lab, "alice", remotes[0])]) == [Answer.CONNECTED]
    source, target = connection(lab, "alice", "srv")
    lab.block("nat_a", f"tcp dport {target.getsockname()[1]} quota over 100 kbytes")
    source.setblocking(False)
    source.send(bytes(MIB))
    got = 0
    while chunk := probe.receive(target):
        got += len(chunk)
    assert got <= 100 * 1024
    with pytest.raises(LabError, match="syntax error"):
        lab.nft("alice", "add nonsense")


def test_same_private_network_on_both_sides(lab_factory: LabFactory) -> None:
    """Both homes may use one prefix; the other's private address then leads nowhere."""
    lab = lab_factory(rtt_ms=0, same_lan=True)
    assert lab.addr("alice").rpartition(".")[0] == lab.addr("bob").rpartition(".")[0]
    listener = probe.listen(lab, "bob", PORT)
    assert probe.settle([probe.dial(lab, "alice", (lab.addr("bob"), PORT))]) == [Answer.SILENT]
    assert not probe.has_guest(listener)
    connection(lab, "bob", "srv")


def test_two_labs_at_once(lab_factory: LabFactory) -> None:
    """Labs share addresses and interface names but no packet."""
    first, second = lab_factory(rtt_ms=20), lab_factory(rtt_ms=20)
    assert first.addr("alice") == second.addr("alice")
    listeners = [probe.listen(lab, "srv", PORT) for lab in (first, second)]
    attempt = probe.dial(first, "alice", (first.addr("srv"), PORT))
    assert probe.settle([attempt]) == [Answer.CONNECTED]
    probe.accept(listeners[0])
    assert not probe.has_guest(listeners[1])
    first.close()
    assert connect_time(second, "alice", "srv") < 0.1


def test_run(lab_factory: LabFactory) -> None:
    """A program runs at its place, gets input and environment, and cannot run for ever."""
    lab = lab_factory(rtt_ms=0)
    done = lab.run("bob", ["ip", "-br", "-4", "addr", "show", "eth0"], check=True)
    assert lab.addr("bob") in done.stdout
    done = lab.run("bob", ["sh", "-c", 'cat; echo "$WORD" >&2; exit 3'], input="in", env={"WORD": "x"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "x\n")
    with pytest.raises(subprocess.CalledProcessError):
        lab.run("bob", ["false"], check=True)
    with pytest.raises(subprocess.TimeoutExpired):
        lab.run("bob", ["sh", "-c", "sleep 600 & sleep 600"], timeout=0.1)


def test_nothing_survives_a_failed_test() -> None:
    """Children, daemons that left their group, the line and the namespaces all go."""
    with contextlib.suppress(ZeroDivisionError), Lab(rtt_ms=20) as lab:
        child = lab.popen("alice", ["sleep", "600"])
        script = "setsid sleep 600 >/dev/null 2>&1 & echo $!"
        daemon = int(lab.run("bob", ["sh", "-c", script]).stdout)
        assert lab._line is not None
        line = lab._line.pid
        raise ZeroDivisionError
    assert child.returncode == -signal.SIGKILL
    assert not _lives(daemon)
    assert not _lives(line)
    assert not any((namespaces.ROOT / name).exists() for name in lab.names.values())
    lab.close()


def test_leftovers_of_a_killed_run_are_removed() -> None:
    """The line of a killed process ends by itself; the next lab clears its namespaces."""
    script = (
        "from tests.lab.topology import Lab\n"
        "import subprocess, time\n"
        "with Lab(rtt_ms=20) as lab:\n"
        "    child = lab.popen('alice', ['sh', '-c', 'echo; exec sleep 600'], stdout=subprocess.PIPE)\n"
        "    child.stdout.readline()  # It has entered its namespace, and dies with it.\n"
        "    print(lab._line.pid, child.pid, *lab.names.values(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", script], cwd=REPO, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    line, child, *names = victim.stdout.readline().split()
    victim.kill()
    victim.wait()
    victim.stdout.close()
    assert _lives(int(child))
    with Lab(rtt_ms=0):
        assert not any((namespaces.ROOT / name).exists() for name in names)
    # Another run beside this one may have been the one that killed it, so its end is waited for.
    assert _ends(int(child))
    assert _ends(int(line))


def test_built_and_removed_fast() -> None:
    """Dozens of tests build one each, so the best of three must be well below a second."""
    times = []
    for _ in range(3):
        begin = time.monotonic()
        with Lab(KINDS["full-cone"], KINDS["symmetric"], rtt_ms=40):
            built = time.monotonic()
            leave = time.monotonic
        times.append((built - begin, leave() - built))
    assert min(up for up, _ in times) < 0.6
    assert min(down for _, down in times) < 0.5


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _lives(pid)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that is dead but not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_interrupted_entry_leaves_the_thread_at_home(lab_factory: LabFactory) -> None:
    """Entering a place is undone by an exception as well."""
    lab = lab_factory(rtt_ms=0)
    home = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(ZeroDivisionError), lab.entered("alice"):
        assert os.stat("/proc/thread-self/ns/net").st_ino != home
        raise ZeroDivisionError
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
