"""The peer protocol: every message between two peers on a path, and the layout of a chunk.

Transcript of one path (``>`` initiator to responder; the initiator is the TLS client whoever dialled)::

    TLS 1.3, mutual, ALPN p2pxfer-peer/1
    > Hello                               names, both keys, roles, path, introduction
    < Hello HelloOk                       the same, and proof over the TLS exporter and both Hellos
    > HelloOk                             nothing else goes before it
    > Pair1  < Pair2  > PairConfirm  < Paired    only when the responder's key is not verified yet
    > SameWords      < SameWords          where either asked in these that the users compare words
    > Nominate                            this direct path is the one to keep of its introduction
    > Widen          < Widened?           another connection beside this path, at any time in the session
    > Check          < Checked            instead of an offer: what the network is like
    > Offer          < Refuse | Accept    the first page of the file list comes with the offer
    > Page*          < Listed*            what the receiver holds of a page's files already
    > Holes* Data*   < Part* Ack*         chunks of files whose page was answered, while more pages come
    > LeftOut*                            files that cannot be read as they were listed
    > Final          < FinalAck           the same root hash at both ends
    > Bye

Byte channels have messages of their own, in :mod:`p2pxfer.core.session.channelwire`.

Every path carries this dialogue for itself over the one set of chunks that the session's paths share, so a path may
appear or die at any moment: what one dialogue left undone, the next one takes up from the set of missing chunks.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

from msgspec import Meta, Struct

from p2pxfer.core.codec import Catalogue, Message, Number, Size
from p2pxfer.core.framing import PRE_AUTH_CAP, Frame, frame_header
from p2pxfer.core.messages import Bytes16, Bytes32, Text
from p2pxfer.core.session.bundlewire import BUNDLE_CAP, BUNDLE_KIND
from p2pxfer.core.session.channelwire import MAX_PIECE, PIECE_HEADER_SIZE, PIECE_KIND, SESSION_ROWS
from p2pxfer.core.session.deltawire import DELTA_ROWS, PATCH_KIND
from p2pxfer.core.session.leftwire import LEFT_ROWS, LeftFiles
from p2pxfer.core.session.restwire import REST_HEADER_SIZE, REST_KIND, REST_ROWS
from p2pxfer.core.traversal.discovery import Filtering, Hairpin, Simultaneous, Unsolicited
from p2pxfer.errors import FrameError

MAX_CHUNK = 4 * 1024 * 1024
MAX_PAGE = 32 * 1024
"""Largest chunk, and largest page of a file list, bytes."""

PlanState = Literal["none", "followed", "withheld"]
PathClass = Literal["relay", "direct", "beside"]
"""Through the server, punched or otherwise direct, or a further connection beside a direct one."""
OuterPorts = Annotated[list[Annotated[int, Meta(ge=1024, le=65535)]], Meta(max_length=2)]
PairBody = Annotated[bytes, Meta(max_length=128)]


class Hello(Message, frozen=True):
    """Who meets whom, over what, by which introduction."""

    version: Annotated[int, Meta(ge=1, le=65535)]
    introduction: Bytes32
    role: Literal["initiator", "responder"]
    path: PathClass
    my_name: Annotated[str, Meta(max_length=64)]
    your_name: Annotated[str, Meta(max_length=64)]
    my_key: Bytes32
    your_key: Bytes32
    random: Bytes32


class HelloOk(Message, frozen=True):
    """Proof that both ends saw the same two Hellos inside the same TLS connection."""

    mac: Bytes32


class Pair1(Message, frozen=True):
    """First frame of :mod:`p2pxfer.core.contact.pairing`: slot and the initiator's share."""

    body: PairBody


class Pair2(Message, frozen=True):
    """Second frame of the pairing: the responder's share and confirmation."""

    body: PairBody


class PairConfirm(Message, frozen=True):
    """Third frame of the pairing: the initiator's confirmation; with ``compare`` its user wants words compared."""

    body: PairBody
    compare: bool = False


class Paired(Message, frozen=True):
    """The responder checked the initiator's confirmation; with ``compare`` its user wants words compared.

    Where neither does, both may store the contact now, otherwise when both have sent :class:`SameWords`.
    """

    compare: bool = False


