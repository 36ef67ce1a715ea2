from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.messages import ALPN_SERVER, Failure, Register, Registered
from p2pxfer.errors import ConfigError
from p2pxfer.net.connection.streams import SecureBootstrap
from p2pxfer.net.connection.tls import peer_tls
from p2pxfer.net.private.identity import Identity, new_identity
from p2pxfer.net.server.hosting import StateDirectory, certified_host, primary_address, reachable
from tests.net.serverkit import Client, reactor
from tests.net.tlskit import Authority

ROOT = Path(__file__).parents[3]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def command(program: str, folder: Path, ports: list[int], *more: str) -> list[str]:
    runner = {
        "twist": [sys.executable, "-m", "twisted"],
        "twistd": [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="],
    }[program]
    listen = [word for port in ports for word in ("--listen", f"tcp:{port}:interface=127.0.0.1")]
    return [*runner, "p2pxfer-rendezvous", *listen, "--state", str(folder / "state"), *more]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def running(program: str, folder: Path, ports: list[int], *more: str) -> Iterator[subprocess.Popen[str]]:
    """A server process whose address file has just been written."""
    address = folder / "state" / "address"
    address.unlink(missing_ok=True)
    output = (folder / "output").open("w")
    child = subprocess.Popen(
        command(program, folder, ports, *more), env=environment(), cwd=folder, stdout=output, stderr=output, text=True
    )
    try:
        end = time.monotonic() + 50
        while not address.exists():
            assert child.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield child
    finally:
        child.kill()
        child.wait()
        output.close()


def fails(program: str, folder: Path, ports: list[int], *more: str) -> str:
    """What a server says that does not start: status 2 and one line, once."""
    done = subprocess.run(
        command(program, folder, ports, *more),
        env=environment(),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "p2pxfer-rendezvous: " in one]
    return line


async def register(port: int, pin: PeerId, name: str, identity: Identity) -> object:
    client = Client(identity)
    bootstrap = SecureBootstrap(reactor, client, peer_tls(identity, pin.digest, ALPN_SERVER), is_client=True)
    await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(Factory.forProtocol(lambda: bootstrap))
    await client.secured
    client.send(Register(version=1, tag=client.port, name=name))
    try:
        return await client.expect(Registered)
    except AssertionError as other:
        return other.args[0]
    finally:
        client.abort()
        await client.gone


@pytest.mark.parametrize("program", ["twist", "twistd"])
@pytest_twisted.ensureDeferred
async def test_a_server_says_where_it_is_and_keeps_names_when_killed(tmp_path: Path, program: str) -> None:
    ports = free_ports(2)
    identity = new_identity()
    seen = set()
    for attempt in range(2):
        with running(program, tmp_path, ports) as child:
            line = (tmp_path / "state" / "address").read_text().strip()
            host, _, pin = line.partition("#")
            assert host == f"127.0.0.1:{ports[0]}"
            seen.add(line)
            for port in ports:
                answer = await register(port, parse_id(pin), "bob", identity)
                assert isinstance(answer, Registered)
            answer = await register(ports[0], parse_id(pin), "bob", new_identity())
            assert isinstance(answer, Failure)
            assert answer.word == "E_NAME"
            assert line in (tmp_path / "output").read_text()
            child.send_signal(signal.SIGKILL if attempt == 0 else signal.SIGTERM)
            status = child.wait(timeout=50)
            assert attempt == 0 or status in {0, -signal.SIGTERM}
        assert "Traceback" not in (tmp_path / "output").read_text()
        assert "Unhandled" not in (tmp_path / "output").read_text()
    assert len(seen) == 1
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "identity.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("program", ["twist", "twistd"])
def test_what_keeps_a_server_from_starting_is_one_line(tmp_path: Path, program: str) -> None:
    ports = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot listen" in fails(program, tmp_path, [taken.getsockname()[1]])
    with running(program, tmp_path, ports):
        assert "another server" in fails(program, tmp_path, free_ports(1))
    database = tmp_path / "state" / "names.sqlite"
    database.write_bytes(b"not a database" * 1000)
    assert "cannot be used" in fails(program, tmp_path, ports)
    assert database.read_bytes() == b"not a database" * 1000


def begun(folder: Path, ports: list[int], *, foreground: bool) -> subprocess.CompletedProcess[str]:
    """What became of a server of ``twistd`` with a log of its own that cannot start."""
    words = command("twistd", folder, ports)
    pid = words.index("--pidfile=")
    words[pid - 1 : pid + 1] = [*(["-n"] if foreground else []), "--pidfile", "pid", "--logfile", "log"]
    return subprocess.run(words, env=environment(), cwd=folder, check=False, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("foreground", [True, False])
def test_a_port_that_is_taken_is_one_line_and_leaves_nothing(tmp_path: Path, foreground: bool) -> None:
    """Found before the program goes into the background, and before it makes a state directory."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = begun(tmp_path, [taken.getsockname()[1]], foreground=foreground)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("p2pxfer-rendezvous: cannot listen on tcp:")
    assert line.endswith(": Address already in use; end the program that listens there, or give another --listen")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("foreground", [True, False])
def test_with_a_log_of_its_own_why_it_does_not_start_is_there_too(tmp_path: Path, foreground: bool) -> None:
    """Whoever began it in the background is told as well, and does not wait for it."""
    (port,) = free_ports(1)
    done = begun(tmp_path, [port, port], foreground=foreground)  # taken by itself: nothing shows it before
    assert done.returncode == (2 if foreground else 1)
    assert "Traceback" not in done.stderr
    assert "p2pxfer-rendezvous: cannot listen on tcp:" in done.stderr
    said = [line for line in (tmp_path / "log").read_text().splitlines() if "cannot listen" in line]
    assert len(said) == 1
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--listen", "nonsense:1"], "no endpoint"),
        (["--listen", "unix:sock"], "is not TCP"),
        (["--observe", "somewhere"], "no IP address"),
        (["--certificate", "missing.pem"], "missing.pem"),
        (["--connections-per-source", "0"], "positive"),
        (["--relay-bytes", "all"], "--relay-bytes is a number of bytes such as 500M or 10G, at least 1M"),
        (["--relay-bytes", "1000"], "at least 1M"),
        (["--metrics", "nonsense:1"], "--metrics nonsense:1 is no endpoint"),
        (["--metrics", "unix:sock"], "is not TCP"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, more: list[str], text: str) -> None:
    assert text in fails("twist", tmp_path, free_ports(1), *more)


def test_metrics_are_on_loopback_and_only_where_they_are_asked_for(tmp_path: Path) -> None:
    serving, asking = free_ports(1), free_ports(1)
    url = f"http://127.0.0.1:{asking[0]}/metrics"
    with running("twist", tmp_path, serving), pytest.raises(URLError):
        urlopen(url, timeout=50)
    with running("twist", tmp_path, serving, "--metrics", f"tcp:{asking[0]}"):
        text = urlopen(url, timeout=50).read().decode()
        assert "p2pxfer_clients 0.0" in text
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [words[1] for words in sockets if words[3] == "0A"]
        assert [one for one in listening if one.endswith(f":{asking[0]:04X}")] == [f"0100007F:{asking[0]:04X}"]
        assert "HTTP/1" not in (tmp_path / "output").read_text()


def test_a_server_with_a_certificate_is_known_by_its_name(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue(x509.DNSName("rendezvous.example"))
    pem = tmp_path / "server.pem"
    pem.touch(0o600)
    pem.write_bytes(
        identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + identity.certificate.public_bytes(Encoding.PEM)
    )
    ports = free_ports(1)
    with running("twist", tmp_path, ports, "--certificate", str(pem)):
        assert (tmp_path / "state" / "address").read_text() == f"rendezvous.example:{ports[0]}\n"
    without = Authority(tmp_path).issue(x509.IPAddress(ip_address("127.0.0.1")))
    with pytest.raises(ConfigError, match="no host name"):
        certified_host(without.certificate)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["127.0.0.1", "172.17.0.1", "8.8.8.8", "2a00::1"], "8.8.8.8"),
        (["127.0.0.1", "fe80::1", "fd00::2", "192.168.1.4"], "192.168.1.4"),
        (["127.0.0.1", "192.168.1.4", "2a00::1"], "2a00::1"),
        (["127.0.0.1", "100.64.0.9"], "100.64.0.9"),
        (["127.0.0.1", "::1", "169.254.1.1"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_the_address_to_hand_out(addresses: list[str], expected: str) -> None:
    assert str(primary_address(map(ip_address, addresses))) == expected


OWN = ["127.0.0.1", "::1", "fe80::1", "172.17.0.1", "192.168.1.4", "2a00::1", "8.8.8.8"]


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (["0.0.0.0 8877", "0.0.0.0 8878"], ["8.8.8.8 8877", "172.17.0.1 8877", "192.168.1.4 8877"]),
        (["192.168.1.4 443", "0.0.0.0 8877"], ["192.168.1.4 443", "8.8.8.8 8877", "172.17.0.1 8877"]),
        (["127.0.0.1 8877", "127.0.0.2 8878"], ["127.0.0.1 8877", "127.0.0.2 8878"]),
        ([":: 8877"], ["8.8.8.8 8877", "2a00::1 8877", "172.17.0.1 8877", "192.168.1.4 8877"]),
    ],
)
def test_every_address_at_which_clients_may_reach_it_once(bound: list[str], expected: list[str]) -> None:
    pairs = [(ip_address(host), int(port)) for host, port in map(str.split, bound)]
    found = reachable(pairs, map(ip_address, OWN))
    assert [f"{host} {port}" for host, port in found] == expected


def test_a_server_with_no_address_but_loopback() -> None:
    everywhere = ip_address("0.0.0.0")
    assert reachable([(everywhere, 1)], [ip_address("127.0.0.1")]) == [(ip_address("127.0.0.1"), 1)]


def test_a_server_on_two_addresses_says_both(tmp_path: Path) -> None:
    first, second = free_ports(2)
    with running("twistd", tmp_path, [first], "--listen", f"tcp:{second}:interface=127.0.0.2"):
        line = (tmp_path / "state" / "address").read_text().strip()
        pin = line.partition("#")[2]
        assert line == f"127.0.0.1:{first}#{pin}"
        end = time.monotonic() + 50
        while not all(
            f"127.0.0.{n}:{port}#{pin}" in (tmp_path / "output").read_text() for n, port in ((1, first), (2, second))
        ):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_state_directory_serves_one_server_at_a_time(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state")
    with pytest.raises(ConfigError, match="another server"):
        StateDirectory(tmp_path / "state")
    first.close()
    StateDirectory(tmp_path / "state").close()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError):
        StateDirectory(tmp_path / "file")


def test_the_plugin_is_found_and_helps() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "p2pxfer-rendezvous", "--help"],
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0
    assert "--listen" in done.stdout
    assert not (ROOT / "twisted" / "__init__.py").exists()
