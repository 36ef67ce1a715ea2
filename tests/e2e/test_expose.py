"""One `p2pxfer expose` with several services, with whole programs on one machine."""

from __future__ import annotations

import hashlib
import socket

import pytest

from tests.e2e.acquainting import befriend
from tests.e2e.conftest import Stage, check_failure
from tests.services import Service, dial, digest_of_all, echo, everything, expose

pytestmark = pytest.mark.deadline(240)


def test_one_command_exposes_several_services_and_each_is_its_own(pair: Stage) -> None:
    """Both to both; what is said of a path names the peer and the service."""
    with Service(echo) as one, Service(digest_of_all) as other:
        carol = befriend(pair, "carol")
        words = (f"echo={one.address}", f"sum={other.address}", "--to", "bob", "--to", "carol")
        alice = pair.program("alice", pair.alice, "expose", *words)
        said = [alice.wait_for("exposed") for _ in range(2)]
        assert [(event["service"], event["target"]) for event in said] == [
            ("echo", one.address),
            ("sum", other.address),
        ]
        for name, home in (("bob", pair.bob), ("carol", carol)):
            for service in ("echo", "sum"):
                user = pair.program(name, home, "connect", f"alice:{service}", "--listen", "0")
                with dial(str(user.wait_for("listening")["address"])) as connection:
                    connection.sendall(b"content")
                    connection.shutdown(socket.SHUT_WR)
                    expected = b"content" if service == "echo" else hashlib.sha256(b"content").digest()
                    assert everything(connection) == expected
                # Those of the ones before may still be going down.
                paths = (event for event in alice.events(60) if event["event"] == "path")
                assert next(True for path in paths if (path["peer"], path["service"]) == (name, service))
                user.stop()
        check_failure(pair.run("connect", "alice", "--listen", "0", home=pair.bob), 3, "not expose default now")


def test_another_program_with_one_of_several_services_ends_them_all(pair: Stage) -> None:
    with Service(echo) as service:
        both = pair.program(
            "alice", pair.alice, "expose", f"one={service.address}", f"two={service.address}", "--to", "bob"
        )
        for _ in range(2):
            both.wait_for("exposed")
        expose(pair, service.address, "--as", "two")
        assert both.wait(30).status == 4