class SameWords(Message, frozen=True):
    """The user of this side said that the words are the same."""


class Nominate(Message, frozen=True):
    """Keep this path; the other direct connections of the introduction are losers."""


class Ping(Message, frozen=True):
    """Keep-alive and round-trip probe."""

    number: Number


class Pong(Message, frozen=True):
    """The answer to the ping of that number."""

    number: Number


class Problem(Message, frozen=True):
    """The sender of this message gives up the path or, with ``fatal``, the whole session."""

    word: Annotated[str, Meta(max_length=32)]
    message: Text
    fatal: bool = True


class Bye(Message, frozen=True):
    """The initiator has what it came for."""


class Widen(Message, frozen=True):
    """The initiator wants another connection beside this path.

    With ``ports``, the responder is to dial these ports of the host at the other end from its own port of this path and
    to listen there.  Without, it takes a fresh port, says in Widened where that is found, and dials the other end.
    """

    number: Number
    ports: OuterPorts = []


class Widened(Message, frozen=True):
    """The answer to the Widen of that number without ports: those of the responder's fresh port."""

    number: Number
    ports: OuterPorts


class Check(Message, frozen=True):
    """No offer comes on this path: the two only look at the network between them."""


class Checked(Message, frozen=True):
    """What the responder's side found out: how its NAT treats what comes in, and what became of its plan of many dials.

    ``closed``, ``unturned``, ``unanswered`` and ``uncrossed`` say why what stands before each is unknown, ``against``
    why a plan was withheld.
    """

    filtering: Filtering = "unknown"
    closed: Text = ""
    hairpin: Hairpin = "unknown"
    unturned: Text = ""
    unsolicited: Unsolicited = "unknown"
    unanswered: Text = ""
    simultaneous: Simultaneous = "unknown"
    uncrossed: Text = ""
    plan: PlanState = "none"
    against: Text = ""


class Offer(Message, frozen=True):
    """A transfer with the first page of its file list; ``more`` pages follow.

    ``files``, ``size`` and ``holes`` are those of the whole list, or, while the sender is ``counting``, of what it has
    seen so far.  ``holes`` of its ``size`` bytes lie in chunks that are not sent; ``delta``: older versions are wanted.
    """

    handle: Number
    transfer: Bytes32
    files: Number
    size: Size
    page: Annotated[bytes, Meta(max_length=MAX_PAGE)]
    more: bool = False
    counting: bool = False
    holes: Size = 0
    delta: bool = False


class Tally(Message, frozen=True):
    """What :class:`Offer` said of the whole list, as the sender knows it by now."""

    handle: Number
    files: Number
    size: Size
    counting: bool = False
    holes: Size = 0


class WantPage(Message, frozen=True):
    """The receiver does not know this page: it, and all behind it, are to come with their bytes."""

    handle: Number
    page: Number


class Page(Message, frozen=True):
    """A page of the file list; without ``data`` the receiver is believed to know it.

    ``digest`` is SHA-256 of the list up to its end; ``more`` pages follow.
    """

    handle: Number
    page: Number
    digest: Bytes32
    data: Annotated[bytes, Meta(max_length=MAX_PAGE)] = b""
    more: bool = False


class Have(Message, frozen=True):
    """Chunks that the receiver holds: half-open ranges of numbers and BLAKE3 over their hashes in order."""

    ranges: Annotated[list[tuple[Size, Size]], Meta(max_length=1024)]
    digest: Bytes32


class Accept(Message, frozen=True):
    """The receiver wants the transfer and may know ``pages`` pages of its list, ``have_bytes`` of the files in these.

    ``instance`` is drawn anew by each receiving process: another one than before means that what was acknowledged
    but not in any ``Have`` is lost.  ``rate`` is the most bytes a second that it wants to get, 0 for no limit.  With
    ``older`` it tells of older versions behind each page.
    """

    handle: Number
    instance: Bytes16
    pages: Annotated[int, Meta(ge=1, le=2**32 - 1)] = 1
    have_bytes: Size = 0
    rate: Size = 0
    older: bool = False


class Listed(Message, frozen=True):
    """The receiver knows this page and holds ``have`` of its files; ``last`` ends the claims of this page."""

    handle: Number
    page: Number
    have: Annotated[list[Have], Meta(max_length=256)] = []
    last: bool = True


