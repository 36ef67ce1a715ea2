"""A stage for whole programs: a server that comes back on its ports, commands run to their end, a watched destination.

Whatever a test does, no program may write a traceback, and one that prints events may print nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.product import BIN, STARTING, JsonEvent, Loopback, Program, ProgramError
from tests.e2e.terminal import Terminal
from tests.eventcheck import fault_in
from tests.scene import Scene, events_of, file_hash, random_file

Words = list[str | Path]
"""A command line, or the end of one."""
MIB = 1 << 20
REFETCHED = 16 * MIB
"""Most bytes that a kill may cost to fetch again."""
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[JsonEvent]:
        """Every line of standard output; each must be an event of the published schema."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(event, dict) and fault_in(event) is None for event in found), self.out
        return found


def unused_port(until: contextlib.ExitStack) -> int:
    """A port outside the ranges from which outgoing connections get theirs, so that it is free after a restart too.

    No other stage of this machine gets it before the end of ``until``: a name that is taken says so.
    """
    while True:
        port = random.randrange(10000, 20000)
        with contextlib.ExitStack() as failed, contextlib.suppress(OSError):
            failed.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0p2pxfer-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            until.push(failed.pop_all())
            return port


class Stage(Scene):
    """A scene on loopback whose server can be killed and started again where it was."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Loopback(), folder, loopback=True)
        self.binary = BIN / "p2pxfer"
        self.ports = (unused_port(self), unused_port(self))
        self._names = 0
        self._programs: list[Program] = []

    def start_server(self, *more: str | Path, prefix: Sequence[str] = ()) -> Program:
        """Start the server on this stage's ports; its state is that of the last start."""
        state = self.folder / "server"
        line = state / "address"
        line.unlink(missing_ok=True)
        argv: Words = [*prefix, BIN / "twist", "--log-format=text", "p2pxfer-rendezvous", "--state", state]
        for port in self.ports:
            argv += ["--listen", f"tcp:{port}:interface=127.0.0.1"]
        self._names += 1
        log = self.folder / f"server-{self._names}.log"
        server = Program(self.place, "srv", [*argv, *more], log, cwd=self.folder)
        self.callback(server.stop)
        deadline = time.monotonic() + STARTING
        while not line.exists():
            if server.poll() or time.monotonic() > deadline:
                raise ProgramError(f"the server did not start{server.last_words(40)}")
            time.sleep(0.01)
        self.address = line.read_text().strip()
        return server

    def program(self, role: str, home: Path, *words: str | Path, env: dict[str, str] | None = None) -> Program:
        """See the base class."""
        program = super().program(role, home, *words, env=env)
        self._programs.append(program)
        return program

    def run(
        self,
        *words: str | Path,
        home: Path | None = None,
        server: str | None = None,
        as_json: bool = False,
        env: dict[str, str] | None = None,
        typed: str | None = None,
        prefix: Sequence[str | Path] = (),
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> Outcome:
        """Run a command to its end; alice's, unless ``home`` says otherwise; ``server=""`` names none.

        ``typed`` comes from standard input, which is a pipe then; ``prefix`` stands before the command.
        """
        address = self.address if server is None else server
        options: Words = ["--home", home or self.alice]
        options += ["--server", address] if address else []
        options += ["--json"] if as_json else []
        argv = [*prefix, self.binary, *options, *words]
        return self.run_bare(argv, env=env, typed=typed, cwd=cwd, timeout=timeout)

    @staticmethod
    def run_bare(
        words: Sequence[str | Path],
        env: dict[str, str] | None = None,
        typed: str | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> Outcome:
        """Run exactly this, with nothing of the project in the environment but ``env``."""
        argv = [str(word) for word in words]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("P2PXFER_", "PYTHONPATH"))}
        ended = subprocess.run(
            argv, input=typed, stdin=subprocess.DEVNULL if typed is None else None, capture_output=True, text=True,
            errors="surrogateescape", env=clean | (env or {}), cwd=cwd, timeout=timeout, check=False,
        )  # fmt: skip
        assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start exactly this, with streams of the caller's choice; it ends with the scene."""
        child = subprocess.Popen([str(word) for word in words], start_new_session=True, **options)
        self.callback(child.wait, 10)
        self.callback(child.kill)
        return child

    def asking_receiver(self, answers: int, *words: str | Path) -> Program:
        """Start bob's receiver, which asks, with this descriptor as its standard input; it is registered."""

        class Typing:
            def popen(self, role: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
                return Loopback().popen(role, argv, **(options | {"stdin": answers}))

        argv = self.command_line(self.bob, "receive", "--as", "bob", "--to", self.inbox, "--accept", "ask", *words)
        bob = Program(Typing(), "bob", argv, self.folder / "asking.log")
        self.callback(bob.stop)
        bob.wait_for("registered")
        return bob

    def fails(self, status: int, code: str, says: str, *words: str | Path, **options: Any) -> str:
        """A command must end with this status and say why in one line, and as one event; returns the line."""
        check_failed_event(self.run(*words, as_json=True, **options), status, code, says)
        return self.fails_plainly(status, says, *words, **options)

    def fails_plainly(self, status: int, says: str, *words: str | Path, **options: Any) -> str:
        """A command must end with this status and say why in one line, which is returned."""
        outcome = self.run(*words, **options)
        check_failure(outcome, status, says)
        return outcome.err.splitlines()[-1]

    def good_transfer(self, *words: str, name: str = "good.bin", size: int = MIB, contacts: bool = True) -> None:
        """Server and peers are usable: one more file goes over."""
        if contacts:
            self.make_contacts()
        argv = self.command_line(self.bob, "receive", "--as", "bob", "--to", self.inbox, "--once", *words)
        with Program(self.place, "bob", argv, self.folder / f"good-bob-{name}.log") as bob:
            bob.wait_for("registered")
            self.send_good(name, size)
            bob.succeed(20)

    def send_good(self, name: str = "good.bin", size: int = MIB, peer: str = "bob") -> None:
        """A receiver that runs already takes one more file."""
        source = self.folder / name
        digest = random_file(source, size)
        outcome = self.run("send", source, peer, as_json=True)
        assert outcome.status == 0, outcome
        wait_until((self.inbox / name).exists)
        assert file_hash(self.inbox / name) == digest

    def command_line(self, home: Path, *words: str | Path) -> Words:
        """A command that prints events."""
        return [self.binary, "--server", self.address, "--home", home, "--json", *words]

    def check_logs(self) -> None:
        """No program failed inside, and those with ``--json`` wrote nothing but events."""
        for log in sorted(self.folder.glob("*.log")):
            text = log.read_text(errors="replace")
            assert "Traceback" not in text, f"{log.name}:\n{text}"
            if log.name.startswith(("server", "agent")):
                assert not re.search(r"\[[^]]*#critical\]", text), f"{log.name}:\n{text}"
            else:
                assert not text.strip(), f"{log.name} is not empty:\n{text}"


def check_failure(outcome: Outcome, status: int, says: str) -> None:
    """The status, nothing on standard output, and one last line on standard error that says why."""
    assert outcome.status == status, outcome
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith("p2pxfer: ")] == lines[-1:], outcome.err
    assert says in lines[-1], lines[-1]
    assert lines[-1].isprintable()
    assert len(lines[-1]) < 500
    assert not outcome.out


