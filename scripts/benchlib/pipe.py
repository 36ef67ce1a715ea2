"""A GiB as a stream: through ``p2pxfer pipe`` and a forwarded connection, against a file that is sent, and socat.

All go over loopback by the direct path, take turns, and are timed as whole commands, from the start of the one that
writes to the end of all, while the other side waits already.  Once more all of them while the processors are busy with
something else: what a stream costs in changes of tasks shows there.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from p2pxfer.net.private.home import Home
from scripts.benchlib import loopback, rivals
from scripts.benchlib.loopback import MEMORY_MIB, Ours
from scripts.benchlib.rivals import TRANSFER, MissingToolError
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import BIN, Loopback, Program, ProgramError, free_ports

LEAST = 0.8
"""The least that the rate of a pipe should be, as a share of a sent file's."""
DIRECT = ("--path", "direct")
FILE, PIPE, PROGRAMS, FORWARD, SOCAT = "send", "pipe", "pipe between programs", "connect and expose", "socat"
SETTLED_S = 1.5
"""Seconds after which a program that says nothing is registered and waits."""
Copy = Callable[[Path, Path, Callable[[], None]], float]


class Streams:
    """The product's ways to carry a stream, between the two people of `product`."""

    def __init__(self, product: Ours) -> None:
        self.product = product
        self.folder = product.folder
        self._count = 0
        # Each knows the other by the name that the transfer with the code has left.
        self._bob, self._alice = (Home(self.folder / home).contacts()[0].name for home in ("alice", "bob"))

    def _program(self, role: str, home: str, *words: str, line: str = 'exec "$@"') -> Program:
        """One command; it stands as ``"$@"`` in the line of a shell."""
        self._count += 1
        argv: list[str | Path] = ["sh", "-c", line, "sh", BIN / "p2pxfer"]
        argv += ["--server", self.product.address, "--home", self.folder / home, *words]
        log = self.folder / f"{home}-{self._count}.log"
        return Program(Loopback(), role, argv, log)

    def pipe(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """From file to file, as two shells open them."""
        return self._piped(f'exec "$@" <"{source}"', f'exec "$@" >"{target}"', ready)

    def programs(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Between two programs."""
        return self._piped(f'cat "{source}" | "$@"', f'"$@" </dev/null | cat >"{target}"', ready)

    def _piped(self, giving: str, taking: str, ready: Callable[[], None]) -> float:
        with self._program("p2pxfer pipe, reading", "bob", "pipe", self._alice, *DIRECT, line=taking) as receiver:
            time.sleep(SETTLED_S)
            ready()
            with self._program("p2pxfer pipe, writing", "alice", "pipe", self._bob, *DIRECT, line=giving) as sender:
                return self._ends(sender, receiver) - sender.started

    def forward(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Over a connection to a port of one side, from a port of the other one."""
        exposed, local = free_ports(2)
        socat = [rivals.tool("socat"), "-u", "-b", str(1 << 20)]
        taking = [*socat, f"TCP4-LISTEN:{exposed},bind=127.0.0.1,reuseaddr", f"OPEN:{target},creat,excl,wronly"]
        giving = [*socat, f"OPEN:{source},rdonly", f"TCP4:127.0.0.1:{local}"]
        with contextlib.ExitStack() as running:
            sink = running.enter_context(Program(Loopback(), "socat sink", taking, self.folder / "sink.log"))
            rivals.wait_until_listening(exposed, sink)
            words = ("--json", "expose", f"127.0.0.1:{exposed}", "--to", self._alice, *DIRECT)
            running.enter_context(self._program("p2pxfer expose", "bob", *words)).wait_for("exposed")
            words = ("--json", "connect", self._bob, "--listen", str(local), *DIRECT)
            running.enter_context(self._program("p2pxfer connect", "alice", *words)).wait_for("listening")
            ready()
            with Program(Loopback(), "socat", giving, self.folder / "giver.log") as giver:
                return max(giver.succeed(TRANSFER).at, sink.succeed(TRANSFER).at) - giver.started

    def _ends(self, *programs: Program) -> float:
        ends = [program.succeed(TRANSFER) for program in programs]
        for program, end in zip(programs, ends, strict=True):
            self.product.peaks[program.role] = max(self.product.peaks.get(program.role, 0), end.peak_bytes)
        return max(end.at for end in ends)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """One program for each processor that does nothing but compute."""
    count = os.cpu_count() or 1
    spins = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spin in spins:
            spin.kill()
            spin.wait()


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    source = setting.folder / "source.bin"
    loopback.generate(source, setting.size_mib)
    try:
        with loopback.ours(setting.folder) as product:
            streams = Streams(product)
            tools: dict[str, Copy] = {
                FILE: product.copy,
                PIPE: streams.pipe,
                PROGRAMS: streams.programs,
                FORWARD: streams.forward,
                SOCAT: rivals.Socat(setting.folder, rivals.tool("socat")).copy,
            }
            for name, load in (("quiet", contextlib.nullcontext), ("loaded", busy)):
                with load():
                    seconds, broken = loopback.in_turn(setting, source, tools)
                yield from broken
                yield from speed_rows(name, setting, seconds)
            for role, peak in product.peaks.items():
                if "pipe" in role:
                    yield Row(f"peak memory, {role}", peak / (1 << 20), "MiB", MEMORY_MIB)
    except (ProgramError, MissingToolError, OSError) as error:
        setting.say(f"pipe: {error}")
        yield Failed("pipe", str(error))


def speed_rows(load: str, setting: Setting, seconds: dict[str, list[float]]) -> Iterable[Row]:
    """Medians, and the rates as shares of that of a file."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        rate = f"{setting.size_mib / medians[name]:.0f} MiB/s"
        yield median_row(f"{load}, {setting.size_mib} MiB, {name}", values, "s", note=rate)
    for name, target in ((PIPE, LEAST), (PROGRAMS, None), (FORWARD, None)):
        if name in medians and FILE in medians:
            share = medians[FILE] / medians[name]
            yield Row(f"{load}, rate of {name} : {FILE}", share, "", target, at_least=True)
        if name in medians and SOCAT in medians:
            yield Row(f"{load}, rate of {name} : {SOCAT}", medians[SOCAT] / medians[name], "")
