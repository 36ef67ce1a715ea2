"""What a job has to go on with, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum, auto

from p2pxfer.core.messages import PathPolicy
from p2pxfer.net.session.doubted import Doubted
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.pathset import PathSet


class Standing(Enum):
    """What a job has to go on with."""

    NOTHING = auto()
    DOUBTED = auto()
    """Only paths through a NAT that has just lost another one."""
    RELAYED = auto()
    DIRECT = auto()


def standing_of(paths: PathSet, doubted: Doubted) -> Standing:
    """What there is, where the paths in ``doubted`` are not known to live."""
    if doubted:
        return Standing.DOUBTED
    if not paths:
        return Standing.NOTHING
    return Standing.DIRECT if paths.direct else Standing.RELAYED


def wants_another(meetings: Collection[Meeting], paths: PathSet, policy: PathPolicy) -> bool:
    """Whether what there is can not become a direct path where one is wanted, or no path at all.

    A punch beside the relay is not waited for when that is gone.
    """
    if any(meeting.punching and (paths or not meeting.party.beside) for meeting in meetings):
        return False
    return not any(meeting.paths for meeting in meetings) or (not paths.direct and policy == "auto")


async def when_relayed(meeting: Meeting, paths: PathSet, told: Callable[[Meeting], None]) -> None:
    """Call ``told`` when it is known that ``meeting`` leaves nothing but the relay; not if it was given up before."""
    await meeting.decided()
    if meeting.given_up or meeting.party.beside:
        return
    relayed = bool(paths) or (not meeting.introduction.dial and meeting.introduction.relay_token is not None)
    if relayed and not paths.direct and not paths.over:
        told(meeting)