def check_failed_event(outcome: Outcome, status: int, code: str, says: str) -> None:
    """The status, and a last event that says why."""
    assert outcome.status == status, outcome
    errors = [event for event in outcome.events if event["event"] == "error"]
    assert errors, outcome.out
    assert errors[-1]["code"] == code, errors[-1]
    assert says in errors[-1]["message"]
    assert isinstance(errors[-1]["retry"], bool)
    assert outcome.events[-1] == errors[-1]
    assert not outcome.err, outcome.err


class Watch:
    """Looks at a destination all the time: whatever stands under its final name must be whole from the first moment."""

    def __init__(self, inbox: Path, name: str, digest: str) -> None:
        self.path = inbox / name
        self.seen = False
        self._digest = digest
        self._faults: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._faults, self._faults

    def _run(self) -> None:
        while not self._over.wait(0.005):
            self.look()
            if self.seen:
                return

    def look(self) -> None:
        """Hash the final name the first time that it is seen."""
        with contextlib.suppress(FileNotFoundError):
            if file_hash(self.path) != self._digest:
                self._faults.append(f"{self.path.name} was there with other content")
            self.seen = True


def staging_of(inbox: Path) -> list[Path]:
    """The private directories of transfers that are not finished."""
    return [path for path in inbox.iterdir() if path.name.startswith(".p2pxfer-")]


