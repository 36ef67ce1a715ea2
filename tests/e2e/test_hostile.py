"""Peers and strangers that break the rules on purpose, and faults of the program itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from p2pxfer.net.private.home import Home
from scripts.product import Program
from tests.e2e.conftest import MIB, Outcome, Stage, Words, check_failed_event, check_failure, names_in, wait_until
from tests.scene import WORDS, events_of, last, random_file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small file to send."""
    path = tmp_path / "source.bin"
    random_file(path, MIB)
    return path


DOUBLE = """
import p2pxfer.cli.main


def mischief():
{mischief}

mischief()
p2pxfer.cli.main.main()
"""


def double(stage: Stage, mischief: str) -> list[str]:
    """The start of a command line of a client with changed insides."""
    path = stage.folder / "double.py"
    path.write_text(DOUBLE.replace("{mischief}", textwrap.indent(textwrap.dedent(mischief), "    ")))
    return [sys.executable, str(path)]


def as_double(stage: Stage, home: Path, *words: str | Path) -> Outcome:
    """Run the double that :func:`double` wrote."""
    argv = [sys.executable, stage.folder / "double.py", "--server", stage.address, "--home", home, *words]
    return stage.run_bare(argv)


RENAMING = """
    import hashlib
    from p2pxfer.core.transfer import manifest

    def add_renamed(self, page, *, more, plain=manifest.Manifest.add):
        plain(self, page, more=more)
        self._data = self._data.replace(OLD, NEW)
        self._digests = [hashlib.sha256(self._data).digest()]

    manifest.Manifest.add = add_renamed
"""


NAMES = [
    "../escaped.txt", "/tmp/escaped.t", "..", "nested/inside.t", "back\\slash.txt", "new\nline.txt", "con.txt",
    "esc\x1b[31mred.txt", "\u202eright-to-left", ".p2pxfer-000000", "nul\0byte.txt", "space .txt ",
]  # fmt: skip


@pytest.mark.deadline(90)
def test_a_hostile_sender_names_files(pair: Stage) -> None:
    """Its names leave the machine unchecked; the receiver creates nothing and shows them escaped."""
    bob = plain_receiver(pair, "--accept", "all")
    sources = pair.folder / "sources"
    sources.mkdir()
    for name in NAMES:
        wanted = name.encode()
        source = sources / ("x" * len(wanted))
        source.write_text("hostile")
        double(pair, f"OLD, NEW = {source.name.encode()!r}, {wanted!r}\n" + textwrap.dedent(RENAMING))
        before = set(names_in(pair.folder))
        sent = as_double(pair, pair.alice, "send", source, "bob")
        assert sent.status == 6, (name, sent)
        assert sent.err.splitlines()[-1].isprintable()
        assert not list(pair.inbox.iterdir()), name
        made = {path for path in set(names_in(pair.folder)) - before if not path.startswith("alice-home/")}
        assert not made, name
        source.unlink()
    assert not Path("/tmp/escaped.t").exists()
    pair.send_good()
    check_screen(bob)


