"""`p2pxfer expose` and `p2pxfer connect` with whole programs on one machine, and services of the tests behind them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.product import Program
from tests.e2e.acquainting import befriend
from tests.e2e.conftest import MIB, Stage, check_failed_event, check_failure, wait_until
from tests.ends import resident
from tests.services import RESET, Service, dial, digest_of_all, echo, everything, expose

pytestmark = pytest.mark.deadline(240)


def connect(stage: Stage, wanted: str, *words: str) -> tuple[Program, str]:
    """Bob connects to a service; where he can reach it."""
    program = stage.program("bob", stage.bob, "connect", wanted, "--listen", "0", *words)
    return program, str(program.wait_for("listening")["address"])


class Served(Stage):
    """A stage whose server can be found again."""

    server: Program


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as stage:
        stage.server = stage.start_server()
        stage.make_contacts()
        yield stage
    stage.check_logs()


@pytest.mark.parametrize("path", ["auto", "relay"])
def test_64_connections_at_once_each_get_their_own_bytes_whole(served: Served, path: str) -> None:
    with Service(echo) as service:
        expose(served, service.address, "--as", "web", "--path", path)
        _, at = connect(served, "alice:web", "--path", path)
        gate = threading.Barrier(64)

        def one(number: int) -> bool:
            content = random.Random(number).randbytes(300_000 + number)
            with dial(at) as connection:
                gate.wait(60)  # all of them stand at one moment
                writer = threading.Thread(target=connection.sendall, args=(content,))
                writer.start()
                heard = bytearray()
                while len(heard) < len(content) and (data := connection.recv(65536)):
                    heard += data
                writer.join(60)
                connection.shutdown(socket.SHUT_WR)
                return heard == content and connection.recv(1) == b""

        with ThreadPoolExecutor(64) as many:
            assert all(many.map(one, range(64)))
        assert service.connections == 64


def test_the_end_of_one_direction_leaves_the_other_open(served: Served) -> None:
    with Service(digest_of_all) as service:
        expose(served, service.address)
        _, at = connect(served, "alice")
        content = os.urandom(3 * MIB)
        with dial(at) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection) == hashlib.sha256(content).digest()


def test_a_reset_is_passed_on_as_a_reset_both_ways(served: Served) -> None:
    ends: list[str] = []
    over = threading.Event()

    def note_the_end(connection: socket.socket) -> None:
        connection.sendall(b"x")
        try:
            heard = connection.recv(1)
        except ConnectionResetError:
            ends.append("reset")
        else:
            if heard == b"r":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return
            ends.append(f"heard {heard!r}")
        over.set()

    with Service(note_the_end) as service:
        expose(served, service.address)
        _, at = connect(served, "alice")
        with dial(at) as connection:
            assert connection.recv(1) == b"x"
            connection.sendall(b"r")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        connection = dial(at)
        assert connection.recv(1) == b"x"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
        assert over.wait(60)
        assert ends == ["reset"]


def test_a_reader_that_does_not_read_holds_the_writer_and_memory_stays_flat(served: Served) -> None:
    sent = [0]

    def pour(connection: socket.socket) -> None:
        block = bytes(MIB)
        while True:
            connection.sendall(block)
            sent[0] += MIB

    with Service(pour) as service:
        alice = expose(served, service.address)
        bob, at = connect(served, "alice")
        with dial(at) as connection:
            assert connection.recv(1) == b"\0"
            seen: list[int] = []

            def stands_still() -> bool:
                seen.append(sent[0])
                return len(seen) > 50 and len(set(seen[-50:])) == 1

            wait_until(stands_still, 90)
            assert seen[-1] < 60 * MIB
            assert all(resident(program.pid) < 150 * MIB for program in (alice, bob))
            # Others go on meanwhile.
            with dial(at) as other:
                assert other.recv(1) == b"\0"


def test_a_target_that_refuses_is_told_and_the_rest_goes_on(served: Served) -> None:
    with Service(echo) as service:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        expose(served, nobody, "--as", "none")
        expose(served, service.address, "--as", "echo")
        bob, at = connect(served, "alice:none")
        _, other = connect(served, "alice:echo")
        with dial(at) as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
        said = bob.wait_for("connection")
        assert said["state"] == "refused"
        assert "the target of none refuses connections" in said["why"]
        assert nobody not in str(said)
        with dial(other) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"


def test_who_is_not_named_may_not_and_what_is_not_exposed_is_not_there(served: Served) -> None:
    with Service(echo) as service:
        carol = befriend(served, "carol")
        expose(served, service.address, "--as", "web")
        words = ("connect", "alice:web", "--listen", "0")
        check_failed_event(served.run(*words, home=carol, as_json=True), 4, "E_DENIED", "web is not exposed to this")
        check_failure(served.run("connect", "alice:wen", "--listen", "0", home=served.bob), 3, "not expose wen now")
        check_failure(served.run("connect", "alice", "--listen", "-", home=served.bob), 3, "not expose default now")
        check_failure(served.run("connect", "dave:web", "--listen", "0", home=served.bob), 2, "dave is not a contact")
        assert service.connections == 0


def test_the_local_port_is_at_this_machine_only(served: Served) -> None:
    with Service(echo) as service:
        expose(served, service.address)
        _, at = connect(served, "alice")
        host, _, port = at.rpartition(":")
        assert host == "127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", int(port)), timeout=30)
        shared = served.program("bob", served.bob, "connect", "alice", "--listen", "0.0.0.0:0")
        assert "whoever can reach 0.0.0.0" in str(shared.wait_for("note")["message"])


def test_what_cannot_be_meant(served: Served) -> None:
    bob = served.bob
    check_failure(served.run("expose", "80", "--to", "bob"), 2, "an address is HOST:PORT")
    check_failure(
        served.run("expose", "127.0.0.1:99999", "--to", "bob"), 2, "a port is a number up to 65535, and not 99999"
    )
    check_failure(served.run("expose", "127.0.0.1:80", "--to", "bob", "--as", "Web!"), 2, "the name of a service")
    check_failure(served.run("expose", "127.0.0.1:80", "--to", "dave"), 2, "dave is not a contact")
    check_failure(served.run("expose", "127.0.0.1:80"), 2, "--to")
    check_failure(served.run("expose", "127.0.0.1:80", "127.0.0.1:81", "--to", "bob"), 2, "two services are called")
    check_failure(served.run("expose", "a=127.0.0.1:80", "--as", "b", "--to", "bob"), 2, "--as names one HOST:PORT")
    check_failure(served.run("connect", "alice:we b", "--listen", "0", home=bob), 2, "the name of a service")
    check_failure(served.run("connect", ":web", "--listen", "0", home=bob), 2, "PEER:SERVICE")
    check_failure(served.run("connect", "alice:web", "--listen", "here", home=bob), 2, "an address is PORT, HOST:PORT")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        check_failure(served.run("connect", "alice:web", "--listen", port, home=bob), 2, "cannot listen at 127.0.0.1")


def test_without_a_server_neither_end_begins(served: Served) -> None:
    os.kill(served.server.pid, signal.SIGKILL)
    served.server.wait(30)
    check_failure(served.run("expose", "127.0.0.1:80", "--to", "bob"), 3, "cannot be reached")
    for at in ("0", "-"):
        words = ("connect", "alice", "--listen", at)
        assert served.run(*words, home=served.bob).status == 3


def test_a_second_program_that_exposes_the_same_service_ends_the_first(served: Served) -> None:
    with Service(echo) as service:
        first = expose(served, service.address, "--as", "web")
        expose(served, service.address, "--as", "web")
        assert first.wait(30).status == 4


def test_the_exposing_program_is_killed_and_comes_back(served: Served) -> None:
    """Connections are reset; new ones wait for it and go there."""
    with Service(echo) as service:
        alice = expose(served, service.address)
        _, at = connect(served, "alice")
        with dial(at) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            os.kill(alice.pid, signal.SIGKILL)
            with dial(at) as waiting:
                waiting.sendall(b"y")
                expose(served, service.address)
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
                with dial(at) as after:
                    after.sendall(b"z")
                    assert after.recv(1) == b"z"


def test_the_server_is_started_anew_and_nothing_is_dropped(served: Served) -> None:
    with Service(echo) as service:
        expose(served, service.address)
        _, at = connect(served, "alice")
        with dial(at) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            os.kill(served.server.pid, signal.SIGKILL)
            served.server.wait(30)
            served.start_server()
            connection.sendall(b"y")
            assert connection.recv(1) == b"y"


def test_an_interrupted_end_resets_what_it_had(served: Served) -> None:
    with Service(echo) as service:
        alice = expose(served, service.address)
        bob, at = connect(served, "alice", "--timeout", "8")
        with dial(at) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            os.kill(alice.pid, signal.SIGINT)
            assert alice.wait(30).status == 130
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        with dial(at) as late, pytest.raises(ConnectionResetError):
            late.recv(1)
        os.kill(bob.pid, signal.SIGTERM)
        assert bob.wait(30).status == 130


def test_whoever_waits_gets_a_service_that_comes_later(served: Served) -> None:
    with Service(echo) as service:
        _, at = connect(served, "alice:late", "--wait")
        with dial(at) as connection:
            connection.sendall(b"x")
            expose(served, service.address, "--as", "late")
            assert connection.recv(1) == b"x"


def joined(stage: Stage, wanted: str) -> subprocess.Popen[bytes]:
    """`connect --listen -` of bob, with all its streams in the hands of the test."""
    words: list[str | Path] = [
        stage.binary, "--server", stage.address, "--home", stage.bob, "connect", wanted, "--listen", "-",
    ]  # fmt: skip
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return stage.start(*words, **streams)


def test_standard_input_and_output_are_a_connection(served: Served) -> None:
    content = os.urandom(5 * MIB)
    with Service(digest_of_all) as service:
        expose(served, service.address, "--as", "sum")
        child = joined(served, "alice:sum")
        out, err = child.communicate(content, timeout=60)
        assert out == hashlib.sha256(content).digest()
        assert (child.returncode, err) == (0, b"")


def test_standard_input_and_output_end_with_the_reason_of_the_target(served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    expose(served, nobody)
    child = joined(served, "alice")
    out, err = child.communicate(b"", timeout=60)
    assert child.returncode == 3
    assert out == b""
    assert b"the target of default refuses connections" in err
    assert len(err.splitlines()) == 1


def test_ssh_hangs_up_on_its_proxy_in_silence(served: Served) -> None:
    with Service(echo) as service:
        expose(served, service.address)
        child = joined(served, "alice")
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(b"x")
        child.stdin.flush()
        assert child.stdout.read(1) == b"x"
        child.send_signal(signal.SIGHUP)
        assert child.wait(30) == 130
        assert child.stderr.read() == b""
