"""First contact: two peers prove to each other that they know the same one-time code.

Sans I/O: frames go in, frames and a verdict come out. The frames travel inside a TLS 1.3 connection whose
certificates nobody vouches for yet; the run binds both public keys, both names and the connection's exporter value
to the words of the code (CPace, see `p2pxfer.core.contact.cpace`).

    initiator (enters the code)                     responder (showed the code)
      PAIR1    slot (4 bytes), share Ya (32)  --->    takes the code from its book: it is burned now
               checks Tb                      <---    PAIR2    share Yb (32), tag Tb (64)
      CONFIRM  tag Ta (64)                    --->    checks Ta

Laws:

- Both sides end in CONFIRMED only if words, names by role, public keys by role and session id are equal.
- The responder confirms first; the initiator sends its tag only after checking the responder's.
- One run tests one guess. The book hands a code out once and forgets it before the outcome is known, so neither a
  failure nor a lost connection leaves a code that can be tried again.
- An end state is final.
- Every failure that depends on the words, the keys or the points is the same `WrongCode`; one of a slot that is not
  open reads otherwise, but the same whether it ever was.  A frame of a wrong length or at a wrong time is a
  `FrameError` or a `ProtocolBreach`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final, TypeVar

from msgspec import Struct

from p2pxfer.core.contact import cpace
from p2pxfer.core.contact.codes import Code
from p2pxfer.errors import FrameError, P2pxferError, ProtocolBreach, WrongCode

SID_BYTES: Final = 32
SCALAR_BYTES: Final = cpace.FIELD_BYTES

_CHANNEL: Final = b"p2pxfer-pair-1"
_SLOT_BYTES: Final = 4
_PAIR1_BYTES: Final = _SLOT_BYTES + cpace.FIELD_BYTES
_PAIR2_BYTES: Final = cpace.FIELD_BYTES + cpace.TAG_BYTES

_T = TypeVar("_T")


@unique
class Role(Enum):
    """Who entered the code (initiator) and who showed it (responder)."""

    INITIATOR = "initiator"
    RESPONDER = "responder"

    @property
    def other(self) -> Role:
        """The role of the other side."""
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR


@unique
class PairFrame(Enum):
    """The frames of a run."""

    PAIR1 = "PAIR1"
    PAIR2 = "PAIR2"
    CONFIRM = "CONFIRM"


@unique
class State(Enum):
    """Where a run stands; the last two are final."""

    READY = "ready"
    AWAIT_PAIR1 = "await PAIR1"
    AWAIT_PAIR2 = "await PAIR2"
    AWAIT_CONFIRM = "await CONFIRM"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Party(Struct, frozen=True):
    """One end of a run: its name and its public key (SPKI DER, or the SHA-256 of it, the same on both sides)."""

    name: str
    spki: bytes


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run is bound to, seen from one side.

    `sid` is 32 bytes of the TLS exporter, `scalar` 32 secret random bytes made for this run alone. Raises
    `ValueError` for other lengths.
    """

    own: Party
    peer: Party
    sid: bytes
    scalar: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.sid) != SID_BYTES or len(self.scalar) != SCALAR_BYTES:
            raise ValueError("the session id and the scalar are 32 bytes each")


class OutFrame(Struct, frozen=True):
    """A frame to send to the other side."""

    kind: PairFrame
    body: bytes


