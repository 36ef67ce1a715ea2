"""The run of ``p2pxfer send`` under the reactor: wiring, progress, the summary."""

from __future__ import annotations

import time
from typing import Final

from p2pxfer.cli.connect import server_address
from p2pxfer.cli.report import Reporter, contents
from p2pxfer.cli.settings import Global
from p2pxfer.cli.ticker import Ticker
from p2pxfer.core.codes import Code, normalise_code, parse_code
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, PathPolicy, Registered
from p2pxfer.core.names import suggest_name
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.core.text import safe_text
from p2pxfer.errors import CodeInvalid, CodeNeeded, Interrupted, P2pxferError, WrongCode
from p2pxfer.net.hashcache import HashCache
from p2pxfer.net.home import Contact, Home
from p2pxfer.net.outgoing import OutgoingJob, Patience
from p2pxfer.net.pump import ChunkPump
from p2pxfer.net.rendezvous import RendezvousClient
from p2pxfer.net.seeking import Target
from p2pxfer.net.source import Source
from p2pxfer.net.types import Reactor
from p2pxfer.status import Done, Note, Offer
from p2pxfer.status import Registered as RegisteredEvent

CODE_TRIES: Final = 3
"""How many codes a person may try in one run of the command."""


class Sending:
    """One run of the command."""

    def __init__(
        self,
        options: Global,
        home: Home,
        line: ServerLine,
        source: Source,
        target: Target,
        policy: PathPolicy,
        gentle: bool,
        port_mapping: bool,
        wait: bool,
        timeout: float,
        limit: int = 0,
    ) -> None:
        self._home = home
        self._line = line
        self._source = source
        self._target = target
        self._policy: PathPolicy = policy
        self._gentle = gentle
        self._port_mapping = port_mapping
        self._limit = limit
        self._patience = Patience(wait=wait, without_path=timeout)
        self._identity = home.identity()
        self._name = options.own_name(home, None)
        self._report = Reporter(options.json)
        self._job: OutgoingJob | None = None
        self._ended: P2pxferError | None = None

    async def run(self, reactor: Reactor) -> None:
        """Send everything and report it.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        manifest = self._source.manifest
        for skipped in self._source.skipped:
            self._report.tell(Note(f"skipped {safe_text(str(skipped))}"))
        offer = Offer(files=len(manifest.files), bytes=manifest.total_bytes, names=tuple(manifest.top_names))
        self._report.tell(offer, f"to send: {contents(offer)}")
        client = RendezvousClient(
            reactor,
            self._identity,
            server_address(self._line),
            name=None,
            policy=self._policy,
            on_registered=self._registered,
            on_introduction=self._uninvited,
            on_note=lambda text: self._report.tell(Note(text)),
            port_mapping=self._port_mapping,
        )
        cache = HashCache(str(self._home.path), manifest, self._source.identity, time.time())
        self._report.on_closed = lambda: self._end(Interrupted("nobody reads the output any more"))
        try:
            await client.start()
            client.failed.addCallback(self._end)
            await self._until_known(reactor, client, cache)
        finally:
            client.stop()
            cache.close()
            self._source.close()
            await client.leave()
            self._report.close()

    async def _until_known(self, reactor: Reactor, client: RendezvousClient, cache: HashCache) -> None:
        """Send; where the peer wants a code, or another one, and a person is there, ask for it and send again."""
        tries_left = CODE_TRIES
        while True:
            tries_left -= 1
            try:
                await self._send(reactor, client, cache)
            except (WrongCode, CodeNeeded) as error:
                if not tries_left or not self._report.can_ask:
                    raise
                if isinstance(error, WrongCode):
                    self._report.tell(Note(error.message))
                code = await ask_again(reactor, self._report, self._target.shown)
                if code is None:
                    raise
                self._target = self._target.proved_by(code)
            else:
                return

    async def _send(self, reactor: Reactor, client: RendezvousClient, cache: HashCache) -> None:
        pump = ChunkPump(reactor, self._source, cache, self._limit)
        job = self._job = OutgoingJob(
            reactor,
            client,
            self._identity,
            self._name,
            self._target,
            pump,
            policy=self._policy,
            patience=self._patience,
            gentle=self._gentle,
            tell=self._report.tell,
            on_paired=self._paired,
        )
        if self._ended is not None:
            job.fail(self._ended)
        total = self._source.manifest.total_bytes
        ticker = Ticker(reactor, lambda: (pump.acked_bytes, total, job.path_kind), self._report.tell)
        ticker.start()
        try:
            root = await job.run()
        finally:
            ticker.stop()
        self._done(root, job)

    def _end(self, error: P2pxferError) -> None:
        """No attempt, neither the one that runs nor a later one, can succeed any more."""
        self._ended = error
        if self._job is not None:
            self._job.fail(error)

    def _done(self, root: bytes, job: OutgoingJob) -> None:
        manifest = self._source.manifest
        self._report.tell(
            Done(
                bytes=manifest.total_bytes,
                files=len(manifest.files),
                seconds=round(self._report.elapsed, 3),
                bytes_by_path=dict(job.bytes_by_path),
                root=root.hex(),
            )
        )

    def _registered(self, answer: Registered) -> None:
        self._report.tell(RegisteredEvent(name="", id=str(self._identity.id), observed=answer.observed))

    def _uninvited(self, introduction: Introduction) -> None:
        """Nobody may send to a sender; the server knows that from the registration without a name."""

    def _paired(self, key: bytes, peer_name: str) -> None:
        from p2pxfer.cli.send import today

        name = self._target.alias or self._target.name or suggest_name(peer_name)
        try:
            self._home.add_contact(Contact(name, PeerId(key), "code", today()))
        except P2pxferError as error:
            self._report.tell(Note(f"the contact was not stored: {error.message}"))


async def ask_again(reactor: Reactor, report: Reporter, peer: str) -> Code | None:
    """The code that the person at the terminal types, asked for until it is one; ``None`` if nothing is typed."""
    from p2pxfer.cli.questions import Questions

    questions = Questions(reactor, report)
    try:
        while True:
            typed = await questions.line(
                lambda: f"one-time code of {safe_text(peer)}, as shown now (empty to give up): "
            )
            if typed is None or not typed.strip():
                return None
            try:
                return parse_code(normalise_code(typed[:200].decode("ascii", "replace")))
            except CodeInvalid as error:
                report.tell(Note(error.message))
    finally:
        questions.close()
