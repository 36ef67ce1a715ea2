"""The agent of one home as a service: what it does is made here, begun, asked and ended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from msgspec import structs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.agent.config import AgentConfig, parse_config
from p2pxfer.core.agent.control import (
    MAX_LEFT_OUT,
    MAX_NAMES,
    Answer,
    Doorbell,
    Ending,
    EndWanted,
    Looking,
    Question,
    status_that_fits,
)
from p2pxfer.core.text import path_text, safe_text
from p2pxfer.core.words.eventtext import describe, human_size
from p2pxfer.errors import ConfigError
from p2pxfer.inventory import Agent as AgentEvent
from p2pxfer.inventory import JobListed
from p2pxfer.net.agent.door import Door
from p2pxfer.net.agent.exposing import Exposing
from p2pxfer.net.agent.folders import ContactFolders
from p2pxfer.net.agent.receiving import Receiving
from p2pxfer.net.agent.room import Room
from p2pxfer.net.descriptors import raise_descriptor_limit
from p2pxfer.net.private.home import Home, default_home
from p2pxfer.net.queue.joblist import UNDER_WAY
from p2pxfer.net.queue.queuerunner import QueueRunner
from p2pxfer.net.session.knownpeers import look_up
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.staging.partials import Destination
from p2pxfer.net.traversal.serverdial import server_address
from p2pxfer.status import Event

CONFIG: Final = "agent.toml"
END_S: Final = 10.0
"""How long the end may take, seconds; what is not through then is as after a kill."""


def read_config(home: Path) -> AgentConfig:
    """The configuration in a private directory; the defaults if there is none.

    Raises:
        ConfigError: it cannot be read or used.
    """
    path = home / CONFIG
    shown = path_text(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return AgentConfig()
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error.strerror or error}") from error
    return parse_config(data, shown)


def directory(home: Path, text: str) -> Path:
    """A path of the configuration: ``~`` is the user's home, and what is relative begins in the private directory.

    Raises:
        ConfigError: there is no such user.
    """
    try:
        return home / Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{CONFIG}: {safe_text(text, 200)}: there is no such user") from error


class Agent(Service):
    """Receives, exposes and sends what is queued, for one home."""

    log = Logger(namespace="p2pxfer-agent")

    def __init__(self, reactor: Any, home: str | None, server: str | None) -> None:
        """Check everything that can be checked before it begins; ``None`` is what commands take then.

        Raises:
            ConfigError: another agent runs for this home, or its configuration or state cannot be used.
            UsageError: the server's address is none.
        """
        opened = Home(Path(home) if home is not None else default_home(os.environ))
        # Before there is a key: whoever has named the wrong directory is not to leave one there.
        self._config = config = read_config(opened.path)
        inbox = directory(opened.path, config.inbox)
        others = {who: directory(opened.path, text) for who, text in config.folders.items()}
        # What is damaged is said now and not to the first peer.
        opened.contacts()
        machine = Machine.here(reactor, opened.path, server)
        self._machine = structs.replace(
            machine, name=config.name or machine.name, approach=config.approach, patience=config.patience
        )
        self._room = Room(machine.home.path)
        self._began = 0.0
        self._through = 0
        self._receiving = Receiving(self._machine, self._folders(inbox, others), config.rate, self._say)
        self._services = [Exposing(self._machine, service, self._say) for service in config.services]
        self._queue = QueueRunner(self._machine, self._sent)
        self._door = Door(reactor, self._room.path, self._answer)

    def _folders(self, inbox: Path, others: Mapping[str, Path]) -> ContactFolders:
        config = self._config
        used = Destination("", self._machine.name, "contacts", True, config.rate, **structs.asdict(config.approach))
        return ContactFolders(self._machine.home, inbox, others, used)

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            self.log.info("{line}", line=line)

    def _sent(self, event: Event) -> None:
        """What becomes of the queue."""
        if not isinstance(event, JobListed):
            self._say(describe(event))
            return
        self._through += event.state == "done"
        names = ", ".join(safe_text(name, 60) for name in event.names[:MAX_NAMES])
        part = f"{human_size(event.bytes)} of {human_size(event.total)}"
        why = f": {safe_text(event.why, 300)}" if event.why else ""
        self._say(f"{event.job}, {names} to {safe_text(event.peer)}: {event.state} ({part}){why}")

    def startService(self) -> None:
        """Begin.

        Raises:
            ConfigError: there can be no socket, or the queue cannot be used.
        """
        super().startService()  # type: ignore[no-untyped-call]  # Twisted does not annotate services
        raise_descriptor_limit()
        self._room.sign()
        self._door.open()
        self._queue.start()
        self._began = self._machine.reactor.seconds()
        home = path_text(self._machine.home.path)
        self._say(f"the agent of {home} runs as {self._machine.name}, {self._machine.identity.id}")
        if self._config.receive:
            for who in self._config.folders:
                if look_up(self._machine.home, who)[2] is None:
                    self._say(f"folders.{who}: there is no such contact; the folder waits for one")
            self._receiving.start()
        for service in self._services:
            service.start()

    def stopService(self) -> Deferred[Any]:
        """End in good order; what is under way goes on when it is started again."""
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        self._say("ending; what is under way is kept and goes on with the next start")
        ending: Deferred[Any] = Deferred.fromCoroutine(self._stop())
        ending.addTimeout(END_S, self._machine.reactor, lambda result, timeout: None)
        ending.addErrback(self._stopped_badly)
        ending.addBoth(lambda _: self._room.close())
        return ending

    def _stopped_badly(self, failure: Failure) -> None:
        if not failure.check(CancelledError, ReactorNotRunning):
            self.log.failure("ending", failure)

    async def _stop(self) -> None:
        await self._door.close()
        ends = [self._queue.stop(), self._receiving.stop(), *(service.stop() for service in self._services)]
        for well, result in await DeferredList(list(map(Deferred.fromCoroutine, ends)), consumeErrors=True):
            if not well:
                self.log.failure("ending", cast(Failure, result))

    # -- questions -----------------------------------------------------------------------------------------------

    def _answer(self, question: Question) -> Answer:
        if isinstance(question, Doorbell):
            self._queue.doorbell()
            return Looking()
        if isinstance(question, EndWanted):
            # A round of the reactor later: the answer is out then.
            self._machine.reactor.callLater(0, self._machine.reactor.callLater, 0, self._end)
            return Ending(os.getpid())
        queue = self._queue.listed()
        states = Counter(job.state for job in queue)
        transfers = [*self._receiving.under_way(), *(job for job in queue if job.state in UNDER_WAY)]
        seen = [self._receiving.observed, *(service.observed for service in self._services)]
        exposed = [(service, service.exposed) for service in self._services]
        left_out = (who for service, one in exposed if one is not None for who in service.left_out)
        trouble, again = self._trouble
        about = AgentEvent(
            pid=os.getpid(),
            name=self._machine.name,
            id=str(self._machine.identity.id),
            server=str(server_address(self._machine.server)),
            observed=next(filter(None, seen), ""),
            receives=self._config.receive,
            up_s=round(self._machine.reactor.seconds() - self._began, 1),
            transfers=len(transfers),
            queued=states["queued"],
            services=len(self._services),
            inbox=self._inbox if self._config.receive else "",
            folders=len(self._config.folders),
            trouble=safe_text(trouble, 300),
            again_s=None if again is None else round(again, 1),
            closed=tuple(safe_text(service.closed, 400) for service, one in exposed if one is None),
            paused=states["paused"],
            failed=states["failed"],
            sent=self._through,
            received=self._receiving.received,
            left_out=tuple(islice(left_out, MAX_LEFT_OUT)),
        )
        return status_that_fits(about, tuple(one for _, one in exposed if one is not None), transfers)

    def _end(self) -> None:
        if self.running:
            self._machine.reactor.stop()

    @property
    def _inbox(self) -> str:
        return safe_text(str(directory(self._machine.home.path, self._config.inbox)), 1000)

    @property
    def _trouble(self) -> tuple[str, float | None]:
        """Why the server does not know this machine by its name, or by that of a service."""
        troubles = [self._receiving.trouble, *(service.trouble for service in self._services)]
        return next((trouble for trouble in troubles if trouble[0]), ("", None))