class Refuse(Message, frozen=True):
    """The receiver does not want the transfer, or cannot take it."""

    handle: Number
    word: Annotated[str, Meta(max_length=32)]
    message: Text


class Ack(Message, frozen=True):
    """Chunks that were verified and written, by number: (first, behind last)."""

    handle: Number
    chunks: Annotated[list[tuple[Size, Size]], Meta(max_length=2048)]


class Holes(Message, frozen=True):
    """Chunks of sparse files that hold zeros and are not sent: (file, first, behind last).

    Without a chunk in it, a range says that the file is sparse.
    """

    handle: Number
    chunks: Annotated[list[tuple[Number, Number, Number]], Meta(max_length=1024)]


class Final(Message, frozen=True):
    """Every page was answered and every chunk acknowledged of what is not left out here; the sender's root hash."""

    handle: Number
    root: Bytes32


class FinalAck(Message, frozen=True):
    """Published and durable at the receiver; its root hash, and which files are left out of what was published."""

    handle: Number
    root: Bytes32
    left: LeftFiles = []


PEER: Catalogue[Message] = Catalogue(
    [
        (1, Hello), (2, HelloOk), (3, Nominate), (4, Ping), (5, Pong), (6, Problem), (7, Bye), (8, Check),
        (9, Checked), (10, Widen), (11, Widened), (16, Pair1), (17, Pair2), (18, PairConfirm), (19, Paired),
        (20, SameWords), (32, Offer), (33, WantPage), (34, Page), (35, Accept), (36, Refuse), (37, Ack), (38, Final),
        (39, FinalAck), (40, Holes), (41, Listed), (42, Tally),
        *REST_ROWS, *DELTA_ROWS, *SESSION_ROWS, *LEFT_ROWS,
    ]
)  # fmt: skip
DATA_KIND = 64
"""Kind of a chunk frame, whose body is a :class:`Chunk` header and the payload."""
_CHUNK = struct.Struct(">III32s")
CHUNK_HEADER_SIZE = _CHUNK.size

HELLO_CAPS = PEER.caps([Hello, HelloOk, Problem], PRE_AUTH_CAP)
"""Caps until the peer's HelloOk was verified."""
PAIR_CAPS = {
    **PEER.caps([Pair1, Pair2, PairConfirm, Paired, SameWords, Problem, Ping, Pong, Nominate, Bye], PRE_AUTH_CAP),
    **PEER.caps([Check], PRE_AUTH_CAP),
    **PEER.caps([Offer]),
}
"""Caps while the peer's key is not verified; Offer and Check are legal only so that they can be refused in words."""
SESSION_CAPS = {
    **PEER.caps(),
    DATA_KIND: MAX_CHUNK + CHUNK_HEADER_SIZE,
    PIECE_KIND: MAX_PIECE + PIECE_HEADER_SIZE,
    PATCH_KIND: MAX_CHUNK,
    REST_KIND: MAX_CHUNK + REST_HEADER_SIZE,
    BUNDLE_KIND: BUNDLE_CAP,
}
"""Caps afterwards."""


class Chunk(Struct, frozen=True):
    """A chunk as it travels: address, BLAKE3 hash (32 bytes), payload; ``found``: the hash of what came, if made."""

    handle: int
    file: int
    index: int
    hash: bytes
    payload: memoryview
    found: bytes | None = None


def chunk_prefix(handle: int, file: int, index: int, digest: bytes, size: int) -> bytes:
    """Frame header and chunk header for a payload of ``size`` bytes that is written behind it."""
    return frame_header(DATA_KIND, CHUNK_HEADER_SIZE + size) + _CHUNK.pack(handle, file, index, digest)


def decode_chunk(frame: Frame) -> Chunk:
    """The chunk in a frame of kind :data:`DATA_KIND`; the payload shares the frame's memory.

    Raises:
        FrameError: the frame is too short to be a chunk.
    """
    if len(frame.body) <= CHUNK_HEADER_SIZE:
        raise FrameError("a chunk without payload")
    handle, file, index, digest = _CHUNK.unpack_from(frame.body)
    return Chunk(handle, file, index, digest, memoryview(frame.body)[CHUNK_HEADER_SIZE:], frame.hash)
