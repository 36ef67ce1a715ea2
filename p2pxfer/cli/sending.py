"""The run of ``p2pxfer send`` under the reactor: wiring, progress, the summary."""

from __future__ import annotations

import time

from p2pxfer.cli.connect import server_address
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.cli.ticker import Ticker
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction, PathPolicy, Registered
from p2pxfer.core.names import suggest_name
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.core.text import safe_text
from p2pxfer.errors import Interrupted, P2pxferError
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
    ) -> None:
        self._home = home
        self._line = line
        self._source = source
        self._target = target
        self._policy: PathPolicy = policy
        self._gentle = gentle
        self._port_mapping = port_mapping
        self._patience = Patience(wait=wait, without_path=timeout)
        self._identity = home.identity()
        self._name = options.own_name(home, None)
        self._report = Reporter(options.json)

    async def run(self, reactor: Reactor) -> None:
        """Send everything and report it.

        Raises:
            P2pxferError: the outcome, when it is not success.
        """
        manifest = self._source.manifest
        for skipped in self._source.skipped:
            self._report.tell(Note(f"skipped {safe_text(str(skipped))}"))
        offer = Offer(files=len(manifest.files), bytes=manifest.total_bytes, names=tuple(manifest.top_names))
        self._report.tell(offer)
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
        pump = ChunkPump(reactor, self._source, cache)
        job = OutgoingJob(
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
        self._report.on_closed = lambda: job.fail(Interrupted("nobody reads the output any more"))
        ticker = Ticker(
            reactor,
            lambda: (pump.acked_bytes, manifest.total_bytes, job.path_kind),
            self._report.tell,
        )
        try:
            await client.start()
            client.failed.addCallback(job.fail)
            ticker.start()
            root = await job.run()
            ticker.stop()
            self._done(root, job)
        finally:
            ticker.stop()
            client.stop()
            cache.close()
            self._source.close()
            await client.leave()
            self._report.close()

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
