"""What commands and an agent say to each other on its socket: one JSON object a line, one question and one answer.

Whoever asks writes one line and reads one; both sides refuse a longer line than they must take.  Nothing here is for
other machines or other users, so there is one version: that of the program, and what is not understood is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.errors import ProtocolBreach
from p2pxfer.inventory import Agent, JobListed
from p2pxfer.status import Exposed

MAX_QUESTION: Final = 1024
"""Longest line of whoever asks, bytes."""
MAX_ANSWER: Final = 1024 * 1024
"""Longest line of an agent, bytes."""
MAX_TRANSFERS: Final = 64
"""Most transfers that an answer describes; it counts all, and describes fewer where the line would be too long."""
MAX_LEFT_OUT: Final = 64
"""Most lines about people whom services leave out."""
MAX_NAMES: Final = 5
"""Most names of one of them."""


class Doorbell(Struct, frozen=True, tag_field="ask", tag="doorbell"):
    """The files of the queue were changed: look at them."""


class StatusWanted(Struct, frozen=True, tag_field="ask", tag="status"):
    """What is going on?"""


class EndWanted(Struct, frozen=True, tag_field="ask", tag="end"):
    """End in good order; whoever asks waits for the end of the process, which a closed connection does not show."""


Question = Doorbell | StatusWanted | EndWanted


class Looking(Struct, frozen=True, tag_field="answer", tag="looking"):
    """The agent looks at the queue now."""


class Status(Struct, frozen=True, tag_field="answer", tag="status"):
    """What is going on: the agent itself, the services that are reachable, the transfers under way."""

    agent: Agent
    services: tuple[Exposed, ...] = ()
    transfers: tuple[JobListed, ...] = ()


def status_that_fits(agent: Agent, services: tuple[Exposed, ...], transfers: Sequence[JobListed]) -> Status:
    """What is going on, in a line that whoever asked takes: fewer names, and transfers, where there are too many."""
    shown = tuple(replace(job, names=job.names[:MAX_NAMES]) for job in transfers[:MAX_TRANSFERS])
    while shown and len(encode_line(Status(agent, services, shown))) > MAX_ANSWER:
        shown = shown[: len(shown) // 2]
    return Status(agent, services, shown)


class Declined(Struct, frozen=True, tag_field="answer", tag="declined"):
    """The question was not understood, or may not be asked."""

    why: str


class Ending(Struct, frozen=True, tag_field="answer", tag="ending"):
    """The agent, process ``pid``, ends now."""

    pid: int


Answer = Looking | Status | Ending | Declined
_QUESTIONS: Final[msgspec.json.Decoder[Question]] = msgspec.json.Decoder(Question)
_ANSWERS: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)
_Message = TypeVar("_Message")


def encode_line(message: Question | Answer) -> bytes:
    """A message as a line, with its end."""
    return msgspec.json.encode(message) + b"\n"


def decode_question(line: bytes) -> Question:
    """The question in a line, without its end.

    Raises:
        ProtocolBreach: it is none.
    """
    return _decode(line, _QUESTIONS)


def decode_answer(line: bytes) -> Answer:
    """The answer in a line, without its end.

    Raises:
        ProtocolBreach: it is none.
    """
    return _decode(line, _ANSWERS)


def _decode(line: bytes, decoder: msgspec.json.Decoder[_Message]) -> _Message:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolBreach("the other side of the agent's socket speaks another language") from error
