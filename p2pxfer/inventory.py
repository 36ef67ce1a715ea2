"""What a private directory holds and its agent does, as events of :mod:`p2pxfer.status`, where their rules are."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

ContactState = Literal["known", "added", "renamed", "removed", "changed"]
JobState = Literal["cut", "asking", "running", "waiting", "dropped", "queued", "paused", "failed", "done"]


class Identity(Struct, frozen=True):
    """The end of ``id`` and ``init``: this machine, and what its private directory ``home`` holds, if anything."""

    event: ClassVar[str] = "identity"
    id: str
    name: str
    server: str
    home: str


class ContactListed(Struct, frozen=True):
    """From ``contacts``, one for each verified peer; ``state`` is ``known`` in a list, else what the command did.

    ``denied`` is what the peer may not do here: any of ``files``, ``chat``, ``pipe``, ``services``.
    """

    event: ClassVar[str] = "contact"
    name: str
    id: str
    verified: str
    added: str
    state: ContactState
    denied: tuple[str, ...] = ()


class JobListed(Struct, frozen=True):
    """From ``jobs``, one for each transfer that is not whole: ``bytes`` of ``total`` are through.

    ``changed`` is when, in UTC; ``where`` is the directory that holds what is sent or received.  ``state``: ``running``
    if a process has it in hand, ``waiting`` if that is a receiver whose sender is not connected; ``cut`` if none has;
    ``dropped`` if the command removed it.  What ``send --queue`` left to the agent is ``queued`` while it waits for its
    turn, ``asking`` until its peer's user agrees, ``paused`` by a person, ``failed`` until one resumes it, and
    ``done``, which only the agent says; ``why`` is the last trouble, why a receiver is ``waiting`` or seems slow, and
    of what is ``cut`` that a later one of the same name has arrived.  ``place`` counts from 1, by ``priority`` and age,
    in lists of what is queued; elsewhere it is 0.
    """

    event: ClassVar[str] = "job"
    job: str
    direction: Literal["send", "receive"]
    peer: str
    names: tuple[str, ...]
    bytes: int
    total: int
    where: str
    changed: str
    state: JobState
    priority: int = 0
    why: str = ""
    place: int = 0


class QueuedOne(Struct, frozen=True):
    """The end of ``send --queue``: kept as ``job``, and sent to ``peer`` by an agent; ``attended``: one runs."""

    event: ClassVar[str] = "queued"
    job: str
    peer: str
    names: tuple[str, ...]
    attended: bool


class Agent(Struct, frozen=True):
    """From ``agent status``, before services and transfers; ``observed`` is empty while the server does not know it.

    ``trouble``: why it does not; ``again_s``: seconds to the next try, null during one.  ``inbox`` has the contacts'
    folders, but for ``folders`` elsewhere.  ``closed``: services that nobody can reach, and why; ``left_out``:
    who cannot reach one that others can, and why.  ``queued`` wait for their peers, ``paused`` and ``failed`` for a
    person; ``sent`` and ``received`` are through since it started.
    """

    event: ClassVar[str] = "agent"
    pid: int
    up_s: float
    name: str
    id: str
    server: str
    observed: str
    receives: bool
    transfers: int
    queued: int
    services: int
    inbox: str = ""
    folders: int = 0
    trouble: str = ""
    again_s: float | None = None
    closed: tuple[str, ...] = ()
    paused: int = 0
    failed: int = 0
    sent: int = 0
    received: int = 0
    left_out: tuple[str, ...] = ()
