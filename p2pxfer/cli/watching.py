"""One transfer that a receiver watches: when it was accepted, its progress, whether it is under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Literal

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import deferLater

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.ticker import Ticker
from p2pxfer.core.text import few_of, safe_text
from p2pxfer.core.transfer.streams import CANNOT_GO_ON
from p2pxfer.core.words.eventtext import human_size, superseded_text
from p2pxfer.core.words.parting import kept_text, parted_text, untaken_text
from p2pxfer.errors import Incomplete, P2pxferError, PeerStopped, RefusedHere
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.staging.partials import number_of, staging_name
from p2pxfer.net.transfer.inbox import IDLE_S
from p2pxfer.net.transfer.inboxowner import Brought
from p2pxfer.net.transfer.incoming import IncomingTransfer
from p2pxfer.net.transfer.instream import IncomingStream
from p2pxfer.net.transfer.places import Received
from p2pxfer.net.transfer.undecided import was_cut_off
from p2pxfer.net.types import Reactor
from p2pxfer.status import Done, Event, Note, Offer

COUNTING_S: Final = 3.0
"""How long a question about it waits for a sender that is still counting what it sends, seconds."""
COUNT_S: Final = 0.25
"""How often it is looked whether it has, seconds."""
ANEW_S: Final = 1.0
"""After what time a question is asked anew that was withdrawn for nothing, seconds."""
GONE_S: Final = 3.0
"""How long no path carries a transfer before people are told what that means, seconds; most are back by then."""


def done_event(transfer: IncomingTransfer | IncomingStream, outcome: Received, seconds: float) -> Done:
    """What is told of an accepted transfer that is here and published, ``seconds`` after it was accepted."""
    assert transfer.offer is not None
    return Done(
        bytes=outcome.size,
        files=transfer.offer.files - len(outcome.left),
        seconds=round(seconds, 3),
        bytes_by_path=dict(transfer.bytes_by_path),
        root=outcome.root.hex(),
        saved=outcome.names,
        left_out=outcome.left,
    )


def end_for_people(transfer: IncomingTransfer | IncomingStream, done: Done, now: float) -> Done:
    """The numbers that people are told at the end, at ``now`` in the reactor's time.

    See :meth:`~p2pxfer.net.transfer.tally.Tally.latest`.
    """
    return transfer.tally.latest(done, now) if isinstance(transfer, IncomingTransfer) else done


class Watch:
    """One transfer from its first sign to its end: when it was accepted, its progress, whether it is under way.

    ``peer`` is what the sender is called; ``server_away`` tells whether the server is not there just now;
    ``is_shown(self)`` whether people see the progress of this one, and not that of another one.
    """

    def __init__(
        self,
        reactor: Reactor,
        transfer: IncomingTransfer | IncomingStream,
        paths: PathSet,
        report: Reporter,
        peer: str,
        server_away: Callable[[], bool],
        is_shown: Callable[[Watch], bool],
    ) -> None:
        self._is_shown = is_shown
        self._reactor = reactor
        self._server_away = server_away
        self._peer = safe_text(peer)
        self._seen = 0.0
        self._outdated = False
        """A newer one took its place."""
        self._said: Literal["", "peer", "stopped", "server", "direct"] = ""
        self._lost_with: Literal["", "server"] = ""
        """What else has been away since the last path went: that the sender is, nobody knows then."""
        self.transfer = transfer
        self.paths = paths
        self._report = report
        self._since = report.elapsed
        self.began = time.time()
        """When it appeared, seconds since 1970."""
        self._appeared = self._grew = reactor.seconds()
        self._have = 0
        self._carried: float | None = None
        self._ticker: Ticker | None = None
        self._asking: Deferred[bool] | None = None

    async def counted(self, offer: Offer) -> Offer:
        """Whoever decides should know how much it is; whoever sends a million files is not waited for."""
        for _ in range(round(COUNTING_S / COUNT_S)):
            if not offer.counting or self.transfer.ended:
                break
            await deferLater(self._reactor, COUNT_S)
            offer = self.transfer.offer or offer
        return offer

    async def asked(self, ask: Callable[[], Coroutine[Deferred[Any], Any, bool]], over: Callable[[], bool]) -> bool:
        """The answer to a question about this transfer; no where it is ``over`` before somebody gives one.

        The question is withdrawn when there is nobody any more for whom it is answered, and asked anew where another
        program of that machine brings the same.
        """
        while not over():
            self._asking = Deferred.fromCoroutine(ask())
            try:
                return await self._asking
            except CancelledError:
                if not over():
                    await deferLater(self._reactor, ANEW_S)
            finally:
                self._asking = None
        return False

    def _withdraw(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def accepted(self) -> None:
        """The transfer was accepted just now."""
        self._since = self._report.elapsed
        self._carried = self._seen = self._grew = self._reactor.seconds()
        # One turn later the event is told, and what an earlier run left is counted and no part of the rate.
        self._reactor.callLater(0, self._start)

    def _start(self) -> None:
        if not self.transfer.ended:
            self._ticker = Ticker(self._reactor, self._measure, self._tell)
            self._ticker.start()

    def _measure(self) -> tuple[int, int | None, str]:
        offer = self.transfer.offer
        self._look()
        if self.transfer.have_bytes != self._have:
            self._have, self._grew = self.transfer.have_bytes, self._reactor.seconds()
        # Its sender's paths may carry another one.
        kind = self.paths.active_kind if self.transfer.attached else "none"
        return self.transfer.have_bytes, offer.bytes if offer is not None else 0, kind

    def _tell(self, event: Event) -> None:
        """Progress, of which programs read all, and people that of one transfer."""
        waits = "" if self.transfer.attached or self.transfer.offer is None else self._waits(self.transfer.offer)
        self._report.tell(event, (waits or None) if self._is_shown(self) else "")

    def _waits(self, offer: Offer) -> str:
        names = few_of(offer.names, 1)
        return f"waiting for {self._peer}: {names}"

    def _look(self) -> None:
        """Say it once when the sender stays away, or the server, without which nobody can tell of the sender.

        While a direct path carries the transfer, it is said that the server is not needed.
        """
        now, away = self._reactor.seconds(), self._server_away()
        self._lost_with = "server" if away else "" if self.transfer.attached else self._lost_with
        if self.transfer.attached and away and self.paths.active_kind not in ("relay", "none"):
            self._seen = now
            if self._said != "direct":
                self._said = "direct"
                self._report.tell(Note(f"the transfer from {self._peer} goes on directly, without the server"))
        elif self.transfer.attached or (self._said == "server" and not away):
            self._seen = now
            if not (self._said == "stopped" and self.paths.peer_leaves):  # what is full carries on for a while
                self._said = ""
        elif now - self._seen >= GONE_S and self._said not in ("peer", "stopped", "server"):
            self._said = "server" if away else "peer"
            self._report.tell(Note(self._gone(away)))
            self._missed()

    def _missed(self) -> None:
        """The sender was said to be away: that it is back is told with all that is offered and here already."""
        if self.taken and self._said != "server" and isinstance(self.transfer, IncomingTransfer):
            self.transfer.tally.missed()

    def stopped(self, farewell: PeerStopped) -> str:
        """The sender took its leave: what a user has to know of that, nothing where that is known.

        It is what the peer says and nothing more: what is here stays, and what comes of it is taken as before.
        """
        if self.transfer.ended or self._said == "stopped":
            return ""
        self._said = "stopped"
        self._missed()
        if not self.taken:
            self._withdraw()
            return untaken_text(self._peer, farewell, self._names)
        if isinstance(self.transfer, IncomingStream):
            return ""  # its outcome is on its way, and says so
        left = parted_text(self._peer, farewell)
        return f"{left}; {self._kept}, and go on when {self._peer} runs the same command again"

    def ends(self, path: PeerPath, error: P2pxferError) -> None:
        """A path that carries it is about to end: whose last one did so in mid-talk was probably killed.

        Who is back before anybody was told of that is another program then.
        """
        if self.transfer.attached == 1 and was_cut_off(path, error):
            self._missed()

    def left(self) -> None:
        """A path of the sender is gone: what was stopped and not taken has ended with the last one that carries it."""
        if self._said == "stopped" and not (self.taken or self.transfer.attached or self.transfer.ended):
            self.transfer.abandon()

    @property
    def _names(self) -> tuple[str, ...]:
        return self.transfer.offer.names if self.transfer.offer is not None else ()

    @property
    def _kept(self) -> str:
        """How much is here, and of what, as the beginning of a sentence."""
        offer = self.transfer.offer
        whole = offer.bytes if offer is not None and not offer.counting else None
        return kept_text(self.transfer.have_bytes, whole, self._names)

    def _gone(self, away: bool) -> str:
        """What happened, what is kept, what to do; ``away``: the server is not there."""
        here = human_size(self.transfer.have_bytes)
        if away:
            return f"no path to {self._peer} while the server is away; {here} are here, and it goes on by itself"
        gone = f"{self._peer} is gone: that program has ended, or its network is lost"
        if self._lost_with == "server":
            gone = f"no path to {self._peer} since the server was away"
        if isinstance(self.transfer, IncomingStream):
            return f"{gone}; {here} came, and a stream goes on only if that program still runs, for which this waits"
        return (
            f"{gone}; {self._kept}, and go on by themselves when it is back; where the program has ended,"
            f" {self._peer} runs the same command again"
        )

    def is_outdated_by(self, newer: Watch) -> bool:
        """Whether ``newer``, which is here now, came from the same sender under the same names, and nobody brings this.

        It has to have begun after the last of this came: then it is the same command, run again after its files had
        changed, or others of that name.
        """
        mine, its = self.transfer.offer, newer.transfer.offer
        same = mine is not None and its is not None and mine.names == its.names and self.paths is newer.paths
        waits = self.taken and not self.transfer.attached and not self.transfer.ended
        after = self._grew < newer._appeared
        return same and waits and after and isinstance(self.transfer, IncomingTransfer)

    def give_up(self) -> Deferred[None]:
        """A newer one took its place: let go of what is kept, so that it can be dropped; fires then."""
        assert isinstance(self.transfer, IncomingTransfer)
        self._outdated = True
        return maybeDeferred(self.transfer.abandon)

    def unfinished(self, error: Incomplete) -> str:
        """What is said of its end, which is that of a transfer whose sender is away; nothing if it is said already."""
        if not self.taken:
            gone = f"{self._peer} has not come back; nothing was taken of {few_of(self._names)}"
            return "" if self._said == "stopped" else gone
        offer = self.transfer.offer
        if not self._outdated or offer is None:
            return f"{few_of(self._names)} from {self._peer}: {error.message}"
        assert isinstance(self.transfer, IncomingTransfer)
        number = number_of(staging_name(self.transfer.sender, self.transfer.number))
        return superseded_text(self.transfer.have_bytes, offer.names, number)

    @property
    def taken(self) -> bool:
        """Whether it was accepted."""
        return self._carried is not None

    def under_way(self, now: float) -> bool:
        """Whether it was accepted and a path carries it, or may again: so long the inbox waits for its sender.

        One that was stopped comes back when somebody starts it.
        """
        if self._carried is not None and self.transfer.attached:
            self._carried = now
        waits = self._said != "stopped" or bool(self.transfer.attached)
        return self._carried is not None and waits and now - self._carried < IDLE_S

    def stop(self) -> float:
        """The transfer has ended: seconds since it was accepted."""
        if self.transfer.ended:  # else the run ends, and no answer is given
            self._withdraw()
        if self._ticker is not None:
            self._ticker.stop()
        return self._report.elapsed - self._since


def failed_text(error: P2pxferError) -> str | None:
    """What people see of the error that ended a transfer: nothing where they said no, of which they were told."""
    return "" if isinstance(error, RefusedHere) else None


def stops(watches: Iterable[Watch], farewell: PeerStopped, brought: Brought | None) -> str:
    """What is said of a sender that took its leave on a path that ``brought`` this, nothing if that is said already."""
    watch = next((watch for watch in watches if watch.transfer is brought), None)
    return watch.stopped(farewell) if watch is not None else ""


def interrupted_text(watches: Iterable[Watch], received: int) -> str:
    """What is said to a user who stops ``receive``, which has ``received`` transfers whole and these under way."""
    taken = [watch.transfer for watch in watches if watch.taken]
    said = []
    if any(isinstance(transfer, IncomingTransfer) for transfer in taken):
        # How long it waits was said to the sender alone.
        said.append(
            "what arrived is kept, and goes on when this command is run again; a sender that does not wait any more by"
            " then is to be run again too"
        )
    if any(isinstance(transfer, IncomingStream) for transfer in taken):
        said.append(f"the stream is not whole: {CANNOT_GO_ON}")
    whole = f"{received or 'no'} transfer{'' if received == 1 else 's'} received"
    return "; ".join(["interrupted", *(said or [whole])])
