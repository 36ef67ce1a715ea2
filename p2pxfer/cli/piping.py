"""The run of ``p2pxfer pipe``, and of ``connect --listen -``, under the reactor: wiring, the summary, the exit code."""

from __future__ import annotations

import os
import sys
from typing import Final, cast

from msgspec import Struct, structs
from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race

from p2pxfer.cli.displaced import displaced
from p2pxfer.cli.idlepath import IdlePath
from p2pxfer.cli.pathnews import PathNews
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.words.eventtext import human_size
from p2pxfer.errors import Incomplete, Interrupted, P2pxferError, PeerStopped, Unreachable
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.services.calling import service_appointment
from p2pxfer.net.services.pipe import Pipe
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.pairsession import Appointment, PairSession, pipe_appointment, pipe_name
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import Event, Note, Path

BOTH_RUN_IT: Final = (
    "run p2pxfer pipe there too, with this machine as its PEER; the two must be contacts of each other and use one"
    " server, and --timeout waits longer"
)
"""What to do where nobody came."""
BEGINS_ANEW: Final = "a pipe cannot go on later; run it again at both ends, from the beginning"


class Wanted(Struct, frozen=True):
    """What standard input and output are joined with: a service that the peer exposes; ``expected``: or will expose."""

    service: str
    expected: bool


class Piping:
    """One run of the command; without anything ``wanted`` the peer runs ``pipe`` too."""

    def __init__(self, options: Global, peer: KnownPeer, wanted: Wanted | None = None) -> None:
        self._wanted = wanted
        # Whoever uses a service, such as ssh, shows its own user what matters.
        self._brief = wanted is not None and not options.verbose
        self._peer = peer
        self._report = Reporter(as_json=False, quiet=options.quiet)
        self._news: PathNews | None = None
        self._used: set[str] = set()
        """The kinds of path that carried data."""
        self._idle: IdlePath | None = None

    async def run(self, machine: Machine) -> None:
        """Join the two ends until both have ended.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        machine = structs.replace(machine, tell=self._tell)
        self._idle = None if self._brief else IdlePath(machine.reactor, self._report.tell)
        pipe = self._pipe(machine.reactor)
        session = PairSession(
            machine,
            self._peer,
            on_event=pipe.event,
            on_settled=pipe.settled,
            appointment=self._appointment(machine.identity),
        )
        pipe.attach(session)
        client = machine.client(None if session.asks else pipe_name(machine.identity.id.digest), session.introduced)
        try:
            await client.start()
            self._news = self._path_news(machine)
            session.start(client)
            await self._until_the_end(client, pipe, session)
            await session.finish()
            if self._wanted is None:
                self._summary(pipe, session)
        except P2pxferError as error:
            pipe.give_up(error)
            await session.leave()
            raise
        except (CancelledError, FailureGroup):  # the second is what a race makes of the first
            pipe.give_up(PeerStopped("it was interrupted there; what was under way is lost"))
            await session.leave(PeerStopped("the pipe was stopped"))
            raise Interrupted("interrupted; what was under way is lost") from None
        finally:
            for each in (self._news, self._idle):
                if each is not None:
                    each.stop()
            pipe.close()
            session.close()
            await client.leave()
            self._report.close()

    def _path_news(self, machine: Machine) -> PathNews:
        runs = "run pipe" if self._wanted is None else f"expose {self._wanted.service}"
        name, policy = self._peer.shown, machine.approach.policy
        return PathNews(machine.reactor, name, policy, self._report.tell, lacks=f"does not {runs} yet")

    def _pipe(self, reactor: Reactor) -> Pipe:
        source, target = sys.stdin.fileno(), sys.stdout.fileno()
        if self._wanted is None:
            return Pipe(reactor, input_of(source), target)
        return Pipe(reactor, source, target, self._wanted.service)

    def _appointment(self, identity: Identity) -> Appointment:
        if self._wanted is None:
            return pipe_appointment(identity, self._peer)
        return service_appointment(self._peer, self._wanted.service, expected=self._wanted.expected)

    def _tell(self, event: Event) -> None:
        if self._news is not None:
            self._news.hear(event)
        if isinstance(event, Note) or not self._brief:
            self._report.tell(event, "" if self._is_unused(event) else None)
        if self._idle is not None:
            self._idle.hear(event)

    def _is_unused(self, event: Event) -> bool:
        """Whether it is the end of a path that people never heard of, since another one carried the data."""
        if isinstance(event, Path) and event.state == "active":
            self._used.add(event.path)
        return isinstance(event, Path) and event.state == "down" and event.path not in self._used

    async def _until_the_end(self, client: RendezvousClient, pipe: Pipe, session: PairSession) -> None:
        # Values and not failures, since a race waits for the first success.
        ends = [cast("Deferred[P2pxferError | None]", client.failed), pipe.done]
        _, error = await race(ends)
        if isinstance(error, Incomplete) and self._wanted is None:
            raise Incomplete(f"{error.message}; {BEGINS_ANEW}")
        absent = isinstance(error, Unreachable) and session.appointment.absent in error.message
        if error is not None and absent and self._wanted is None and not session.met.called:
            raise Unreachable(f"{error.message}; {BOTH_RUN_IT}")
        if error is not None:
            raise displaced(error, f"a pipe with {self._peer.shown}", "what was under way is lost")

    def _summary(self, pipe: Pipe, session: PairSession) -> None:
        paths = ", ".join(f"{kind} {human_size(size)}" for kind, size in session.paths.bytes_by_path.items())
        sizes = f"{human_size(pipe.bytes_out)} sent, {human_size(pipe.bytes_in)} received"
        self._report.tell(Note(f"{sizes} in {self._report.elapsed:.1f} s" + (f" ({paths})" if paths else "")))


def input_of(number: int) -> int | None:
    """The descriptor to read from, ``None`` for a terminal: nobody means to type into a pipe, or would know how to end
    it."""
    return None if os.isatty(number) else number