class Pairing:
    """One run on one connection. Make it with `initiator` or `responder`."""

    def __init__(self, role: Role, setting: Setting, take: Callable[[int], str], slot: int) -> None:
        self._role = role
        self._own = setting.own
        self._peer = setting.peer
        self._sid = setting.sid
        self._scalar = setting.scalar
        self._take = take
        self._slot = slot
        self._share = b""
        self._expected_tag = b""
        self._burned = False
        self._failure: P2pxferError | None = None
        self._state = State.READY if role is Role.INITIATOR else State.AWAIT_PAIR1

    @classmethod
    def initiator(cls, code: Code, setting: Setting) -> Pairing:
        """The side whose user entered `code`; call `start` next."""
        return cls(Role.INITIATOR, setting, lambda _slot: code.secret, code.slot)

    @classmethod
    def responder(cls, take: Callable[[int], str], setting: Setting) -> Pairing:
        """The side that showed a code; `take(slot)` gives its words once and raises `WrongCode` if there is none.

        With a `p2pxfer.core.contact.codebook.CodeBook` that is `lambda slot: book.take(slot, clock.seconds())`.
        """
        return cls(Role.RESPONDER, setting, take, 0)

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self._state

    @property
    def failure(self) -> P2pxferError | None:
        """Why the run failed, if it did."""
        return self._failure

    @property
    def burned(self) -> bool:
        """Whether the code is spent: once the other side can have tested a guess, and after any failure that
        the other side caused. A responder that never learned which code was meant has burned none."""
        return self._burned

    def start(self) -> tuple[OutFrame, ...]:
        """The initiator's first frame. Raises `WrongCode` if the peer shows this side's own key, `RuntimeError`
        if called at another time."""
        if self._state is not State.READY:
            raise RuntimeError(f"start() in state {self._state.value}")
        try:
            self._open(self._take(self._slot))
        except WrongCode as error:
            self._fail(error)
            raise
        self._state = State.AWAIT_PAIR2
        return (OutFrame(PairFrame.PAIR1, self._slot.to_bytes(_SLOT_BYTES, "big") + self._share),)

    def receive(self, kind: PairFrame, body: bytes) -> tuple[OutFrame, ...]:
        """Takes a frame, returns the frames to send. Raises `WrongCode` or `ProtocolBreach`.

        After an error nothing but an error report may be sent. A frame in an end state raises and changes nothing.
        """
        step = _STEPS.get((self._state, kind))
        try:
            if step is None:
                raise ProtocolBreach(f"{kind.value} came in state {self._state.value!r}")
            return step(self, body)
        except P2pxferError as error:
            self._fail(error)
            raise

    def lost(self) -> WrongCode | None:
        """The connection ended or the deadline passed.

        Returns the error to report if the code is spent by that, and None if the run had ended before or if the
        code was not touched.
        """
        if self._state in _END_STATES:
            return None
        error = WrongCode(cpace.WRONG_CODE_TEXT) if self._burned else None
        self._end(State.FAILED, error)
        return error

    def _on_pair1(self, body: bytes) -> tuple[OutFrame, ...]:
        if len(body) < _SLOT_BYTES:
            raise FrameError(f"PAIR1 has {len(body)} bytes")
        words = self._take(int.from_bytes(body[:_SLOT_BYTES], "big"))
        self._burned = True
        if len(body) != _PAIR1_BYTES:
            raise FrameError(f"PAIR1 has {len(body)} bytes")
        self._open(words)
        own_tag, self._expected_tag = self._tags(body[_SLOT_BYTES:])
        self._state = State.AWAIT_CONFIRM
        return (OutFrame(PairFrame.PAIR2, self._share + own_tag),)

    def _on_pair2(self, body: bytes) -> tuple[OutFrame, ...]:
        self._burned = True
        if len(body) != _PAIR2_BYTES:
            raise FrameError(f"PAIR2 has {len(body)} bytes")
        own_tag, self._expected_tag = self._tags(body[: cpace.FIELD_BYTES])
        self._check_tag(body[cpace.FIELD_BYTES :])
        self._end(State.CONFIRMED, None)
        return (OutFrame(PairFrame.CONFIRM, own_tag),)

    def _on_confirm(self, body: bytes) -> tuple[OutFrame, ...]:
        self._check_tag(body)
        self._end(State.CONFIRMED, None)
        return ()

    def _check_tag(self, tag: bytes) -> None:
        if not hmac.compare_digest(tag, self._expected_tag):
            raise WrongCode(cpace.WRONG_CODE_TEXT)

    def _open(self, words: str) -> None:
        """Computes the own share. A peer with this side's own key is a mirror, not a peer."""
        if hmac.compare_digest(self._own.spki, self._peer.spki):
            raise WrongCode(cpace.WRONG_CODE_TEXT)
        secret = words.encode("utf-8", "surrogatepass")
        self._share = cpace.public_share(secret, self._channel(), self._sid, self._scalar)

    def _channel(self) -> bytes:
        """The channel identifier: both names, the initiator's first (draft section 10.1.1)."""
        names = self._in_order(self._own.name, self._peer.name)
        return cpace.lv_cat(_CHANNEL, *(name.encode("utf-8", "surrogatepass") for name in names))

    def _tags(self, peer_share: bytes) -> tuple[bytes, bytes]:
        """The tag to send and the tag to expect."""
        own = (self._share, _associated_data(self._role, self._own))
        peer = (peer_share, _associated_data(self._role.other, self._peer))
        first, second = self._in_order(own, peer)
        transcript = cpace.transcript_ir(*first, *second)
        isk = cpace.session_key(self._sid, self._scalar, peer_share, transcript)
        key = cpace.mac_key(self._sid, isk)
        return cpace.confirmation_tag(key, *own), cpace.confirmation_tag(key, *peer)

    def _in_order(self, own: _T, peer: _T) -> tuple[_T, _T]:
        """The initiator's value, then the responder's."""
        return (own, peer) if self._role is Role.INITIATOR else (peer, own)

    def _fail(self, error: P2pxferError) -> None:
        if self._state in _END_STATES:
            return
        if self._role is Role.INITIATOR:
            self._burned = True
        self._end(State.FAILED, error)

    def _end(self, state: State, error: P2pxferError | None) -> None:
        self._state = state
        self._failure = error
        self._scalar = self._expected_tag = b""


_END_STATES: Final = frozenset({State.CONFIRMED, State.FAILED})

_STEPS: Final[dict[tuple[State, PairFrame], Callable[[Pairing, bytes], tuple[OutFrame, ...]]]] = {
    (State.AWAIT_PAIR1, PairFrame.PAIR1): Pairing._on_pair1,
    (State.AWAIT_PAIR2, PairFrame.PAIR2): Pairing._on_pair2,
    (State.AWAIT_CONFIRM, PairFrame.CONFIRM): Pairing._on_confirm,
}


def _associated_data(role: Role, party: Party) -> bytes:
    """Role and key of a party. The role keeps the two tags apart even where keys and shares are equal."""
    return cpace.lv_cat(b"i" if role is Role.INITIATOR else b"r", party.spki)
