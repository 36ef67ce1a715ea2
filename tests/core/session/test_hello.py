from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.session.hello import Greeting, Terms
from p2pxfer.core.session.transferwire import Offer
from p2pxfer.core.session.wire import HELLO_CAPS, PEER, Hello
from p2pxfer.errors import FrameError, IdentityMismatch, P2pxferError, ProtocolBreach

ALICE, BOB, MALLORY = (hashlib.sha256(name).digest() for name in (b"alice", b"bob", b"mallory"))
I_TERMS = Terms(
    role="initiator",
    introduction=b"i" * 32,
    path="direct",
    my_name="alice",
    peer_name="bob",
    my_key=ALICE,
    peer_key=BOB,
    random=b"1" * 32,
)
R_TERMS = Terms(
    role="responder",
    introduction=b"i" * 32,
    path="direct",
    my_name="bob",
    peer_name=None,
    my_key=BOB,
    peer_key=ALICE,
    random=b"2" * 32,
)


def exporter(channel: bytes):  # type: ignore[no-untyped-def]  # a function of bytes to bytes
    return lambda context: hashlib.sha256(channel + context).digest()


def talk(one: Greeting, other: Greeting, piece: int = 1000) -> None:
    """Carry bytes between two greetings in pieces until neither says anything."""
    decoders = {id(one): FrameDecoder(HELLO_CAPS), id(other): FrameDecoder(HELLO_CAPS)}
    waiting = [(other, one.start()), (one, other.start())]
    while waiting:
        to, data = waiting.pop(0)
        back = b""
        for at in range(0, len(data), piece):
            for frame in decoders[id(to)].feed(data[at : at + piece]):
                back += to.receive(frame)
        if back:
            waiting.append((other if to is one else one, back))


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_two_sides_with_the_same_terms_greet(piece: int) -> None:
    one, other = Greeting(I_TERMS, exporter(b"tls")), Greeting(R_TERMS, exporter(b"tls"))
    talk(one, other, piece)
    assert one.greeted
    assert other.greeted
    assert (one.peer_name, other.peer_name) == ("bob", "alice")


@pytest.mark.parametrize(
    ("initiator", "responder"),
    [
        ({}, {"introduction": b"x" * 32}),
        ({"path": "relay"}, {}),
        ({"my_key": MALLORY}, {}),
        ({"peer_key": MALLORY}, {}),
        ({}, {"my_key": MALLORY}),
        ({}, {"my_name": "mallory"}),
        ({"peer_name": "robert"}, {}),
        ({}, {"role": "initiator", "peer_name": "alice"}),
    ],
    ids=[
        "T-N10 introduction",
        "path",
        "my key",
        "T-S1 key",
        "their key",
        "T-S3 name",
        "asked name",
        "N40 both initiate",
    ],
)
def test_different_terms_never_greet(initiator: dict[str, object], responder: dict[str, object]) -> None:
    one = Greeting(replace(I_TERMS, **initiator), exporter(b"tls"))
    other = Greeting(replace(R_TERMS, **responder), exporter(b"tls"))
    with pytest.raises((IdentityMismatch, ProtocolBreach)):
        talk(one, other)
    assert not (one.greeted and other.greeted)


def test_a_greeting_carried_over_from_another_connection_is_refused() -> None:
    """T-N10: the same keys and names, spliced between two TLS connections."""
    one, other = Greeting(I_TERMS, exporter(b"tls one")), Greeting(R_TERMS, exporter(b"tls two"))
    with pytest.raises(IdentityMismatch):
        talk(one, other)


def test_a_connection_to_oneself_is_refused() -> None:
    one = Greeting(I_TERMS, exporter(b"tls"))
    mirror = Greeting(replace(R_TERMS, my_key=ALICE, my_name="alice"), exporter(b"tls"))
    with pytest.raises(IdentityMismatch):
        talk(one, mirror)


def test_another_version_is_refused_in_words() -> None:
    one = Greeting(I_TERMS, exporter(b"tls"))
    hello = Hello(
        version=2, introduction=b"i" * 32, role="responder", path="direct", my_name="bob", your_name="alice",
        my_key=BOB, your_key=ALICE, random=b"2" * 32,
    )  # fmt: skip
    (frame,) = FrameDecoder(HELLO_CAPS).feed(PEER.encode(hello))
    with pytest.raises(ProtocolBreach, match="version 2"):
        one.receive(frame)


def test_nothing_else_is_legal_before_the_proof() -> None:
    offer = PEER.encode(Offer(handle=1, transfer=b"t" * 32, files=1, size=1, page=b"p"))
    with pytest.raises(FrameError):
        list(FrameDecoder(HELLO_CAPS).feed(offer))


@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=1, max_value=255))
def test_a_flipped_byte_anywhere_never_greets(place: int, flip: int) -> None:
    one, other = Greeting(I_TERMS, exporter(b"tls")), Greeting(R_TERMS, exporter(b"tls"))
    first = one.start()
    to_other, to_one = FrameDecoder(HELLO_CAPS), FrameDecoder(HELLO_CAPS)
    data = bytearray(first)
    data[place % len(data)] ^= flip
    try:
        answer = b"".join(other.receive(frame) for frame in to_other.feed(bytes(data)))
        proof = b"".join(one.receive(frame) for frame in to_one.feed(answer))
        for frame in to_other.feed(proof):
            other.receive(frame)
    except P2pxferError:
        pass
    assert not (one.greeted and other.greeted)
