"""The public tools of the comparison: scp with an sshd of its own, magic-wormhole with servers of its own, what the
machine can do without encryption: socat for a file, iperf3 for a stream; and the product's work without a protocol.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchlib import bare
from scripts.product import STARTING, Loopback, Program, ProgramError, free_ports

TRANSFER = 300.0
"""Seconds that one transfer may take."""
_CODE = "4-bench-loopback"
_SETTLED = 1.5
"""Seconds after which a sender that shows its code has also claimed it at the mailbox server."""


class MissingToolError(Exception):
    """A tool of the comparison is not installed; the text says which."""


def tool(name: str) -> str:
    """The path of a system's program. Raises `MissingToolError`."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(f"{name} is not installed")
    return found


@dataclass(frozen=True, slots=True)
class Socat:
    """A plain TCP connection from file to file, in pieces of a MiB."""

    folder: Path
    program: str

    def copy(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Copy a file; seconds from the start of the sender to the end of both. Raises `ProgramError`."""
        (port,) = free_ports(1)
        socat = [self.program, "-u", "-b", str(1 << 20)]
        listen = [*socat, f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr", f"OPEN:{target},creat,excl,wronly"]
        send = [*socat, f"OPEN:{source},rdonly", f"TCP4:127.0.0.1:{port}"]
        with Program(Loopback(), "socat receiver", listen, self.folder / "receive.log") as receiver:
            wait_until_listening(port, receiver)
            ready()
            with Program(Loopback(), "socat", send, self.folder / "send.log") as sender:
                ends = (sender.succeed(TRANSFER).at, receiver.succeed(TRANSFER).at)
                return max(ends) - sender.started


@dataclass(frozen=True, slots=True)
class Bare:
    """What :mod:`scripts.benchlib.bare` does, for files of whole MiB."""

    folder: Path
    rates: list[float] = field(default_factory=list)
    """Bytes a second of each copy from its first piece on."""

    def copy(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Copy a file; seconds from the start of the sender to the end of both. Raises `ProgramError`."""
        (port,) = free_ports(1)
        program: list[str | Path] = [sys.executable, Path(bare.__file__)]
        receive, send = [*program, "receive", str(port), target], [*program, "send", str(port), source]
        with Program(Loopback(), "bare receiver", receive, self.folder / "receive.log") as receiver:
            wait_until_listening(port, receiver)
            ready()
            with Program(Loopback(), "bare sender", send, self.folder / "send.log") as sender:
                ends = (sender.succeed(TRANSFER).at, receiver.succeed(TRANSFER).at)
            self.rates.append(float(receiver.wait_for("done")["rate"]))
            return max(ends) - sender.started


def iperf3(folder: Path, seconds: int) -> float:
    """Bytes a second of one TCP stream over loopback. Raises `MissingToolError` and `ProgramError`."""
    program, (port,) = tool("iperf3"), free_ports(1)
    server = [program, "--server", "--one-off", "--bind", "127.0.0.1", "--port", str(port)]
    with Program(Loopback(), "iperf3 server", server, folder / "iperf3-server.log") as running:
        wait_until_listening(port, running)
        command = [program, "--client", "127.0.0.1", "--port", str(port), "--time", str(seconds), "--json"]
        try:
            said = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds + STARTING, check=True
            )
            return float(json.loads(said.stdout)["end"]["sum_received"]["bits_per_second"]) / 8
        except (subprocess.SubprocessError, ValueError, KeyError) as error:
            raise ProgramError(f"iperf3 measured nothing: {error}") from error


def wait_until_listening(port: int, program: Program) -> None:
    """As `wait_for_port`, without connecting: for a program that takes one connection only."""
    wanted = f":{port:04X} 00000000:0000 0A"
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        if ended := program.poll():
            raise ProgramError(f"{program.role} ended with status {ended.status}{program.last_words()}")
        if wanted in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.02)
    raise ProgramError(f"{program.role} does not listen{program.last_words()}")


