"""Starts the product's programs as a user would and reads their events; the demo and the bench share it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Protocol, Self

BIN = Path(sys.prefix) / "bin"
STARTING = 30.0
"""Seconds that a program may take to say that it is ready."""
STOPPING = 5.0
"""Seconds between asking a program to end and killing it."""
_POLL = 0.003

JsonEvent = dict[str, Any]


class ProgramError(Exception):
    """A program ended too early, complained or fell silent; the text says which and what it wrote last."""


class Place(Protocol):
    """Somewhere to start programs, by role: one machine, or the lab of `tests/lab`."""

    def popen(
        self,
        role: str,
        argv: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program, in a process group of its own."""
        ...


class Loopback:
    """This machine: every role is here."""

    def popen(
        self,
        role: str,
        argv: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program, in a process group of its own."""
        return subprocess.Popen(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, text=True, start_new_session=True
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit status, when (monotonic seconds), and its peak resident memory in bytes.

    The peak is at least that of the program that started it, which Linux counts in.
    """

    status: int
    at: float
    peak_bytes: int


class Program:
    """A running program whose standard output is one JSON object a line, or plain text that is kept.

    A context manager: on leaving, the program is asked to end and then killed.
    """

    listener: ClassVar[Callable[[JsonEvent], None] | None] = None
    """Hears every object of every program, in that program's reading thread."""

    def __init__(
        self,
        place: Place,
        role: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        commanded: bool = False,
    ) -> None:
        """Start `argv`; what it writes to standard error goes to the file `log`. `commanded`: `tell` is used."""
        self.role = role
        self._log = log
        with log.open("w") as errors:
            self.started = time.monotonic()
            self._child = place.popen(
                role,
                [str(word) for word in argv],
                stdin=subprocess.PIPE if commanded else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_clean_environment(env or {}),
                cwd=cwd,
            )
        self._ended: Ended | None = None
        self._events: queue.SimpleQueue[JsonEvent | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the program itself."""
        return self._child.pid

    def tell(self, line: str) -> None:
        """Write a line to its standard input. Raises `ProgramError` if it does not read any more."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{line}\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise ProgramError(f"{self.role} does not listen{self.last_words()}") from None

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict):
                    if Program.listener is not None:
                        Program.listener(event)
                    self._events.put(event)
                    continue
            with self._log.open("a") as log:
                log.write(line)
        self._events.put(None)

    def events(self, silence: float) -> Iterator[JsonEvent]:
        """Its events until it closes its output. Raises `ProgramError` if none comes for `silence` seconds."""
        while True:
            try:
                event = self._events.get(timeout=silence)
            except queue.Empty:
                raise ProgramError(f"{self.role} said nothing for {silence:g} s{self.last_words()}") from None
            if event is None:
                # Whoever asks again gets the same answer.
                self._events.put(None)
                return
            yield event

    def wait_for(self, name: str, silence: float = STARTING) -> JsonEvent:
        """The next event of this name. Raises `ProgramError` for an `error` event, the end, or silence."""
        for event in self.events(silence):
            if event.get("event") == name:
                return event
            if event.get("event") == "error":
                raise ProgramError(f"{self.role}: {event.get('message')}")
        raise ProgramError(f"{self.role} ended without the event {name!r}{self.last_words()}")

    def poll(self) -> Ended | None:
        """How it ended, or None while it runs."""
        if self._ended is None:
            try:
                pid, status, usage = os.wait4(self._child.pid, os.WNOHANG)
            except ChildProcessError:  # the place collected it
                pid, status, usage = self._child.pid, 0, resource.struct_rusage((0,) * 16)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._child.returncode = code
                self._ended = Ended(code, time.monotonic(), usage.ru_maxrss * 1024)
        return self._ended

    def wait(self, timeout: float) -> Ended:
        """Its end. Raises `ProgramError` if it does not come in `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (ended := self.poll()) is None:
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.role} did not end within {timeout:g} s{self.last_words()}")
            time.sleep(_POLL)
        return ended

    def succeed(self, timeout: float) -> Ended:
        """As `wait`, and raises `ProgramError` if it failed."""
        ended = self.wait(timeout)
        if ended.status:
            raise ProgramError(f"{self.role} ended with status {ended.status}{self.last_words()}")
        return ended

    def peak_bytes(self) -> int:
        """Its peak resident memory so far, while it runs."""
        for line in Path(f"/proc/{self._child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, to be appended to a message."""
        text = self._log.read_text(errors="replace").splitlines()[-lines:]
        return "".join(f"\n    {line}" for line in text)

    def stop(self) -> None:
        """End it if it still runs: ask, then kill."""
        if self.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(ProgramError):
                self.wait(STOPPING)
        if self.poll() is None:
            self._signal(signal.SIGKILL)
            self.wait(STOPPING)
        self._reader.join(1.0)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)


def _clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Without what would steer the programs from outside, or hide that they are not installed.

    Nor does any variable of the interpreter pass: with ``PYTHONDONTWRITEBYTECODE`` the modules of an editable
    installation would be compiled again at every start, which no installed program does.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("P2PXFER_", "PYTHON"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start_server(place: Place, folder: Path, *, loopback: bool, listen: Sequence[str] = ()) -> tuple[Program, str]:
    """Start a rendezvous server with its state in `folder`; returns it and the address that clients need.

    `loopback`: only programs of this machine may reach it. `listen`: endpoints instead of the usual ones. Raises
    `ProgramError`.
    """
    state = folder / "server"
    # One that was killed has left its address there, which says nothing of this one.
    (state / "address").unlink(missing_ok=True)
    argv: list[str | Path] = [BIN / "twist", "--log-format=text", "p2pxfer-rendezvous", "--state", state]
    if loopback:
        for port in free_ports(2):
            argv += ["--listen", f"tcp:{port}:interface=127.0.0.1"]
    for endpoint in listen:
        argv += ["--listen", endpoint]
    server = Program(place, "srv", argv, folder / "server.log", cwd=folder)
    try:
        return server, _address(server, state / "address")
    except BaseException:
        server.stop()
        raise


def _address(server: Program, file: Path) -> str:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            lines = file.read_text().splitlines()
            if lines and "#" in lines[0]:
                return lines[0].strip()
        if ended := server.poll():
            raise ProgramError(f"the server ended with status {ended.status}{server.last_words()}")
        time.sleep(0.02)
    raise ProgramError(f"the server did not write {file}{server.last_words()}")


def client(address: str, home: Path, *words: str | Path) -> list[str | Path]:
    """The command line of a p2pxfer command that prints events."""
    return [BIN / "p2pxfer", "--server", address, "--home", home, "--json", *words]
