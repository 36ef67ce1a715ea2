"""The program in a home of the matrix: meets the other home again and again, with what the product is made of.

    python -m scripts.matrixlib.meeter SERVER FOLDER ROLE

`meet N` on standard input begins a meeting, as number N of the peers whose homes are in FOLDER; `end` ends it, and
`ended` is said when nothing of it is left.  Each meeting is a process of its own, forked from this one when everything
is imported already.  So to the product it is a new start, with nothing learnt and no limit used up, and what goes wrong
in one meeting ends with it.  It says what `p2pxfer send` and `receive` would say of it, in JSON.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Literal, NoReturn, cast

import twisted.internet.epollreactor  # noqa: F401  # imported once here and not in each meeting
from twisted.internet.defer import Deferred

from p2pxfer.cli.main import report_error
from p2pxfer.cli.report import Reporter
from p2pxfer.cli.run import run
from p2pxfer.core.codec import Message
from p2pxfer.core.ids import PeerId
from p2pxfer.core.messages import Introduction
from p2pxfer.core.messages import Registered as Answer
from p2pxfer.core.serveraddress import parse_server_line
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.core.session.verdict import no_direct_path
from p2pxfer.errors import NoDirectPath, P2pxferError, ProtocolBreach, Unreachable
from p2pxfer.net.private.home import Home
from p2pxfer.net.private.identity import Identity
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner, Party
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.session.pathset import PathSet
from p2pxfer.net.traversal.rendezvous import RendezvousClient
from p2pxfer.net.traversal.serverdial import ServerAddress, server_address
from p2pxfer.net.types import Reactor
from p2pxfer.status import Note, Registered

Role = Literal["alice", "bob"]
"""Alice asks for bob, as a sender does; he waits and is known by a name, as a receiver."""
PEERS = 8
"""Pairs of peers in a lab, taken in turn: the server allows one pair so many introductions a minute only."""
PARTING_S = 3.0
"""How long a meeting may take to end when it is told to, seconds; then it is killed."""


def home_of(folder: Path, role: Role, number: int) -> Home:
    """The private directory of one of the peers."""
    return Home(folder / f"{role}-{number}")


class Side(MeetingOwner):
    """One side of one meeting, the relay forbidden."""

    def __init__(self, server: ServerAddress, role: Role, number: int, identity: Identity, peer: PeerId) -> None:
        self._server = server
        self._role: Role = role
        self._name = f"bob-{number}" if role == "bob" else None
        self._identity = identity
        self._peer = peer
        self._report = Reporter(as_json=True)
        self._meetings: list[Meeting] = []
        self._over: Deferred[None] = Deferred()

    async def run(self, reactor: Reactor) -> None:
        """Meet, and stay until cancelled.

        Raises:
            P2pxferError: there is no path, or the server is not there.
        """
        self._reactor = reactor
        self._paths = PathSet(reactor.seconds, self._report.tell)
        self._client = RendezvousClient(
            reactor, self._identity, self._server, name=self._name, policy="direct",
            on_registered=self._registered, on_introduction=self._introduced,
            on_note=lambda text: self._report.tell(Note(text)), port_mapping=True,
        )  # fmt: skip
        try:
            answer = await self._client.start()
            if self._role == "alice":
                self._meet(await self._client.introduce(str(self._peer), "direct"), "initiator")
            else:
                # Who waits for files has long found out what there is to know.
                await self._client.discovery.settled()
                self._report.tell(Registered(self._name or "", str(self._identity.id), answer.observed))
            await self._over
        finally:
            for meeting in self._meetings:
                for path in meeting.paths:
                    path.fail(Unreachable("the run is over"))
                meeting.close()
            await self._client.leave()

    def _registered(self, answer: Answer) -> None:
        """Whoever waits for it is told later."""

    def _introduced(self, introduction: Introduction) -> None:
        self._client.introduced(introduction)
        self._meet(introduction, "responder")

    def _meet(self, introduction: Introduction, role: Literal["initiator", "responder"]) -> None:
        self._paths.introduced()
        party = Party(self._identity, role, self._role, None, self._peer.digest, trusted=True)
        meeting = Meeting(self._reactor, introduction, party, self._client, self)
        self._meetings.append(meeting)
        meeting.start()

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        path.open_session()
        self._paths.add(path)

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        self._paths.remove(path, error.message)

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        if not self._over.called:
            self._over.errback(NoDirectPath(no_direct_path("bob", *meeting.punch.nats, meeting.punch.tried)))

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("nothing is said in these meetings")

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        raise ProtocolBreach("nothing is sent in these meetings")

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""


def meet(server: ServerAddress, folder: Path, role: Role, number: int) -> NoReturn:
    """One meeting, in the process that was made for it."""
    try:
        other: Role = "bob" if role == "alice" else "alice"
        peer = PeerId(home_of(folder, other, number).identity().id.digest)
        side = Side(server, role, number, home_of(folder, role, number).identity(), peer)
        run(side.run, 0)
    except P2pxferError as error:
        report_error(error.word, error.message, error.retry, error.exit_code, as_json=True)
    except BaseException as fault:
        traceback.print_exc()
        report_error("E_INTERNAL", f"a fault of the program: {type(fault).__name__}", False, 1, as_json=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def end(child: int) -> None:
    """End the meeting, if there is one, and wait until nothing is left of it."""
    if not child:
        return
    handle = os.pidfd_open(child)
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        os.kill(child, signal.SIGTERM)
        if not ended.poll(PARTING_S * 1000):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    finally:
        os.close(handle)


def say(event: str) -> None:
    """An event of this program and not of a meeting."""
    print(json.dumps({"event": event}), flush=True)


def main(line: str, folder: Path, role: Role) -> None:
    """Do what standard input says, until it ends."""
    server = server_address(parse_server_line(line))
    gc.freeze()
    say("ready")
    child = 0
    for command in sys.stdin:
        match command.split():
            case ["meet", number] if not child:
                child = os.fork()
                if not child:
                    meet(server, folder, role, int(number))
            case ["end"]:
                end(child)
                child = 0
                say("ended")
            case _:
                raise SystemExit(f"not now: {command!r}")
    end(child)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), cast(Role, sys.argv[3]))
