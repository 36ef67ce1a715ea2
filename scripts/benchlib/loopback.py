"""One large file over loopback by the direct path, against scp, magic-wormhole, plaintext and the bare work, and the
memory it takes.

What is timed is the whole command: the receiving side waits already (an sshd for scp, `p2pxfer receive`, the sender of
magic-wormhole, a listening socat), the clock runs from the start of the other command to the end of both.  The peers
know each other from an earlier transfer.  All take turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import contextlib
import filecmp
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchlib import rivals
from scripts.benchlib.rivals import TRANSFER, MissingToolError
from scripts.benchlib.table import Failed, Row, Setting, median_row
from scripts.product import JsonEvent, Loopback, Program, ProgramError, client, start_server

AGAINST: dict[str, float | None] = {"scp": 0.4, "magic-wormhole": 0.3, "socat": 2.5, "bare": None}
"""The most that p2pxfer's time may be, as a share of the other tool's; no product can be as quick as the bare work."""
MEMORY_MIB = 120.0
SILENCE = 60.0
OURS = "p2pxfer"
WARM = 4
"""How many copies of the file are written and removed before each run."""


@dataclass(slots=True)
class Ours:
    """The product on loopback: a server, two homes that know each other, and the peak memory seen."""

    folder: Path
    server: Program
    address: str
    peaks: dict[str, int] = field(default_factory=dict)
    relayed: int = 0
    rates: list[float] = field(default_factory=list)
    """Bytes a second of each copy between its first and its last event of progress, head and tail left out."""
    receiver: tuple[str | Path, ...] = ()
    """What the receiver's command line is handed to, if not to the system."""

    def pair(self) -> None:
        """Make the peers contacts, by a small transfer with the code that the receiver shows."""
        small = self.folder / "small"
        small.write_bytes(b"p2pxfer" * 1000)
        self._move(small, self.folder / "pairing", lambda: None, with_code=True)

    def copy(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Send a file; seconds from the start of `send` to the end of both. Raises `ProgramError`."""
        return self._move(source, target.parent, ready, with_code=False)

    def copy_differences(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """The same with ``--delta``, beside an older version in the place of ``target``. Raises `ProgramError`."""
        return self._move(source, target.parent, ready, "--delta", with_code=False)

    def _move(self, source: Path, to: Path, ready: Callable[[], None], *more: str, with_code: bool) -> float:
        to.mkdir(exist_ok=True)
        words: list[str | Path] = ["receive", "--as", "bob", "--to", to, "--once"]
        argv = [*self.receiver, *client(self.address, self.folder / "bob", *words)]
        with Program(Loopback(), "p2pxfer receive", argv, self.folder / "receive.log") as receiver:
            code = str(receiver.wait_for("code" if with_code else "registered").get("code", ""))
            ready()
            words = ["send", source, "bob", *more, *([] if with_code else ["--path", "direct"])]
            argv, env = client(self.address, self.folder / "alice", *words), {"P2PXFER_CODE": code} if code else {}
            with Program(Loopback(), "p2pxfer send", argv, self.folder / "send.log", env=env) as sender:
                done = sender.wait_for("done", SILENCE)
                ends = [sender.succeed(TRANSFER), receiver.succeed(TRANSFER)]
                seconds = max(end.at for end in ends) - sender.started
            progress = [event for event in receiver.events(SILENCE) if event["event"] == "progress"]
        if not with_code:
            self.rates += steady_rate(progress)
            self.relayed += int(done["bytes_by_path"].get("relay", 0))
            for program, end in zip((sender, receiver), ends, strict=True):
                self.peaks[program.role] = max(self.peaks.get(program.role, 0), end.peak_bytes)
            self.peaks["p2pxfer-rendezvous"] = self.server.peak_bytes()
        return seconds


def steady_rate(progress: list[JsonEvent]) -> list[float]:
    """Bytes a second between the first and the last event before the end; nothing if there are no two of them."""
    under_way = [(float(event["t"]), int(event["bytes"])) for event in progress if 0 < event["bytes"] < event["total"]]
    if len(under_way) < 2:
        return []
    (start, before), (end, after) = under_way[0], under_way[-1]
    return [(after - before) / (end - start)]


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[Ours]:
    """The product, ready to send. Raises `ProgramError`."""
    server, address = start_server(Loopback(), folder, loopback=True)
    with server:
        ready = Ours(folder, server, address)
        ready.pair()
        yield ready


Copy = Callable[[Path, Path, Callable[[], None]], float]
"""Source, target, and what to call when everything waits and the clock is about to start; returns the seconds."""


def rows(setting: Setting) -> Iterable[Row | Failed]:
    """The group of rows."""
    source = setting.folder / "source.bin"
    generate(source, setting.size_mib)
    with contextlib.ExitStack() as running:
        tools: dict[str, Copy] = {}
        missing: list[Failed] = []
        product: Ours | None = None
        for name in (OURS, *AGAINST):
            folder = setting.folder / name
            folder.mkdir()
            try:
                if name == OURS:
                    product = running.enter_context(ours(folder))
                    tools[name] = product.copy
                elif name == "scp":
                    tools[name] = running.enter_context(rivals.sshd(folder)).copy
                elif name == "socat":
                    tools[name] = rivals.Socat(folder, rivals.tool("socat")).copy
                elif name == "bare":
                    tools[name] = rivals.Bare(folder).copy
                else:
                    tools[name] = running.enter_context(rivals.wormhole_servers(folder, setting.bench_venv)).copy
            except (ProgramError, MissingToolError, OSError) as error:
                missing.append(_failed(setting, name, error))
        seconds, broken = in_turn(setting, source, tools)
        yield from speed_rows(setting, seconds, missing + broken)
        if product is not None and seconds.get(OURS):
            yield from product_rows(product)


def _failed(setting: Setting, name: str, error: Exception) -> Failed:
    setting.say(f"{name}: {error}")
    return Failed(f"loopback {name}", str(error))


def generate(path: Path, size_mib: int) -> None:
    """Fill a file with random bytes, a block at a time so that this process stays small."""
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as out:
        for _ in range(size_mib):
            out.write(random.read(1 << 20))


def in_turn(
    setting: Setting, source: Path, tools: dict[str, Copy], ready: Callable[[], None] | None = None
) -> tuple[dict[str, list[float]], list[Failed]]:
    """The seconds of every tool's runs, A B C A B C; a tool that fails takes no further part."""
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    broken: list[Failed] = []
    for number in range(setting.runs):
        for name in [name for name in tools if name in seconds]:
            try:
                seconds[name].append(one_run(setting.folder, source, tools[name], ready))
                setting.say(f"run {number + 1} of {setting.runs}: {name} {seconds[name][-1]:.2f} s")
            except (ProgramError, MissingToolError, OSError) as error:
                del seconds[name]
                broken.append(_failed(setting, name, error))
    return seconds, broken


def one_run(folder: Path, source: Path, copy: Copy, ready: Callable[[], None] | None = None) -> float:
    """Copy once, check what arrived, and remove it; `ready` is called before, instead of warming memory."""
    target = folder / "target" / source.name
    target.parent.mkdir(exist_ok=True)
    try:
        seconds = copy(source, target, ready or (lambda: warm_memory(source, target.with_name("warm"))))
        if not target.is_file() or not filecmp.cmp(source, target, shallow=False):
            raise ProgramError(f"what arrived as {target.name} is not what was sent")
        return seconds
    finally:
        target.unlink(missing_ok=True)


def warm_memory(source: Path, scratch: Path) -> None:
    """Use several times the memory that the copy will need, as far as there is room, and free it.

    A virtual machine hands its host memory that lies idle and gets it back slowly: here a plain `cp` of 1 GiB into
    fresh memory took 3.3 s, 0.45 s into memory freed just before, and two seconds later 1.5 s where 1 GiB had been
    freed and 0.7 s where 3 GiB had.  No tool is to pay for that.
    """
    names = [scratch.with_name(f"{scratch.name}{number}") for number in range(WARM)]
    try:
        for name in names:
            if shutil.disk_usage(scratch.parent).free > 3 * source.stat().st_size:
                shutil.copyfile(source, name)
    finally:
        for name in names:
            name.unlink(missing_ok=True)


def speed_rows(setting: Setting, seconds: dict[str, list[float]], failed: list[Failed]) -> Iterable[Row | Failed]:
    """Medians, and the ratios to them."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        rate = f"{setting.size_mib / medians[name]:.0f} MiB/s"
        yield median_row(f"loopback {setting.size_mib} MiB, {name}", values, "s", note=rate)
    yield from failed
    for name, target in AGAINST.items():
        if name in medians and OURS in medians:
            yield Row(f"loopback, time of p2pxfer : {name}", medians[OURS] / medians[name], "", target)


def product_rows(product: Ours) -> Iterable[Row]:
    """The memory of each process, and the proof that the relay carried nothing."""
    for name, peak in product.peaks.items():
        yield Row(f"peak memory, {name}", peak / (1 << 20), "MiB", MEMORY_MIB)
    yield Row("bytes through the relay", product.relayed, "", 0)
