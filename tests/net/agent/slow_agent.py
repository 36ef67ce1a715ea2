"""A program with an agent's socket whose end takes a while: a thread of its reactor is busy until its input ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from p2pxfer.core.agent.control import Answer, Ending, Question
from p2pxfer.net.agent.door import Door
from p2pxfer.net.agent.room import Room

BUSY_S = 0.5
reactor: Any = _reactor


def main(home: Path) -> None:
    """Serve the socket of ``home``; whatever is asked, it ends, in the steps of a whole agent."""
    room = Room(home)

    def end(question: Question) -> Answer:
        reactor.callLater(0, reactor.callLater, 0, reactor.stop)
        return Ending(os.getpid())

    door = Door(reactor, room.path, end)
    door.open()

    def close() -> Deferred[None]:
        closing = Deferred.fromCoroutine(door.close())
        closing.addCallback(lambda _: room.close())
        return closing

    def work() -> None:
        sys.stdin.read()
        time.sleep(BUSY_S)

    reactor.addSystemEventTrigger("before", "shutdown", close)
    reactor.callInThread(work)
    reactor.callWhenRunning(print, "there", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