def plain_receiver(stage: Stage, *words: str) -> Path:
    """A receiver for people, as on a terminal; returns the file with all that it wrote."""
    screen = stage.folder / "bob.txt"
    with screen.open("wb") as file:
        argv: Words = [
            stage.binary, "--server", stage.address, "--home", stage.bob, "receive", "--as", "bob", "--to", stage.inbox,
        ]  # fmt: skip
        stage.start(*argv, *words, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    wait_until(lambda: b"registered as bob" in screen.read_bytes(), 20)
    return screen


def check_screen(screen: Path) -> str:
    """Nothing on it can steer a terminal."""
    text = screen.read_bytes().decode()
    assert all(line.isprintable() for line in text.split("\n")), text
    assert "Traceback" not in text
    assert "fault inside" not in text
    return text


def test_a_hostile_sender_names_itself(stage: Stage) -> None:
    """Control characters in the name that a peer gives itself reach neither the screen nor the contacts."""
    source = stage.folder / "named.txt"
    source.write_text("named")
    double(stage, r"""
        from p2pxfer.cli.settings import Global
        Global.own_name = lambda self, home, given: "ev\x1b[31m\u202eil\nbob"
    """)  # fmt: skip
    bob = plain_receiver(stage, "--code", WORDS)
    peer = stage.folder / "code"
    peer.write_text(f"1-{WORDS}")
    sent = as_double(stage, stage.alice, "send", source, "bob", "--code-file", peer)
    text = check_screen(bob)
    print(sent.status, text)
    assert sent.status in (0, 6)
    for contact in Home(stage.bob).contacts():
        assert re.fullmatch("[a-z0-9.-]+", contact.name)


UNDERSTATING = """
    from p2pxfer.core.transfer import announcing, sender

    announcing.Offer = lambda plain=announcing.Offer, **said: plain(**said | OFFERED)
    sender.SenderCore.grow = lambda self, *more, plain=sender.SenderCore.grow: [
        each for each in plain(self, *more) if not isinstance(getattr(each, "message", None), announcing.Tally)
    ]
"""
"""A sender that says less than it lists, and that it has counted."""
EACH = 200


def make_long_tree(top: Path, first: int, stop: int) -> None:
    """Add files with such names that the list takes a page for each three hundred; the first page stays as it was."""
    top.mkdir(exist_ok=True)
    before = top.stat().st_mtime_ns
    for number in range(first, stop):
        (top / f"{number:04d}-{'n' * 80}").write_bytes(b"%04d" % number * (EACH // 4))
    if first:
        os.utime(top, ns=(before, before))


def test_a_hostile_sender_lists_more_than_it_offered(pair: Stage) -> None:
    """It is stopped at the first page that goes beyond, with nothing of it under a name."""
    top = pair.folder / "tree"
    make_long_tree(top, 0, 1000)
    told = {"files": 400, "size": 400 * EACH, "counting": False}
    double(pair, f"OFFERED = {told}\n" + textwrap.dedent(UNDERSTATING))
    bob = pair.receive("--once", "--no-code")
    sent = as_double(pair, pair.alice, "send", top, "bob")
    says = "the file list goes beyond what was offered: "
    check_failure(sent, 6, says)
    ended = bob.wait(30)
    events = events_of(bob)
    assert ended.status == 6, events
    offer = next(event for event in events if event["event"] == "offer")
    assert (offer["files"], offer["bytes"]) == (400, 400 * EACH)
    error = last(events, "error")
    assert error["code"] == "E_MANIFEST"
    assert error["message"].startswith(says)
    assert error["message"].endswith(f"and 400 files and {400 * EACH} bytes were offered")
    assert not (pair.inbox / "tree").exists()


@pytest.mark.parametrize("answer", ["n", "y"])
def test_a_sender_that_comes_back_with_more_is_asked_about_again(pair: Stage, answer: str) -> None:
    """The user took 400 files; what the same transfer lists now goes nowhere before the user has taken that, too."""
    top = pair.folder / "tree"
    make_long_tree(top, 0, 400)
    double(pair, """
        import os, signal
        from p2pxfer.core.session.transferwire import Accept
        from p2pxfer.core.transfer.sender import SenderCore

        def killed(self, path, message, plain=SenderCore.receive):
            if isinstance(message, Accept):
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(self, path, message)

        SenderCore.receive = killed
    """)  # fmt: skip
    answers, into = os.pipe()
    try:
        bob = pair.asking_receiver(answers, "--once", "--no-code")
        os.write(into, b"y\n")
        assert as_double(pair, pair.alice, "send", top, "bob").status == -signal.SIGKILL
        make_long_tree(top, 400, 1000)
        # It may be asked about before the sender has counted, and once more then.
        os.write(into, f"{answer}\n".encode() * 3)
        sent = pair.run("send", top, "bob")
        ended = bob.wait(30)
    finally:
        os.close(answers)
        os.close(into)
    asked = pair.folder / "asking.log"
    assert len(re.findall(r"take tree .* from alice\? \[y/N\]", asked.read_text())) >= 2
    asked.unlink()
    events = events_of(bob)
    offers = [event["files"] for event in events if event["event"] == "offer"]
    assert (offers[0], offers[-1] > 400) == (400, True)
    if answer == "y":
        assert (sent.status, ended.status) == (0, 0)
        assert offers[-1] == len(list((pair.inbox / "tree").iterdir())) == 1000
    else:
        check_failure(sent, 4, "the receiver's user said no")
        assert ended.status == 4
        assert not (pair.inbox / "tree").exists()


def test_a_hostile_receiver_gives_a_reason(pair: Stage, source: Path) -> None:
    """The reason for a refusal is shown escaped."""
    double(pair, r"""
        import p2pxfer.net.transfer.tally as tally
        from p2pxfer.errors import Refused
        assert issubclass(tally.RefusedHere, Refused)
        tally.RefusedHere = lambda: Refused("no\x1b]0;owned\x07\n\u202eTraceback: p2pxfer: all is well")
    """)  # fmt: skip
    argv: Words = [sys.executable, pair.folder / "double.py", "--server", pair.address, "--home", pair.bob, "receive",
            "--as", "bob", "--to", pair.inbox, "--no-code", "--accept", "ask"]  # fmt: skip
    screen = pair.folder / "bob.txt"
    answers, into = os.pipe()
    os.write(into, b"n\n")
    with screen.open("wb") as file:
        pair.start(*argv, stdout=file, stderr=file, stdin=answers)
    os.close(answers)
    os.close(into)
    wait_until(lambda: b"registered as bob" in screen.read_bytes(), 20)
    words = [pair.binary, "--server", pair.address, "--home", pair.alice, "send", source, "bob"]
    sent = subprocess.run(list(map(str, words)), capture_output=True, timeout=30, check=False)
    assert sent.returncode == 4
    lines = sent.stderr.decode().split("\n")
    assert all(line.isprintable() for line in lines), lines
    assert r"no\x1b]0;owned\x07\x0a\u202e" in lines[-2]


def test_a_hostile_sender_gives_a_reason(pair: Stage, source: Path) -> None:
    """Why it could not go on is shown escaped, and as much of it as a line holds."""
    double(pair, r"""
        import p2pxfer.net.transfer.outgoing as outgoing
        from p2pxfer.core.session.wire import Problem
        from p2pxfer.errors import LimitReached
        said = Problem(word="E_LIMIT", message="no\x1b]0;owned\x07\n\u202ep2pxfer: all is well" + 900 * "!", ends=True)
        outgoing.last_word = lambda error, *, offered: said
        use = outgoing.OutgoingJob._use
        def fails(self, path):
            use(self, path)
            self._reactor.callLater(1, self.fail, LimitReached("it is enough"))
        outgoing.OutgoingJob._use = fails
    """)  # fmt: skip
    there, answers = os.pipe()
    bob = pair.asking_receiver(there, "--no-code")
    os.close(there)
    assert as_double(pair, pair.alice, "send", source, "bob").status == 9
    said = bob.wait_for("note")["message"]
    os.close(answers)
    assert said.isprintable() and len(said) < 600
    assert said.startswith(r"alice could not go on: no\x1b]0;owned\x07\x0a\u202ep2pxfer: all is well!!!")
    assert said.endswith("...; nothing was taken of source.bin")
    bob.stop()
    (pair.folder / "asking.log").unlink()


GARBAGE = [
    b"", b"\0" * 65536, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"\xff" * 100_000,
    b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", os.urandom(5000),
]  # fmt: skip


def throw(port: int, data: bytes) -> bool:
    """Connect, write, read to the end or for a moment; false if nobody listened."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as conn, contextlib.suppress(OSError):
            conn.sendall(data)
            conn.settimeout(0.05)
            while conn.recv(65536):
                pass
    except OSError:
        return False
    return True


def throw_frames(stage: Stage, port: int) -> int:
    """Behind good TLS, frames that break the rules; returns how many connections the server ended."""
    ended = 0
    pem = stage.alice / "identity.pem"
    for frame in (
        struct.pack(">IB", 0xFFFFFFFF, 1), struct.pack(">IB", 0, 1), struct.pack(">IB", 1 << 20, 1) + bytes(1000),
        struct.pack(">IB", 4, 0xEE) + b"abcd", bytes(4096), b"\xff" * 4096, struct.pack(">IB", 6, 1) + b"\xc1" * 5,
    ):  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(pem)
        context.set_alpn_protocols(["p2pxfer/1"])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw, context.wrap_socket(raw) as conn:
            conn.settimeout(8)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                conn.sendall(frame)
                while conn.recv(65536):
                    pass
            ended += 1
    return ended


@pytest.mark.deadline(120)
def test_garbage_on_every_port_of_the_server(pair: Stage) -> None:
    for port in pair.ports:
        for data in GARBAGE:
            assert throw(port, data)
        assert throw_frames(pair, port) == 7
    pair.good_transfer()


def test_garbage_on_the_port_that_punches(pair: Stage) -> None:
    """While the peers find each other, a stranger hits the same port with nonsense."""
    with Program(
        pair.place, "bob",
        pair.command_line(pair.bob, "receive", "--as", "bob", "--to", pair.inbox, "--no-code", "--path", "direct"),
        pair.folder / "bob.log",
    ) as bob:  # fmt: skip
        observed = int(bob.wait_for("registered")["observed"].rpartition(":")[2])
        over = threading.Event()
        hits = [0]

        def hammer() -> None:
            number = 0
            while not over.is_set():
                hits[0] += throw(observed, GARBAGE[number % len(GARBAGE)])
                number += 1

        threads = [threading.Thread(target=hammer, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in range(3):
                pair.send_good(f"good-{number}.bin")
        finally:
            over.set()
            for thread in threads:
                thread.join(10)
        assert bob.poll() is None
        assert hits[0] > 0


def test_a_fault_of_the_program_is_one_line(pair: Stage, source: Path) -> None:
    """An exception that nobody foresaw: no traceback, except for those who ask."""
    argv = double(pair, """
        import p2pxfer.net.transfer.source as source
        def broken(*_):
            raise ZeroDivisionError("unforeseen")
        source.Source.open = broken
    """)  # fmt: skip
    words = ["--server", pair.address, "--home", str(pair.alice), "send", str(source), "bob"]
    check_failure(pair.run_bare([*argv, *words]), 1, "a fault inside the program (ZeroDivisionError)")
    check_failed_event(pair.run_bare([*argv, "--json", *words]), 1, "E_INTERNAL", "ZeroDivisionError")
    detailed = subprocess.run([*argv, "-v", *words], capture_output=True, text=True, timeout=30, check=False)
    assert detailed.returncode == 1
    assert "Traceback" in detailed.stderr
    assert "unforeseen" in detailed.stderr


def test_a_fault_behind_a_running_command_is_one_line(pair: Stage, source: Path) -> None:
    """The same inside the reactor: in a callback and in the main coroutine."""
    for mischief in (
        "import p2pxfer.cli.sending as s\ndef broken(self, *a):\n    1 / 0\ns.Sending._registered = broken",
        "import p2pxfer.net.transfer.outgoing as o\ndef broken(self, *a):\n    1 / 0\no.OutgoingJob.run = broken",
    ):
        argv = double(pair, mischief)
        words = ["--server", pair.address, "--home", str(pair.alice), "send", str(source), "bob"]
        outcome = pair.run_bare([*argv, *words])
        assert outcome.status in (1, 3), outcome
        assert "ZeroDivisionError" in outcome.err
        assert all(line.isprintable() for line in outcome.err.splitlines())
