"""A registry with a clock, a store and machines that the test plays."""

from __future__ import annotations

import itertools
from ipaddress import ip_address
from typing import Any

from p2pxfer.core.addresses import parse_endpoint
from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Failure, Introduce, Register, Registered
from p2pxfer.core.server.effects import ClaimName, Close, Effect, Listening, Send, ServerSettings
from p2pxfer.core.server.registry import Registry

ALICE, BOB, EVE = (bytes([n]) * 32 for n in (1, 2, 3))
SERVER = "198.18.0.10:8877"
SECOND = "198.18.0.10:8878"
LISTENING = Listening(((ip_address("0.0.0.0"), 8877), (ip_address("0.0.0.0"), 8878)), (ip_address("198.18.0.11"),))
HOME_A, HOME_B = "198.18.1.1:20001", "198.18.2.1:20002"


class World:
    """A registry, its clock, a store that obeys, and everything that was sent."""

    def __init__(self, limits: ServerSettings | None = None, listening: Listening = LISTENING) -> None:
        counter = itertools.count()
        self.now = 1000.0
        self.registry = Registry(lambda n: next(counter).to_bytes(n, "big"), limits or ServerSettings(), self.now)
        self.registry.listens(listening)
        self.numbers = itertools.count(1)
        self.owners: dict[str, bytes] = {}
        self.effects: list[Effect] = []
        self.hold_claims = False

    def open(self, key: bytes, remote: str = HOME_A, local: str = SERVER, trip: float = 0.0) -> int:
        conn = next(self.numbers)
        self.note(self.registry.opened(conn, key, parse_endpoint(remote), parse_endpoint(local), self.now, trip))
        return conn

    def say(self, conn: int, message: Message) -> list[Message]:
        """What ``conn`` is answered."""
        before = len(self.effects)
        self.note(self.registry.received(conn, message, self.now))
        return self.told(conn, before)

    def note(self, effects: list[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, ClaimName) and not self.hold_claims:
                self.claim(effect)

    def claim(self, effect: ClaimName) -> None:
        owner = self.owners.get(effect.name)
        if owner is None and not effect.may_create:
            answer: Any = "source-limit"
        elif owner is None and list(self.owners.values()).count(effect.key) >= 4:
            answer = "key-limit"
        else:
            answer = "taken" if owner not in {None, effect.key} else "new" if owner is None else "kept"
        if answer == "new":
            self.owners[effect.name] = effect.key
        self.note(self.registry.name_claimed(effect.conn, answer, self.now))

    def told(self, conn: int, since: int = 0) -> list[Message]:
        return [one.message for one in self.effects[since:] if isinstance(one, Send) and one.conn == conn]

    def lose(self, conn: int) -> None:
        self.note(self.registry.lost(conn, self.now))

    def tick(self, seconds: float) -> None:
        """Let time pass in steps of one second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            self.note(self.registry.tick(self.now))

    def register(self, key: bytes, name: str | None = None, remote: str = HOME_A, **more: Any) -> int:
        conn = self.open(key, remote)
        tag = more.pop("tag", parse_endpoint(remote).port)
        answer, *_ = self.say(conn, Register(version=1, tag=tag, name=name, **more))  # introductions may follow
        assert isinstance(answer, Registered), answer
        return conn

    def introduce(self, conn: int, to: str, tag: int = 20001, path: Any = "auto") -> Any:
        (answer,) = self.say(conn, Introduce(to=to, tag=tag, path=path))
        return answer

    def closed(self, conn: int) -> bool:
        return Close(conn) in self.effects


def refused(answers: list[Message], word: str, fatal: bool = True) -> bool:
    (answer,) = answers
    assert isinstance(answer, Failure)
    assert (answer.word, answer.fatal) == (word, fatal)
    return True
