"""A run of ``p2pxfer netcheck``: what discovery finds of this side and, with a peer, what the two get between them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLong

from p2pxfer.cli.findings import nat_found, peer_found, sides
from p2pxfer.cli.pairtext import change_sentence, pair_table, path_sentence, reason_sentence
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.settings import Global
from p2pxfer.core.messages import Registered
from p2pxfer.core.session.verdict import judge
from p2pxfer.core.text import safe_text
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.errors import Interrupted, NoDirectPath, Unreachable
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.peercheck import Findings, PeerCheck
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import server_address
from p2pxfer.status import Nat, Note, Verdict
from p2pxfer.status import Registered as RegisteredEvent

ALONE_S = 20.0
"""How long this side is looked at, seconds; what is not known by then is unknown."""


_NO_TIME = "there was no time to find out"


class Checking:
    """One check of the network, with a ``peer`` of the two."""

    def __init__(self, options: Global, timeout: float, peer: KnownPeer | None = None) -> None:
        self._timeout = timeout
        self._peer = peer
        self._report = Reporter(options.json, options.quiet)
        self._registered_in_time = False
        self._inbound = Inbound(closed=_NO_TIME, unturned=_NO_TIME, unanswered=_NO_TIME, uncrossed=_NO_TIME)

    async def run(self, machine: Machine) -> None:
        """Find out and report.

        Raises:
            P2pxferError: the server cannot be reached, or does not register this machine; with a peer also that it is
                not there, or that no path came about that ``--path`` allows.
        """
        machine = self._machine = structs.replace(machine, tell=self._report.tell)
        # What is found of this side is the same whatever the two may use.
        any_way = structs.replace(machine.approach, policy="auto")
        client = structs.replace(machine, approach=any_way).client(on_registered=self._registered)
        client.discovery.watch = self._note
        ends = machine.reactor.seconds() + self._timeout
        try:
            self._note(f"asking the server at {server_address(machine.server)}")
            try:
                await self._within(min(self._timeout, ALONE_S), self._find_out(client))
            except TooLong:
                if not self._registered_in_time:
                    raise Unreachable(f"the server did not answer within {self._timeout:g} seconds") from None
            found = nat_found(client.discovery, self._inbound, client.announcer)
            self._report.tell(found, None if self._peer is None else "", wanted=True)
            if self._peer is not None:
                await self._both(client, self._peer, found, ends)
        except CancelledError:
            raise Interrupted("interrupted before the check was over") from None
        finally:
            await client.leave()
            self._report.close()

    async def _within(self, seconds: float, work: Coroutine[Deferred[Any], Any, Any]) -> Any:
        working = Deferred.fromCoroutine(work)
        working.addTimeout(max(seconds, 0.0), self._machine.reactor)
        self._report.on_closed = working.cancel
        return await working

    async def _find_out(self, client: RendezvousClient) -> None:
        await client.start()
        await client.discovery.settled(thoroughly=True)
        self._note("letting the server dial back")
        self._inbound = await client.discovery.inbound()
        if client.announcer is not None:
            await client.announcer.mapping.settled()

    # -- with a peer -------------------------------------------------------------------------------------------------

    async def _both(self, client: RendezvousClient, peer: KnownPeer, here: Nat, ends: float) -> None:
        machine = self._machine
        check = PeerCheck(machine, client, peer)
        try:
            findings: Findings = await self._within(ends - machine.reactor.seconds(), check.run())
        except TooLong:
            raise Unreachable(f"the check with {peer.shown} was not over within {self._timeout:g} seconds") from None
        there = peer_found(findings)
        self._report.tell(there, "")
        self._tell_verdict(peer.shown, findings, here, there)

    def _tell_verdict(self, name: str, findings: Findings, here: Nat, there: Nat) -> None:
        both = sides(self._machine.approach.policy, findings, here, there)
        verdict = judge(*both, findings.path, _meet(here.addresses, there.addresses))
        tried = findings.tried
        if findings.answer is not None and findings.answer.against:
            tried = "; ".join(filter(None, [tried, f"{name} says: {safe_text(findings.answer.against, 200)}"]))
        shown = "" if verdict.change == "none" else tried
        sentences = [
            path_sentence(findings.path, findings.after, findings.round_trip, name),
            reason_sentence(verdict, name, shown),
            change_sentence(verdict, name),
        ]
        event = Verdict(
            path=findings.path or "none",
            after_ms=_ms(findings.after),
            rtt_ms=_ms(findings.round_trip),
            reason=verdict.reason,
            where=verdict.where,
            change=verdict.change,
            at=verdict.at,
            message=" ".join(filter(None, sentences)),
        )
        self._report.tell(event, "\n".join([pair_table(here, there, name), *filter(None, sentences)]), wanted=True)
        if findings.path is None:
            raise NoDirectPath(f"there is no direct path to {name}, and --path direct, here or there, allows no other")

    # -- the server --------------------------------------------------------------------------------------------------

    def _registered(self, answer: Registered) -> None:
        self._registered_in_time = True
        self._report.tell(RegisteredEvent(name="", id=str(self._machine.identity.id), observed=answer.observed))
        asked = len(answer.observers)
        further = (
            f"{asked} more of its ports {'is' if asked == 1 else 'are'} asked"
            if asked
            else "it has no more ports to ask"
        )
        self._note(f"the server sees this machine as {answer.observed}; {further}")

    def _note(self, text: str) -> None:
        self._report.tell(Note(text))


def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not set(one).isdisjoint(other)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
