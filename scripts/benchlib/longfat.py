"""A long fat line: what p2pxfer, scp and magic-wormhole get of it, beside what many streams of iperf3 get.

Two public hosts in a lab, 200 Mbit/s, 80 ms round trip, and a queue of what is under way in one round trip.  Both have
the buffers that Linux has by itself (6 MiB to receive, 4 MiB to send), and the congestion control of this machine's
kernel, once more with that of most machines, ``cubic``.

p2pxfer counts as a whole command, from the start of ``send`` to the end of both sides; what the others get is counted
on the receiver's link for :data:`WINDOW_S` seconds, after their start.  The line carries the most that iperf3 ever got:
other work on the machine can only make it less.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.benchlib.rivals import MissingToolError, prepare_sshd, separation_folder, tool
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import Program, ProgramError
from tests.lab.namespaces import LabError
from tests.lab.topology import Lab
from tests.scene import Scene, random_file

RATE_BPS = 200_000_000
RTT_MS = 80
QUEUE = RATE_BPS // 8 * RTT_MS // 1000
LINE = f"{RATE_BPS // 1_000_000} Mbit/s, {RTT_MS} ms"
BUFFERS = {"net/ipv4/tcp_rmem": "4096 131072 6291456", "net/ipv4/tcp_wmem": "4096 16384 4194304"}
STREAMS = 8
"""How many streams of iperf3 show what the line carries."""
BEARS_LOSS = "bbr"
"""What these streams use where the kernel has it: with losses no number of others fills the line."""
STREAM_S, STARTUP_S, WINDOW_S = 8, 6.0, 10.0
PORT = 2222
LEAST = 0.92
TRANSFER_S = 300.0
MBIT = 1e6 / 8


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its name, the share of packets that it loses in all, and what p2pxfer is to get of it at least."""

    name: str
    loss: float
    least: float


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The rows of the line without losses."""
    return measure(setting, Line(LINE, 0.0, LEAST))


def measure(setting: Setting, line: Line) -> Iterable[Row | Failed]:
    """All rows of a line: of the kernel's own congestion control, then of cubic."""
    available = set(Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split())
    usual = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    for governor in dict.fromkeys((usual, "cubic")):
        folder = setting.folder / governor
        folder.mkdir()
        try:
            if governor not in available:
                raise MissingToolError(f"the kernel has no {governor}")
            yield from _measure(setting, line, governor, folder, BEARS_LOSS if BEARS_LOSS in available else governor)
        except (ProgramError, LabError, MissingToolError, OSError) as error:
            yield Failed(f"{line.name}, {governor}", str(error))


def _measure(setting: Setting, line: Line, governor: str, folder: Path, many: str) -> Iterable[Row | Failed]:
    name = f"{line.name}, {governor}"
    got: dict[str, list[float]] = {"p2pxfer": [], "scp": [], "wormhole": []}
    carried: list[float] = []
    with long_line(folder, line.loss, governor) as (lab, scene):
        source = folder / "source.bin"
        random_file(source, setting.size_mib << 20)
        for number in range(setting.runs):
            carried.append(iperf3(lab, folder, many) / MBIT)
            got["p2pxfer"].append(ours(scene, source) / MBIT)
            got["scp"].append(scp(lab, folder / f"scp-{number}", source) / MBIT)
            got["wormhole"].append(wormhole(lab, folder / f"wormhole-{number}", setting.bench_venv, source) / MBIT)
            shown = ", ".join(f"{one} {rates[-1]:.1f}" for one, rates in got.items())
            setting.say(f"run {number + 1} of {setting.runs}: {name}: iperf3 {carried[-1]:.1f}, {shown} Mbit/s")
    yield median_row(f"{name}: iperf3, {STREAMS} streams", carried, "Mbit/s", note=many)
    for one, rates in got.items():
        yield median_row(f"{name}: {one}", rates, "Mbit/s")
    share = statistics.median(got["p2pxfer"]) / max(carried)
    yield Row(f"{name}: p2pxfer : what the line carries", share, "", line.least, at_least=True)


@contextlib.contextmanager
def long_line(folder: Path, loss: float, governor: str) -> Iterator[tuple[Lab, Scene]]:
    """The lab with its two hosts, each of which loses half on its own line, and a server and contacts in it."""
    lab = Lab(None, None, rtt_ms=RTT_MS, rate_bps=RATE_BPS, buffer_bytes=QUEUE, loss=loss / 2, long_line=True)
    with lab, Scene(lab, folder, loopback=False) as scene:
        for host in ("alice", "bob"):
            for key, value in BUFFERS.items():
                lab.sysctl(host, key, value)
            route = lab.run(host, ["ip", "route", "show", "default"], check=True).stdout.split()
            lab.run(host, ["ip", "route", "replace", *route, "congctl", governor], check=True)
        scene.start_server()
        scene.make_contacts()
        yield lab, scene