def wait_for_port(port: int, program: Program) -> None:
    """Return when something listens there. Raises `ProgramError` if `program` ends or nothing does in time."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        if ended := program.poll():
            raise ProgramError(f"{program.role} ended with status {ended.status}{program.last_words()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    raise ProgramError(f"{program.role} does not listen{program.last_words()}")


@dataclass(frozen=True, slots=True)
class Scp:
    """An sshd that waits on loopback, and the key that it lets in."""

    folder: Path
    port: int

    def copy(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Copy a file; seconds from the start of `scp` to its end. Raises `ProgramError`."""
        to = f"{getpass.getuser()}@127.0.0.1:{target}"
        argv = [tool("scp"), "-q", "-F", "none", "-P", str(self.port), *self.options(), str(source), to]
        ready()
        with Program(Loopback(), "scp", argv, self.folder / "scp.log") as scp:
            return scp.succeed(TRANSFER).at - scp.started

    def options(self) -> list[str]:
        """What makes ssh and scp use the key, and nothing of the user's own."""
        options = [f"UserKnownHostsFile={self.folder / 'known_hosts'}", f"IdentityFile={self.folder / 'user'}"]
        options += ["StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", "Compression=no"]
        return [word for option in options for word in ("-o", option)]

    def copy_by_rsync(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Copy a directory with ``rsync -a`` over ssh; seconds from its start to its end. Raises `ProgramError`."""
        shell = shlex.join([tool("ssh"), "-F", "none", "-p", str(self.port), *self.options()])
        to = f"{getpass.getuser()}@127.0.0.1:{target.parent}/"
        argv = [tool("rsync"), "-a", "-e", shell, str(source), to]
        ready()
        with Program(Loopback(), "rsync", argv, self.folder / "rsync.log") as rsync:
            return rsync.succeed(TRANSFER).at - rsync.started


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Scp]:
    """An sshd with keys and configuration in `folder`. Raises `MissingToolError` and `ProgramError`."""
    server, (port,) = tool("sshd"), free_ports(1)
    scp = prepare_sshd(folder, "127.0.0.1", port)
    with separation_folder():
        argv = [server, "-D", "-e", "-f", str(folder / "sshd_config")]
        with Program(Loopback(), "sshd", argv, folder / "sshd.log") as running:
            wait_for_port(port, running)
            yield scp


def prepare_sshd(folder: Path, host: str, port: int) -> Scp:
    """Keys and the configuration of an sshd that listens there, in `folder`. Raises `MissingToolError`."""
    for name in ("host", "user"):
        command = [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=30)
    host_key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[{host}]:{port} {host_key}")
    (folder / "sshd_config").write_text(
        f"ListenAddress {host}:{port}\nHostKey {folder / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    return Scp(folder, port)


@contextlib.contextmanager
def separation_folder() -> Iterator[None]:
    """The empty folder that an sshd of root insists on; made if it is not there, and then removed."""
    path = Path("/run/sshd")
    made = os.geteuid() == 0 and not path.exists()
    if made:
        path.mkdir(mode=0o755)
    try:
        yield
    finally:
        if made:
            path.rmdir()


@dataclass(frozen=True, slots=True)
class Wormhole:
    """Magic-wormhole's two servers on loopback."""

    folder: Path
    venv: Path
    mailbox: int
    transit: int

    def _argv(self, *words: str) -> list[str]:
        relay = f"ws://127.0.0.1:{self.mailbox}/v1"
        helper = f"tcp:127.0.0.1:{self.transit}"
        return [str(self.venv / "bin/wormhole"), "--relay-url", relay, "--transit-helper", helper, *words]

    def copy(self, source: Path, target: Path, ready: Callable[[], None]) -> float:
        """Send a file; seconds from the start of the receiver, the sender waiting, to the end of both."""
        send = self._argv("send", "--hide-progress", "--code", _CODE, str(source))
        receive = self._argv("receive", "--accept-file", "--hide-progress", "-o", str(target), _CODE)
        with Program(Loopback(), "wormhole send", send, self.folder / "send.log") as sender:
            self._wait_for_code(sender)
            ready()
            with Program(Loopback(), "wormhole receive", receive, self.folder / "receive.log") as receiver:
                ends = (receiver.succeed(TRANSFER).at, sender.succeed(TRANSFER).at)
                return max(ends) - receiver.started

    def _wait_for_code(self, sender: Program) -> None:
        deadline = time.monotonic() + STARTING
        while _CODE not in sender.last_words(1000):
            if sender.poll() or time.monotonic() > deadline:
                raise ProgramError(f"wormhole send shows no code{sender.last_words()}")
            time.sleep(0.05)
        time.sleep(_SETTLED)


@contextlib.contextmanager
def wormhole_servers(folder: Path, venv: Path) -> Iterator[Wormhole]:
    """A mailbox server and a transit relay. Raises `MissingToolError` and `ProgramError`."""
    twist = venv / "bin/twist"
    if not (venv / "bin/wormhole").exists():
        raise MissingToolError("magic-wormhole is not installed in the bench's environment")
    mailbox, transit = free_ports(2)
    commands = {
        "mailbox": ["wormhole-mailbox", f"--port=tcp:{mailbox}:interface=127.0.0.1"],
        "transit": ["transitrelay", f"--port=tcp:{transit}:interface=127.0.0.1"],
    }
    with contextlib.ExitStack() as running:
        for (name, words), port in zip(commands.items(), (mailbox, transit), strict=True):
            place = folder / name
            place.mkdir()
            server = Program(Loopback(), name, [twist, *words], folder / f"{name}.log", cwd=place)
            running.enter_context(server)
            wait_for_port(port, server)
        yield Wormhole(folder, venv, mailbox, transit)
