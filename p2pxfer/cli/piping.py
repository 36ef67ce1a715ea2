"""The run of ``p2pxfer pipe`` under the reactor: wiring, the summary, the exit code."""

from __future__ import annotations

import os
import sys
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race

from p2pxfer.cli.connect import server_address
from p2pxfer.cli.report import Reporter, human_size
from p2pxfer.cli.settings import Global
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import Interrupted, P2pxferError
from p2pxfer.net.home import Home
from p2pxfer.net.pairsession import PairSession, pipe_name
from p2pxfer.net.peercheck import Checkee
from p2pxfer.net.pipe import Pipe
from p2pxfer.net.rendezvous import RendezvousClient
from p2pxfer.net.types import Reactor
from p2pxfer.status import Note


class Piping:
    """One run of the command."""

    def __init__(
        self,
        options: Global,
        home: Home,
        line: ServerLine,
        peer: Checkee,
        policy: PathPolicy,
        gentle: bool,
        port_mapping: bool,
        timeout: float,
    ) -> None:
        self._line = line
        self._peer = peer
        self._policy: PathPolicy = policy
        self._gentle = gentle
        self._port_mapping = port_mapping
        self._timeout = timeout
        self._identity = home.identity()
        self._name = options.own_name(home, None)
        self._report = Reporter(as_json=False)

    async def run(self, reactor: Reactor) -> None:
        """Join the two ends until both have ended.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        pipe = Pipe(reactor, input_of(sys.stdin.fileno()), sys.stdout.fileno())
        session = PairSession(
            reactor,
            self._identity,
            self._name,
            self._peer,
            policy=self._policy,
            gentle=self._gentle,
            patience=self._timeout,
            tell=self._report.tell,
            on_event=pipe.event,
            on_settled=pipe.settled,
        )
        pipe.attach(session)
        client = RendezvousClient(
            reactor,
            self._identity,
            server_address(self._line),
            name=None if session.asks else pipe_name(self._identity.id.digest),
            policy=self._policy,
            on_registered=lambda answer: None,
            on_introduction=session.introduced,
            on_note=lambda text: self._report.tell(Note(text)),
            port_mapping=self._port_mapping,
            by_key=False,
        )
        try:
            await client.start()
            session.start(client)
            await self._until_the_end(client, pipe)
            await session.finish()
            self._summary(pipe, session)
        except P2pxferError as error:
            pipe.give_up(error)
            await session.leave()
            raise
        except (CancelledError, FailureGroup):  # the second is what a race makes of the first
            stopped = Interrupted("interrupted; what was under way is lost")
            pipe.give_up(stopped)
            await session.leave()
            raise stopped from None
        finally:
            pipe.close()
            session.close()
            await client.leave()
            self._report.close()

    @staticmethod
    async def _until_the_end(client: RendezvousClient, pipe: Pipe) -> None:
        # Values and not failures, since a race waits for the first success.
        ends = [cast("Deferred[P2pxferError | None]", client.failed), pipe.done]
        _, error = await race(ends)
        if error is not None:
            raise error

    def _summary(self, pipe: Pipe, session: PairSession) -> None:
        paths = ", ".join(f"{kind} {human_size(size)}" for kind, size in session.paths.bytes_by_path.items())
        sizes = f"{human_size(pipe.bytes_out)} sent, {human_size(pipe.bytes_in)} received"
        self._report.tell(Note(f"{sizes} in {self._report.elapsed:.1f} s" + (f" ({paths})" if paths else "")))


def input_of(number: int) -> int | None:
    """The descriptor to read from, ``None`` for a terminal: nobody means to type into a pipe, or would know how to end
    it."""
    return None if os.isatty(number) else number