def names_in(folder: Path) -> list[str]:
    """Everything below a directory, without what belongs to unfinished transfers."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return sorted(name for name in found if not name.startswith(".p2pxfer-"))


def wait_until(condition: Any, seconds: float = 40.0) -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def until_bytes(program: Program, wanted: int, silence: float = 30.0) -> JsonEvent:
    """The first progress event of a program with so many bytes or more; fails if the transfer ended before."""
    last: JsonEvent = {}
    for event in program.events(silence):
        last = event
        if event["event"] == "progress" and event["bytes"] >= wanted:
            return event
        if event["event"] in ("done", "error"):
            break
    raise AssertionError(f"no progress to {wanted} bytes: {last}")


def end_of(program: Program, timeout: float = 60.0) -> tuple[int, list[JsonEvent]]:
    """Exit status and the events that nobody has read yet."""
    ended = program.wait(timeout)
    return ended.status, events_of(program, 40.0)


WITHOUT_OVERRIDE = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() == 0 and sys.platform == "linux"
    else []
)
"""Put before a command, it makes root heed the permissions of files, as everybody else does anyway."""

needs_mounts = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs root on Linux"
)


def payload(done: JsonEvent) -> int:
    """Bytes of chunks that a run carried."""
    return int(sum(done["bytes_by_path"].values()))


def kill(program: Program, how: signal.Signals = signal.SIGKILL) -> None:
    """End a program by a signal that it does not survive."""
    os.kill(program.pid, how)
    assert program.wait(40).status == -how


def computed_by(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def mounted(where: Path, *options: str) -> Iterator[Path]:
    """A tmpfs with these mount options."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", where], check=True, timeout=10)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True, timeout=10)


@contextlib.contextmanager
def fast_folder() -> Iterator[Path]:
    """A private directory in memory, where there is one."""
    where = Path(tempfile.mkdtemp(prefix="p2pxfer-test-", dir=SHM if SHM.is_dir() else None))
    try:
        yield where
    finally:
        shutil.rmtree(where)


@contextlib.contextmanager
def fast_stage() -> Iterator[Stage]:
    """A stage in memory on which nothing runs yet; at the end its logs are looked at."""
    with fast_folder() as folder, Stage(folder) as made:
        yield made
        made.close()
        made.check_logs()


@contextlib.contextmanager
def fast_pair() -> Iterator[Stage]:
    """The same with a running server, and two people who know each other."""
    with fast_stage() as made:
        yield made.set_up()


@contextlib.contextmanager
def pair_at(folder: Path) -> Iterator[Stage]:
    """The same in `folder`; its logs are not looked at."""
    with Stage(folder) as made:
        yield made.set_up()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage with a running server and no contacts."""
    with Stage(tmp_path) as made:
        yield made.set_up(known=False)
    made.check_logs()


@pytest.fixture
def pair(stage: Stage) -> Stage:
    """A stage whose two people know each other."""
    stage.make_contacts()
    return stage


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose two people know each other, for programs that talk to people: their logs are not looked at."""
    with pair_at(tmp_path) as made:
        yield made


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that a test puts here are closed at its end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()
