"""Connections through a forwarded port on which something is said all the time."""

from __future__ import annotations

import os
import socket
import threading

from tests.e2e.conftest import wait_until
from tests.lab.namespaces import entered
from tests.lab.topology import Lab
from tests.services import dial

ROUND = 50_000


class Talk:
    """A connection of its own thread in bob's home: it says something, hears it back whole, and so on."""

    def __init__(self, lab: Lab, at: str) -> None:
        self.rounds = 0
        self.error: Exception | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, args=(lab.names["bob"], at), daemon=True)
        self._thread.start()

    def _run(self, namespace: str, at: str) -> None:
        try:
            with entered(namespace):
                connection = dial(at)
            with connection:
                while not self._over:
                    self._round(connection)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
        except Exception as error:
            self.error = error

    def _round(self, connection: socket.socket) -> None:
        said = os.urandom(ROUND)
        connection.sendall(said)
        heard = bytearray()
        while len(heard) < len(said) and (data := connection.recv(65536)):
            heard += data
        assert heard == said
        self.rounds += 1

    def ends(self) -> None:
        self._over = True
        self._thread.join(60)
        assert self.error is None, self.error
        assert not self._thread.is_alive()


def all_went_on(talks: list[Talk]) -> None:
    """Each has had some more rounds."""
    before = [talk.rounds for talk in talks]

    def more() -> bool:
        for talk in talks:
            assert talk.error is None, talk.error
        return all(talk.rounds > count + 3 for talk, count in zip(talks, before, strict=True))

    wait_until(more, 90)
