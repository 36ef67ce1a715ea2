"""The demo: a server, a receiver and a sender move one file, behind NATs of their own where the system allows it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scripts.product import JsonEvent, Loopback, Place, Program, ProgramError, client, start_server

GENERATED_MIB = 64
SILENCE = 120.0
"""Seconds without any event after which the transfer counts as stuck."""
BLOCK = 1 << 20
_INSIDE = "P2PXFER_DEMO_INSIDE"
_NO_LAB = 64
_OWN_RUN = 'mount -t tmpfs tmpfs /run && exec "$@"'

MEANING = {
    "punched": "a hole in both NATs, by TCP simultaneous open",
    "direct": "a plain connection",
    "lan": "the local network",
    "ipv6": "IPv6",
    "mapped": "a port that a router mapped",
    "relay": "through the server, encrypted end to end",
}


class NoLabError(Exception):
    """No network namespaces here; the text says why."""


def show(text: str) -> None:
    """One line for the person who watches."""
    print(text, flush=True)


def mib(count: float) -> str:
    """A number of bytes as text."""
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"


# -- where ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def lab() -> Iterator[Place]:
    """Two homes behind a NAT each, and a server, in network namespaces. Raises `NoLabError`."""
    from tests.lab.namespaces import LabError
    from tests.lab.nat import KINDS
    from tests.lab.topology import Lab

    # Delay needs TUN devices, which an unprivileged user namespace may not open.
    rtt_ms = 20 if os.access("/dev/net/tun", os.W_OK) else 0
    kind = KINDS["port-restricted"]
    place = Lab(kind, kind, rtt_ms=rtt_ms)
    try:
        place.__enter__()
    except (LabError, OSError) as error:
        raise NoLabError(str(error).splitlines()[0]) from error
    try:
        yield place
    finally:
        place.close()


def own_namespaces(arguments: Sequence[str]) -> int:
    """Run this program again as root of an unprivileged user namespace. Raises `NoLabError`."""
    if not shutil.which("unshare"):
        raise NoLabError("there is no unshare command")
    into = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--", "sh", "-c", _OWN_RUN, "sh"]
    probe = subprocess.run(
        [*into, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
    )
    if probe.returncode:
        raise NoLabError(" ".join(probe.stderr.split()) or "unshare failed")
    again = [sys.executable, "-m", "scripts.demonstration", *arguments]
    child = subprocess.Popen([*into, *again], env={**os.environ, _INSIDE: "1"})
    status = _wait_through_signals(child)
    if status == _NO_LAB:
        raise NoLabError("the namespaces could not be set up")
    return status


def _wait_through_signals(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child, which cleans up; whatever interrupts this program interrupts it too."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)


# -- what ----------------------------------------------------------------------------------------------------------


def demonstrate(place: Place, file: Path | None, *, loopback: bool) -> int:
    """Move the file and say how it went; 0 if both copies are equal."""
    with tempfile.TemporaryDirectory(prefix="p2pxfer-demo-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        if file is None:
            file = folder / "random.bin"
            generate(file, GENERATED_MIB)
        received = folder / "received"
        received.mkdir()
        server, address = start_server(place, folder, loopback=loopback)
        running.enter_context(server)
        show(f"rendezvous server: {address}")
        words = ("receive", "--as", "bob", "--to", received, "--once")
        receiver = Program(place, "bob", client(address, folder / "bob", *words), folder / "bob.log", cwd=folder)
        running.enter_context(receiver)
        code = str(receiver.wait_for("code")["code"])
        show(f"bob waits and reads out this code: {code}")
        argv = client(address, folder / "alice", "send", file, "bob")
        sender = Program(place, "alice", argv, folder / "alice.log", env={"P2PXFER_CODE": code}, cwd=folder)
        running.enter_context(sender)
        show(f"alice sends {file.name}, {mib(file.stat().st_size)}")
        done = follow(sender)
        sender.succeed(SILENCE)
        receiver.succeed(SILENCE)
        report_paths(done)
        return compare(file, received / file.name)


def generate(path: Path, size_mib: int) -> None:
    """Fill a file with random bytes."""
    with path.open("wb") as out:
        for _ in range(size_mib):
            out.write(secrets.token_bytes(BLOCK))


def follow(sender: Program) -> JsonEvent:
    """Show what the sender reports; returns its last word. Raises `ProgramError`."""
    display = Display(show, live=sys.stdout.isatty())
    for event in sender.events(SILENCE):
        match event.get("event"):
            case "peer":
                display.line(f"the peer is {event['name']}, verified by {event['verified']}")
            case "path":
                display.line(describe_path(event))
            case "progress":
                display.progress(event)
            case "note":
                display.line(str(event["message"]))
            case "error":
                display.line("")
                raise ProgramError(f"alice: {event['message']}")
            case "done":
                display.line(f"done in {event['seconds']:.1f} s")
                return event
    raise ProgramError(f"alice ended early{sender.last_words()}")


def describe_path(event: JsonEvent) -> str:
    """A path event as a line."""
    where = f"{event['local']} -> {event['remote']}" if event.get("remote") else ""
    why = f" ({event['why']})" if event.get("why") else ""
    return f"path {event['path']} is {event['state']} after {event['after_ms']:.0f} ms {where}{why}".rstrip()


class Display:
    """Progress: one line that changes on a terminal, every tenth elsewhere."""

    def __init__(self, write: Callable[[str], None], *, live: bool) -> None:
        """`write` prints a line; `live`: a line may be written over."""
        self._write = write
        self._live = live
        self._open = False
        self._tenth = 0

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._open:
            print()
            self._open = False
        if text:
            self._write(f"  {text}")

    def progress(self, event: JsonEvent) -> None:
        """How far it is."""
        total = max(1, int(event["total"]))
        share = int(event["bytes"]) / total
        text = f"{share:4.0%}  {mib(event['bytes'])} of {mib(total)}  {mib(event['rate'])}/s  {event['path']}"
        if self._live:
            print(f"\r\x1b[K  {text}", end="", flush=True)
            self._open = True
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            self._write(f"  {text}")


def report_paths(done: JsonEvent) -> None:
    """Say which way the bytes went, the most used path first."""
    used = sorted(done["bytes_by_path"].items(), key=lambda pair: -pair[1])
    show("path used:" if any(count for _, count in used) else "path used: none, there was nothing to carry")
    for kind, count in used:
        if count:
            show(f"  {kind:8} {mib(count):>12}  {MEANING.get(kind, '')}".rstrip())


def compare(sent: Path, received: Path) -> int:
    """Hash both files; 0 if they are equal."""
    if not received.is_file():
        show(f"nothing arrived as {received.name}")
        return 1
    ours, theirs = digest(sent), digest(received)
    show(f"SHA-256 sent      {ours}\nSHA-256 received  {theirs}")
    show("equal" if ours == theirs else "NOT EQUAL")
    return int(ours != theirs)


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- and how --------------------------------------------------------------------------------------------------------

REAL_MACHINES = """
The same between real machines, with p2pxfer installed on all three:

      python3 -m venv ~/p2pxfer-env && ~/p2pxfer-env/bin/pip install {root}
      . ~/p2pxfer-env/bin/activate
  on a host with a public address, TCP ports 8877 and 8878 open:
      twistd -n p2pxfer-rendezvous          prints HOST:PORT#PIN
  on the receiving machine:
      p2pxfer --server 'HOST:PORT#PIN' init --as bob
      p2pxfer receive
  on the sending machine, with the code that the receiver shows:
      p2pxfer --server 'HOST:PORT#PIN' init --as alice
      p2pxfer send FILE bob
