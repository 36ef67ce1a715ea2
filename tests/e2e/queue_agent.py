"""An agent that does nothing but carry out the queue: ``python queue_agent.py HOME SERVER``.

It prints what becomes of the queue as events, looks at the files often, since nobody rings, and saves progress often.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from twisted.internet.defer import Deferred

from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.run import run
from p2pxfer.core.serveraddress import parse_server_line
from p2pxfer.errors import Interrupted
from p2pxfer.net.private.home import Home
from p2pxfer.net.transfer import queuerunner
from p2pxfer.net.types import Reactor


async def main(reactor: Reactor) -> None:
    """Until a signal ends it."""
    home, server = Home(Path(sys.argv[1])), parse_server_line(sys.argv[2])
    runner = queuerunner.QueueRunner(reactor, home, server, "alice", print_event)
    runner.start()
    try:
        await Deferred()
    finally:
        await runner.stop()


if __name__ == "__main__":
    queuerunner.LOOK_S = 0.1  # type: ignore[misc]  # a constant elsewhere
    queuerunner.SAVE_S = 0.1  # type: ignore[misc]  # a constant elsewhere
    try:
        run(main, 0)
    except Interrupted:
        sys.exit(0)
