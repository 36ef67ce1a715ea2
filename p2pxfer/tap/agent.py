"""``twistd p2pxfer-agent`` and ``twist p2pxfer-agent``: the command line of the agent."""

from __future__ import annotations

from typing import Any, Final

from p2pxfer.errors import ConfigError, DiskError, P2pxferError
from p2pxfer.net.agent.agent import Agent
from p2pxfer.tap.manners import ProgramOptions, stop, stop_once, use_monotonic_time

PROGRAM: Final = "p2pxfer-agent"


class Options(ProgramOptions):
    """The options; everything is checked when the service is made."""

    program = PROGRAM
    synopsis = "[--home DIR] [--server HOST:PORT#PIN]"
    longdesc = (
        "The agent of p2pxfer: with nobody there it receives files from contacts, each into a folder of its own,"
        " exposes services to them, and sends what is queued. What it does is said in agent.toml in its private"
        " directory; without that file it receives."
    )
    optParameters = [  # Twisted reads and never changes it
        ["home", None, None, "The private directory; also P2PXFER_HOME."],
        ["server", None, None, "The rendezvous server; also P2PXFER_SERVER, and what p2pxfer init stored."],
    ]


def makeService(options: Options) -> Agent:
    """The service that ``options`` describe; what is wrong with them ends the process with one line and status 2."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    stop_once(reactor)
    try:
        service = _Service(reactor, options["home"], options["server"])
    except P2pxferError as error:
        stop(PROGRAM, error, options.parent)
    service.given = options.parent
    return service


class _Service(Agent):
    """The agent with the manners of a command: what keeps it from starting is one line, not a traceback."""

    given: Any = None
    """What ``twistd`` or ``twist`` was told itself."""

    def startService(self) -> None:
        """Start it, or end the program with the error that a user can do something about, in one line."""
        try:
            super().startService()
        except (ConfigError, DiskError) as error:
            stop(PROGRAM, error, self.given)