def iperf3(lab: Lab, folder: Path, governor: str) -> float:
    """Bytes a second of many streams together, after their start. Raises `MissingToolError` and `ProgramError`."""
    program = tool("iperf3")
    command = [program, "--client", lab.addr("bob"), "--time", str(STREAM_S), "--omit", "2", "--json"]
    with Program(lab, "bob", [program, "--server", "--one-off"], folder / "iperf3.log"):
        for _ in range(20):
            said = lab.run("alice", [*command, "-P", str(STREAMS), "-C", governor], timeout=60)
            end = json.loads(said.stdout).get("end", {})
            if "sum_received" in end:
                return float(end["sum_received"]["bits_per_second"]) / 8
            time.sleep(0.2)  # it does not listen yet
    raise ProgramError("iperf3 measured nothing")


def ours(scene: Scene, source: Path) -> float:
    """Bytes a second of a whole transfer. Raises `ProgramError`."""
    bob = scene.receive("--once", "--no-code")
    alice = scene.send(source)
    ends = (alice.succeed(TRANSFER_S).at, bob.succeed(TRANSFER_S).at)
    (scene.inbox / source.name).unlink()
    return source.stat().st_size / (max(ends) - alice.started)


def arriving(lab: Lab, *programs: Program) -> float:
    """Bytes a second that come to bob, after the start. Raises `ProgramError`."""
    time.sleep(STARTUP_S)
    began, before = time.monotonic(), lab.link_bytes("bob")
    time.sleep(WINDOW_S)
    rate = (lab.link_bytes("bob") - before) / (time.monotonic() - began)
    for program in programs:
        if ended := program.poll():
            raise ProgramError(f"{program.role} ended with status {ended.status}{program.last_words()}")
    return rate


def scp(lab: Lab, folder: Path, source: Path) -> float:
    """Bytes a second of scp to an sshd at bob. Raises `MissingToolError` and `ProgramError`."""
    folder.mkdir()
    host = lab.addr("bob")
    rival = prepare_sshd(folder, host, PORT)
    serve = [tool("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
    copy = [tool("scp"), "-q", "-F", "none", "-P", str(PORT), *rival.options(), str(source), f"{host}:{folder}/got"]
    with separation_folder(), Program(lab, "bob", serve, folder / "sshd.log"):
        time.sleep(1.0)
        with Program(lab, "alice", copy, folder / "scp.log") as running:
            rate = arriving(lab, running)
    (folder / "got").unlink()
    return rate


def wormhole(lab: Lab, folder: Path, venv: Path, source: Path) -> float:
    """Bytes a second of magic-wormhole, directly. Raises `MissingToolError` and `ProgramError`."""
    program, twist = venv / "bin/wormhole", venv / "bin/twist"
    if not program.exists():
        raise MissingToolError("magic-wormhole is not installed in the bench's environment")
    for place in ("mailbox", "transit"):
        (folder / place).mkdir(parents=True)
    server = lab.addr("srv")
    ask: list[str | Path] = [program, "--relay-url", f"ws://{server}:4000/v1", "--transit-helper", f"tcp:{server}:4001"]
    mailbox: list[str | Path] = [twist, "wormhole-mailbox", "--port=tcp:4000"]
    transit: list[str | Path] = [twist, "transitrelay", "--port=tcp:4001"]
    send: list[str | Path] = [*ask, "send", "--hide-progress", "--code", "4-long-line", source]
    receive: list[str | Path] = [*ask, "receive", "--accept-file", "--hide-progress"]
    receive += ["-o", folder / "got", "4-long-line"]
    with (
        Program(lab, "srv", mailbox, folder / "mailbox.log", cwd=folder / "mailbox"),
        Program(lab, "srv", transit, folder / "transit.log", cwd=folder / "transit"),
    ):
        time.sleep(3.0)
        with Program(lab, "alice", send, folder / "send.log") as alice:
            time.sleep(3.0)
            with Program(lab, "bob", receive, folder / "receive.log") as bob:
                rate = arriving(lab, alice, bob)
    for path in folder.glob("got*"):
        path.unlink()
    return rate
