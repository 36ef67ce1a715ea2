"""Peers that ask while nobody can say who they are: each hears over the relay that nothing is taken now.

Laws of this file:

1. Nobody is dialled: the word goes through the server, or is not said where one side wants a direct path only.
2. Contact or not, all hear the same, and nothing that they say is looked at.
3. There are few at a time, and one for each key; the oldest gives way.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from p2pxfer.core.codec import Message
from p2pxfer.core.messages import Introduction
from p2pxfer.core.session.transferwire import Chunk
from p2pxfer.errors import P2pxferError, Unreachable
from p2pxfer.net.session.machine import Machine
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.parties import MeetingOwner
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.traversal.rendezvous import RendezvousClient

MOST: Final = 8
"""Most of them at once: half of the relayed connections that the server allows a receiver."""


class Declining(MeetingOwner):
    """Tells whoever is introduced to ``machine`` that it has to come back."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._meetings: dict[bytes, Meeting] = {}

    def decline(self, introduction: Introduction, client: RendezvousClient) -> None:
        """Meet this peer on the relay for as long as it takes to say so."""
        key = introduction.peer_id
        if introduction.relay_token is None:
            return
        if key in self._meetings or len(self._meetings) >= MOST:
            self._meetings.pop(key if key in self._meetings else next(iter(self._meetings))).close()
        relayed = replace(introduction, dial=False, observed=[], lan=[], mapped=[])
        party = self._machine.party("responder", key)
        meeting = self._meetings[key] = Meeting(self._machine.reactor, relayed, party, client, self)
        meeting.start()

    def close(self) -> None:
        """Tell nobody more."""
        for meeting in list(self._meetings.values()):
            meeting.close()

    def path_up(self, meeting: Meeting, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`."""
        path.refuse(Unreachable(f"{self._machine.name} can take nothing new now"))

    def path_down(self, meeting: Meeting, path: PeerPath, error: P2pxferError) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`: the meeting fails with it."""
        return

    def meeting_failed(self, meeting: Meeting, reasons: list[P2pxferError]) -> None:
        """See :class:`~p2pxfer.net.session.parties.MeetingOwner`: it is over."""
        if self._meetings.get(meeting.party.peer_key) is meeting:
            del self._meetings[meeting.party.peer_key]

    def path_message(self, path: PeerPath, message: Message) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`: none is passed on by a path that was refused."""
        return

    def path_chunk(self, path: PeerPath, chunk: Chunk) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        return

    def path_writable(self, path: PeerPath) -> None:
        """See :class:`~p2pxfer.net.session.path.PathOwner`."""
        return