"""

BEHIND_NATS = "network: namespaces {how}, a port-restricted NAT in front of each peer"
ON_LOOPBACK = "network: loopback, without any NAT, because no namespaces can be made here: {why}"


def run(arguments: Sequence[str], file: Path | None) -> int:
    """Find the best place this system allows and run the demo there."""
    inside = _INSIDE in os.environ
    try:
        if os.geteuid() == 0:
            with lab() as place:
                show(BEHIND_NATS.format(how="in a user namespace" if inside else "as root"))
                return demonstrate(place, file, loopback=False)
        return own_namespaces(arguments)
    except NoLabError as error:
        if inside:
            print(f"note: {error}", file=sys.stderr)
            return _NO_LAB
        show(ON_LOOPBACK.format(why=error))
    return demonstrate(Loopback(), file, loopback=True)


def _interrupt(*_: object) -> None:
    # Once: a second signal, as from the terminal and from the process above, must not cut the cleaning up short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run the demo; 0 if what arrived is what was sent, 2 for wrong use, 130 if interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: scripts/demo [FILE]", file=sys.stderr)
        return 2
    file = Path(arguments[0]).resolve() if arguments else None
    if file is not None and not file.is_file():
        print(f"error: {file} is not a file", file=sys.stderr)
        return 2
    try:
        status = run(arguments, file)
    except ProgramError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything is stopped and removed", file=sys.stderr)
        return 130
    if status == 0 and _INSIDE not in os.environ:
        show(REAL_MACHINES.format(root=shlex.quote(str(Path(__file__).resolve().parent.parent))))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
