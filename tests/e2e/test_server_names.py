"""Names of servers that lead nowhere, and servers that have IPv6 alone."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.product import Loopback, free_ports, start_server
from tests.e2e.conftest import MIB, Stage, end_of
from tests.scene import Scene, file_hash, last, random_file


def test_f46_a_name_without_an_address_is_one_line(pair: Stage) -> None:
    source = pair.folder / "file.bin"
    random_file(source, MIB)
    server = "nowhere.invalid:8877#" + pair.address.split("#")[1]
    for words in (("send", source, "bob"), ("receive", "--to", pair.inbox, "--timeout", "5")):
        outcome = pair.run(*words, server=server, as_json=True)
        assert outcome.status == 3
        assert outcome.events[-1]["code"] == "E_PEER_GONE"
        assert outcome.events[-1]["retry"]
        assert "leads to no address" in outcome.events[-1]["message"]


def has_ipv6() -> bool:
    """Whether this machine has IPv6 on loopback."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as trial:
        trial.bind(("::1", 0))
        return True
    return False


@pytest.fixture
def only_v6(tmp_path: Path) -> Iterator[Scene]:
    """A scene whose server has no address but one of IPv6."""
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with Scene(Loopback(), tmp_path, loopback=False) as scene:
        listen = [rf"tcp6:{port}:interface=\:\:1" for port in free_ports(2)]
        server, scene.address = start_server(scene.place, tmp_path, loopback=False, listen=listen)
        scene.callback(server.stop)
        scene.make_contacts()
        yield scene


@pytest.mark.parametrize("path", ["relay", "auto"])
def test_f47_a_server_with_ipv6_alone(only_v6: Scene, path: str) -> None:
    assert only_v6.address.startswith("[::1]:")
    source = only_v6.folder / "file.bin"
    digest = random_file(source, MIB)
    bob = only_v6.receive("--once", "--no-code", "--path", path)
    alice = only_v6.send(source, "--path", path)
    (status, said), (other, heard) = end_of(alice), end_of(bob)
    assert (status, other) == (0, 0), (said, heard)
    assert file_hash(only_v6.inbox / source.name) == digest
    assert path == "auto" or set(last(said, "done")["bytes_by_path"]) == {"relay"}
