"""The vectors of the protocol in `tests/vectors/protocol.json`, and the tables of `docs` that repeat the code.

Another implementation can be tested with the same file; `docs/protocol.rst` says what each part means.  In it `hex:`
begins a string of octets.  After a deliberate change of the protocol write the file anew with

    python -m tests.core.test_vectors

and look at the difference: what was accepted before and is not any more needs another version number.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2pxfer.core import messages
from p2pxfer.core.codec import Catalogue, Message
from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.pairing import PairFrame, Pairing, Party, Setting
from p2pxfer.core.framing import Frame, FrameDecoder
from p2pxfer.core.ids import PeerId, parse_id
from p2pxfer.core.messages import ALPN_PEER, ALPN_SERVER, SERVER, VERSION, Role
from p2pxfer.core.ownnames import waiting_name
from p2pxfer.core.session import channelwire, deltawire, leftwire, restwire, transferwire, wire
from p2pxfer.core.session.bundlewire import BUNDLE_KIND, Bundle, bundle_prefix, decode_bundle
from p2pxfer.core.session.channelwire import PIECE_KIND, Piece, decode_piece, piece_prefix
from p2pxfer.core.session.deltawire import LITERAL, PATCH_KIND, decode_patch, patch_prefix
from p2pxfer.core.session.hello import EXPORTER_LABEL, Greeting, Terms
from p2pxfer.core.session.restwire import REST_KIND, Rest, decode_rest, rest_prefix
from p2pxfer.core.session.transferwire import DATA_KIND, Chunk, chunk_prefix, decode_chunk
from p2pxfer.core.session.wire import HELLO_CAPS, PEER, SESSION_CAPS
from p2pxfer.core.transfer.delta import average_block
from p2pxfer.core.transfer.geometry import (
    LEFT_OUT,
    chunk_count,
    chunk_size,
    chunk_span,
    claim_digest,
    file_root,
    transfer_root,
)
from p2pxfer.core.transfer.manifest import DIRECTORY, FILE, LINK, Entry, Kind, Manifest
from p2pxfer.errors import FrameError
from p2pxfer.net.transfer.cutting import blocks

ROOT = Path(__file__).parent.parent.parent
FILE_OF_VECTORS = ROOT / "tests" / "vectors" / "protocol.json"
CATALOGUES: dict[str, Catalogue[Message]] = {"server": SERVER, "peer": PEER}
DATA_FRAMES: dict[int, Callable[[Frame], object]] = {
    DATA_KIND: decode_chunk,
    PIECE_KIND: decode_piece,
    PATCH_KIND: decode_patch,
    BUNDLE_KIND: decode_bundle,
    REST_KIND: decode_rest,
}
"""Kinds whose body is not a map, and who reads it."""
PLACES: dict[str, dict[int, int]] = {
    "server, first message": SERVER.caps(messages.FIRST_MESSAGES, 4096),
    "server, later": SERVER.caps(messages.CLIENT_MESSAGES),
    "peer, before HelloOk": HELLO_CAPS,
    "peer, in the session": SESSION_CAPS,
}
"""Where a frame arrives, and what is legal there."""

# -- samples: everything below is made from these ------------------------------------------------------------------


def octets(first: int, count: int = 32) -> bytes:
    return bytes((first + number) % 256 for number in range(count))


NAT = messages.NatSummary(mapping="endpoint-independent", ports="preserving", simultaneous="no")
SEQUENTIAL = messages.NatSummary(mapping="port-dependent", ports="sequential", step=-2, latest=40008)
SERVER_SAMPLES: list[Message] = [
    messages.Register(version=1, tag=20001),
    messages.Register(version=1, tag=20001, name="bob", lan=["192.168.7.2:20001", "[fd00::2]:20001"], path="direct"),
    messages.Register(version=1, tag=20001, name="pair-12345", by_key=False),
    messages.Observe(version=1, tag=20001),
    messages.Introduce(to="bob", tag=20002),
    messages.Introduce(to=str(PeerId(octets(1))), tag=20002, path="relay"),
    messages.JoinRelay(version=1, token=octets(64)),
    messages.Ping(),
    messages.Report(nat=messages.NatSummary()),
    messages.Report(nat=SEQUENTIAL, session=octets(32)),
    messages.DialBack(token=octets(5, 16)),
    messages.Cross(),
    messages.CrossNow(),
    messages.Outcome(session=octets(32), way="walk", result="3s"),
    messages.Announce(),
    messages.Announce(mapped=["198.18.0.2:40000"], session=octets(32)),
    messages.Registered(id=octets(1), observed="198.18.0.2:20001"),
    messages.Registered(
        id=octets(1), observed="[2001:2::1]:20001", name="bob", observers=["198.18.0.1:8878"], ping_s=30
    ),
    messages.Observed(tag=20001, observed="198.18.0.2:31007"),
    messages.Introduction(session=octets(32), initiator=True, peer_id=octets(1)),
    messages.Introduction(
        session=octets(32),
        initiator=False,
        peer_id=octets(2),
        responder_name="bob",
        observed=["198.18.0.3:20002"],
        lan=["10.0.0.3:20002"],
        mapped=["198.18.0.3:40000"],
        relay_token=octets(64),
        dial=False,
        my_nat=NAT,
        peer_nat=messages.NatSummary(mapping="port-dependent", ports="changed"),
        round_trip_ms=84,
        order=["walk", "single"],
    ),
    messages.RelayReady(),
    messages.RelayReady(limit=10_000_000_000),
    messages.Pong(),
    messages.Failure(word="E_PEER_GONE", message="this peer is not here now"),
    messages.Failure(word="E_RATE", message="too many messages", fatal=True),
    messages.DialledBack(),
    messages.DialledBack(same_address="connected", other_address="silent", unopened="icmp"),
    messages.CrossAt(),
    messages.CrossAt(port=40123),
    messages.Crossed(),
    messages.Crossed(outcome="answered"),
    messages.PeerReturned(session=octets(32)),
    messages.PeerMapped(session=octets(32), mapped=["198.18.0.3:40000", "198.18.0.3:40001"]),
    messages.PeerNat(session=octets(32), nat=SEQUENTIAL),
    messages.PeerNat(session=octets(32), observed=["198.18.0.3:20002", "[2001:2::3]:20002"]),
    messages.PeerNat(
        session=octets(32), nat=messages.NatSummary(mapping="address-dependent", ports="block", low=32768, high=33023)
    ),
    messages.PeerNat(
        session=octets(32),
        nat=messages.NatSummary(mapping="connection-dependent", ports="random", low=1024, high=65535),
    ),
]
PEER_SAMPLES: list[Message] = [
    wire.Hello(
        version=1,
        introduction=octets(32),
        role="initiator",
        path="direct",
        my_name="alice",
        your_name="bob",
        my_key=octets(1),
        your_key=octets(2),
        random=octets(96),
    ),
    wire.HelloOk(mac=octets(128)),
    wire.Nominate(),
    wire.Ping(number=4294967295),
    wire.Pong(number=0),
    wire.Problem(word="E_STATE", message="not legal now"),
    wire.Problem(word="E_CHUNK", message="does not match its hash"),
    wire.Problem(word="E_SOURCE_CHANGED", message="a.bin changed while it was being sent", ends=True),
    wire.Bye(),
    wire.Widen(number=1, ports=[20111, 40222]),
    wire.Widen(number=2),
    wire.Widened(number=2, ports=[20333]),
    wire.Check(),
    channelwire.Compare(),
    wire.Checked(),
    wire.Checked(filtering="port-dependent", hairpin="no", plan="withheld", against="many dials were made here lately"),
    wire.Pair1(body=octets(0, 36)),
    wire.Pair2(body=octets(0, 96)),
    wire.PairConfirm(body=octets(0, 64)),
    wire.Paired(),
    wire.PairConfirm(body=octets(0, 64), compare=True),
    wire.Paired(compare=True),
    wire.SameWords(),
    transferwire.Offer(handle=1, transfer=octets(7), files=1, size=3, page=b"the whole list"),
    transferwire.Offer(
        handle=1, transfer=octets(7), files=2, size=2**63 - 1, page=b"a page", more=True, counting=True, holes=65536
    ),
    transferwire.Offer(
        handle=1, transfer=octets(7), files=1, size=3, page=b"the whole list", delta=True, instance=octets(17, 16)
    ),
    transferwire.WantPage(handle=1, page=3),
    transferwire.Page(handle=1, page=3, digest=octets(11)),
    transferwire.Page(handle=1, page=3, digest=octets(11), data=b"the page", more=True),
    transferwire.Accept(handle=1, instance=octets(16, 16)),
    transferwire.Accept(
        handle=1,
        instance=octets(16, 16),
        pages=300,
        have_bytes=2**40,
        rate=5 * 2**20,
    ),
    transferwire.Listed(handle=1, page=0),
    transferwire.Listed(
        handle=1, page=299, have=[transferwire.Have(ranges=[(0, 3), (7, 8)], digest=octets(8))], last=False
    ),
    transferwire.Tally(handle=1, files=200000, size=2**33),
    transferwire.Tally(handle=1, files=100000, size=2**32, counting=True, holes=4096),
    transferwire.Refuse(handle=1, word="E_SPACE", message="the disk is full"),
    transferwire.Ack(handle=1, chunks=[(3, 7), (9, 2**40)]),
    transferwire.Holes(handle=1, chunks=[(0, 0, 0), (1, 2, 9)]),
    restwire.Part(handle=1, file=2, index=3, hash=octets(10), size=1_048_576),
    deltawire.Older(handle=1, page=2, files=[3, 5]),
    deltawire.WantBasis(handle=1, file=3),
    deltawire.Basis(handle=1, file=3, average=8192, hashes=octets(1) + octets(64), last=False),
    deltawire.Basis(handle=1, file=3, average=8192),
    deltawire.Lack(handle=1, chunks=[(0, 3, 7)]),
    transferwire.Final(handle=1, root=octets(9)),
    transferwire.FinalAck(handle=1, root=octets(9)),
    transferwire.FinalAck(handle=1, root=octets(9), left=[3, 70000]),
    leftwire.LeftOut(handle=1, files=[3, 70000]),
    channelwire.Attach(instance=octets(16, 16)),
    channelwire.Attach(instance=octets(16, 16), peer=octets(48, 16), received=2**63 - 1),
    channelwire.Receipt(received=7),
    channelwire.Open(number=0, channel=2, service="web", credit=65536),
    channelwire.Open(number=0, channel=0, service="stream", credit=131072, about="dump.sql"),
    channelwire.Opened(number=0, channel=2, credit=4294967295),
    channelwire.Opened(number=0, channel=0, credit=131072, rate=2097152),
    channelwire.Credit(number=1, channel=2, more=32768),
    channelwire.End(number=2, channel=2),
    channelwire.End(number=2, channel=0, digest=octets(9)),
    channelwire.Reset(number=2, channel=2, word="E_DENIED", message="no such service"),
]
MANIFESTS: list[list[Entry]] = [
    [Entry("report.txt", FILE, 3, 1_700_000_000_000_000_000)],
    [
        Entry("a", DIRECTORY, 0, -1, 0o755),
        Entry("a/b.sh", FILE, 70_000, 5, 0o750),
        Entry("a/leer", FILE),
        Entry("a/zu", LINK, 0, 7, 0, "./b.sh"),
        Entry("\u00fcber", FILE, 2**40, 2**62, 0o600),
    ],
]
SIZES = [0, 1, 65_536, 65_537, 2**26, 2**26 + 1, 2**30, 2**32, 2**32 + 1, 2**40]
PAYLOAD = b"p2pxfer\n"
EXPORTED = octets(200)
CODE = "7-acorn-tulip-zebra"
REFUSED: list[tuple[str, str, bytes]] = [
    ("a length of zero", "server, first message", bytes(4)),
    ("a length over every cap", "server, first message", struct.pack(">I", 4098)),
    ("an unknown kind", "server, first message", struct.pack(">IB", 2, 99)),
    ("a kind that a client may not send", "server, first message", struct.pack(">IB", 2, 17)),
    ("an empty body", "server, later", struct.pack(">IB", 1, 5)),
    ("an array instead of a map", "server, later", struct.pack(">IB", 2, 5) + b"\x90"),
    ("bytes behind the map", "server, later", struct.pack(">IB", 3, 5) + b"\x80\x80"),
    ("a required field is missing", "server, first message", struct.pack(">IB", 2, 2) + b"\x80"),
    ("a number as a string", "server, first message", struct.pack(">IB", 17, 2) + b"\x82\xa7version\xa11\xa3tag\x01"),
    ("a value out of bounds", "server, first message", struct.pack(">IB", 16, 2) + b"\x82\xa7version\x00\xa3tag\x01"),
    ("a token of 31 octets", "server, first message", b""),
    ("an offer before HelloOk", "peer, before HelloOk", struct.pack(">IB", 2, 32)),
    ("a chunk without payload", "peer, in the session", struct.pack(">IB", 45, 64) + bytes(44)),
    ("a chunk over 4 MiB", "peer, in the session", struct.pack(">IB", 4 * 2**20 + 46, 64)),
    ("a piece without payload", "peer, in the session", struct.pack(">IB", 13, 65) + bytes(12)),
    ("a piece over 128 KiB", "peer, in the session", struct.pack(">IB", 2**17 + 14, 65)),
    ("a bundle without a header", "peer, in the session", struct.pack(">IB", 10, 67) + bytes(9)),
    ("a bundle of one file", "peer, in the session", struct.pack(">IBIIH", 44, 67, 1, 2, 1) + bytes(33)),
    ("a bundle of 65 files", "peer, in the session", struct.pack(">IBIIH", 2156, 67, 1, 2, 65) + bytes(2145)),
    ("a bundle with hashes cut short", "peer, in the session", struct.pack(">IBIIH", 74, 67, 1, 2, 2) + bytes(63)),
    ("a bundle with an octet too few", "peer, in the session", struct.pack(">IBIIH", 76, 67, 1, 2, 2) + bytes(65)),
    ("a bundle over its cap", "peer, in the session", struct.pack(">IB", 10 + 64 * 32 + 131072 + 2, 67)),
    ("a rest without payload", "peer, in the session", struct.pack(">IBIII", 49, 68, 1, 2, 3) + bytes(35) + b"\x01"),
    ("a rest of a whole chunk", "peer, in the session", struct.pack(">IBIII", 50, 68, 1, 2, 3) + bytes(37)),
    ("a rest over 4 MiB", "peer, in the session", struct.pack(">IB", 4 * 2**20 + 50, 68)),
    (
        "1025 files left out",
        "peer, in the session",
        struct.pack(">IB", 1042, 56) + b"\x82\xa6handle\x01\xa5files\xdc\x04\x01" + bytes(1025),
    ),
    (
        "a service with a capital letter",
        "peer, in the session",
        struct.pack(">IB", 39, 50) + b"\x84\xa6number\x00\xa7channel\x00\xa7service\xa3Web\xa6credit\x00",
    ),
]


def short_token() -> bytes:
    body = b"\x82\xa7version\x01\xa5token\xc4\x1f" + octets(64, 31)
    return struct.pack(">IB", 1 + len(body), 4) + body


# -- plain values for JSON, and back --------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Structs as objects with every field, octets as text."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"hex:{bytes(value).hex()}"
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def from_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: from_plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [from_plain(each) for each in value]
    return bytes.fromhex(value[4:]) if isinstance(value, str) and value.startswith("hex:") else value


def one_frame(data: bytes, caps: dict[int, int]) -> Frame:
    decoder = FrameDecoder(caps)
    (frame,) = decoder.feed(data)
    assert decoder.idle
    return frame


def message_vectors(catalogue: Catalogue[Message], samples: list[Message]) -> list[dict[str, Any]]:
    return [
        {
            "type": type(sample).__name__,
            "kind": catalogue.kind_of(type(sample)),
            "fields": plain(sample),
            "frame": plain(catalogue.encode(sample)),
        }
        for sample in samples
    ]


def manifest_vector(entries: list[Entry]) -> dict[str, Any]:
    manifest = Manifest(entries)
    rows = [
        {
            "path": e.path,
            "kind": e.kind.value,
            "size": e.size,
            "mtime_ns": e.mtime_ns,
            "mode": e.mode,
            "target": e.target,
        }
        for e in manifest.entries
    ]
    return {"entries": rows, "encoded": plain(manifest.encode()), "transfer_id": plain(manifest.transfer_id)}


def chunk_vector() -> dict[str, Any]:
    digest = blake3(PAYLOAD).digest()
    frame = chunk_prefix(1, 2, 3, digest, len(PAYLOAD)) + PAYLOAD
    return {
        "handle": 1,
        "file": 2,
        "index": 3,
        "hash": plain(digest),
        "payload": plain(PAYLOAD),
        "frame": plain(frame),
    }


def piece_vector() -> dict[str, Any]:
    frame = piece_prefix(Piece(2**40, 3, PAYLOAD)) + PAYLOAD
    return {"number": 2**40, "channel": 3, "payload": plain(PAYLOAD), "frame": plain(frame)}


def patch_vector() -> dict[str, Any]:
    digest = blake3(PAYLOAD).digest()
    ops = [(7, 3, 100_000), (LITERAL, 0, len(PAYLOAD)), (2**31, 0, 1)]
    frame = patch_prefix(1, 2, 3, digest, ops) + PAYLOAD
    return {
        "handle": 1,
        "file": 2,
        "index": 3,
        "hash": plain(digest),
        "operations": [list(op) for op in ops],
        "literals": plain(PAYLOAD),
        "frame": plain(frame),
    }


def rest_vector() -> dict[str, Any]:
    digest = blake3(PAYLOAD).digest()
    return {
        "handle": 1,
        "file": 2,
        "index": 3,
        "hash": plain(digest),
        "offset": 5,
        "whole": plain(PAYLOAD),
        "frame": plain(rest_prefix(1, 2, 3, digest, 5, len(PAYLOAD) - 5) + PAYLOAD[5:]),
    }


def bundle_vector() -> dict[str, Any]:
    parts = [PAYLOAD[:1], PAYLOAD[1:3], PAYLOAD[3:]]
    hashes = b"".join(blake3(part).digest() for part in parts)
    return {
        "handle": 1,
        "file": 2,
        "sizes": [len(part) for part in parts],
        "hashes": plain(hashes),
        "payload": plain(PAYLOAD),
        "frame": plain(bundle_prefix(1, 2, hashes, len(PAYLOAD)) + PAYLOAD),
    }


def cut_vector(size: int, average: int) -> dict[str, Any]:
    """How a file is cut whose content is that many octets of BLAKE3's extended output of nothing."""
    content = blake3(b"").digest(length=size)
    cut = list(blocks(lambda at, count: content[at : at + count], size, average))
    return {
        "size": size,
        "average": average,
        "lengths": [length for length, _ in cut],
        "hashes": plain(b"".join(digest for _, digest in cut)),
    }


def root_vector() -> dict[str, Any]:
    hashes = [octets(first) for first in (10, 20, 30)]
    roots = [file_root(150_000, b"".join(hashes)), file_root(0, b"")]
    return {
        "chunk_hashes": plain(hashes),
        "file_sizes": [150_000, 0],
        "file_roots": plain(roots),
        "transfer_id": plain(octets(7)),
        "transfer_root": plain(transfer_root(octets(7), b"".join(roots))),
        "left_out": plain(LEFT_OUT),
        "transfer_root_without_the_first": plain(transfer_root(octets(7), LEFT_OUT + roots[1])),
        "claim_digest": plain(claim_digest(hashes)),
    }


def id_vector(seed: int) -> dict[str, Any]:
    key = Ed25519PrivateKey.from_private_bytes(octets(seed)).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    peer = PeerId(hashlib.sha256(spki).digest())
    return {"spki": plain(spki), "digest": plain(peer.digest), "text": str(peer)}


@dataclass(frozen=True)
class Sides:
    """A whole greeting: both sides' frames, and the context that each gave the exporter."""

    initiator_hello: bytes
    responder_hello: bytes
    responder_ok: bytes
    initiator_ok: bytes
    contexts: tuple[bytes, ...]


def service_vector(digest: bytes, service: str) -> dict[str, Any]:
    return {"digest": plain(digest), "service": service, "name": waiting_name(digest, service)}


def terms(role: Role, mine: str, peer: str | None, seed: int) -> Terms:
    keys = {"initiator": octets(1), "responder": octets(2)}
    other: Role = "responder" if role == "initiator" else "initiator"
    return Terms(role, octets(32), "direct", mine, peer, keys[role], keys[other], octets(seed))


def greet() -> Sides:
    contexts: list[bytes] = []

    def export(context: bytes) -> bytes:
        contexts.append(context)
        return EXPORTED

    alice = Greeting(terms("initiator", "alice", "bob", 96), export)
    bob = Greeting(terms("responder", "bob", None, 160), export)
    first = alice.start()
    assert bob.start() == b""
    answer = bob.receive(one_frame(first, HELLO_CAPS))
    hello_size = 4 + int.from_bytes(answer[:4], "big")
    hello, proof = answer[:hello_size], answer[hello_size:]
    assert alice.receive(one_frame(hello, HELLO_CAPS)) == b""
    last = alice.receive(one_frame(proof, HELLO_CAPS))
    assert bob.receive(one_frame(last, HELLO_CAPS)) == b""
    assert (alice.greeted, bob.greeted, alice.peer_name, bob.peer_name) == (True, True, "bob", "alice")
    return Sides(first, hello, proof, last, tuple(contexts))


def hello_vector() -> dict[str, Any]:
    sides = greet()
    return {
        "exporter_label": EXPORTER_LABEL.decode(),
        "initiator_hello": plain(sides.initiator_hello),
        "responder_hello": plain(sides.responder_hello),
        "exporter_context": plain(sides.contexts[0]),
        "exporter_key": plain(EXPORTED),
        "responder_ok": plain(sides.responder_ok),
        "initiator_ok": plain(sides.initiator_ok),
    }


def pairing_vector() -> dict[str, Any]:
    alice, bob = Party("alice", octets(1)), Party("bob", octets(2))
    code, sid = parse_code(CODE), octets(48)
    enters = Pairing.initiator(code, Setting(alice, bob, sid, octets(3)))
    shows = Pairing.responder(lambda slot: code.secret, Setting(bob, alice, sid, octets(4)))
    (pair1,) = enters.start()
    (pair2,) = shows.receive(PairFrame.PAIR1, pair1.body)
    (confirm,) = enters.receive(PairFrame.PAIR2, pair2.body)
    assert shows.receive(PairFrame.CONFIRM, confirm.body) == ()
    return {
        "code": CODE,
        "slot": code.slot,
        "secret": code.secret,
        "sid": plain(sid),
        "initiator": {"name": "alice", "key": plain(alice.spki), "scalar": plain(octets(3))},
        "responder": {"name": "bob", "key": plain(bob.spki), "scalar": plain(octets(4))},
        "pair1": plain(pair1.body),
        "pair2": plain(pair2.body),
        "confirm": plain(confirm.body),
    }


def everything() -> dict[str, Any]:
    """The content of the file."""
    return {
        "revision": VERSION,
        "alpn": {"server": ALPN_SERVER.decode(), "peer": ALPN_PEER.decode()},
        "server": message_vectors(SERVER, SERVER_SAMPLES),
        "peer": message_vectors(PEER, PEER_SAMPLES),
        "refused": [
            {"why": why, "place": place, "bytes": plain(frame or short_token()), "expect": "E_FRAME"}
            for why, place, frame in REFUSED
        ],
        "chunk": chunk_vector(),
        "piece": piece_vector(),
        "patch": patch_vector(),
        "bundle": bundle_vector(),
        "rest": rest_vector(),
        "cuts": [cut_vector(*sizes) for sizes in ((300_000, 8192), (300_000, 16384), (5000, 8192))],
        "averages": [{"size": size, "average": average_block(size)} for size in SIZES],
        "manifests": [manifest_vector(entries) for entries in MANIFESTS],
        "geometry": [{"size": s, "chunk_size": chunk_size(s), "chunks": chunk_count(s)} for s in SIZES],
        "roots": root_vector(),
        "ids": [id_vector(seed) for seed in (0, 77)],
        "services": [service_vector(octets(first), service) for first, service in ((0, "web"), (0, "ssh"), (9, "web"))],
        "hello": hello_vector(),
        "pairing": pairing_vector(),
    }


# -- tests -----------------------------------------------------------------------------------------------------------

VECTORS: dict[str, Any] = (
    json.loads(FILE_OF_VECTORS.read_text(encoding="utf-8")) if FILE_OF_VECTORS.exists() else everything()
)
EACH_MESSAGE = [pytest.param(side, row, id=f"{side}-{row['type']}") for side in CATALOGUES for row in VECTORS[side]]


def test_the_file_is_what_the_code_makes() -> None:
    assert json.loads(FILE_OF_VECTORS.read_text(encoding="utf-8")) == everything()


@pytest.mark.parametrize("side", CATALOGUES)
def test_every_kind_of_message_is_there(side: str) -> None:
    assert {row["kind"] for row in VECTORS[side]} == set(CATALOGUES[side].caps())


@pytest.mark.parametrize(("side", "row"), EACH_MESSAGE)
def test_a_message_is_read_and_written(side: str, row: dict[str, Any]) -> None:
    catalogue = CATALOGUES[side]
    data = from_plain(row["frame"])
    assert data[:5] == struct.pack(">IB", len(data) - 4, row["kind"])
    message = catalogue.decode(one_frame(data, catalogue.caps()))
    assert type(message).__name__ == row["type"]
    assert plain(message) == row["fields"]
    written = catalogue.encode(msgspec.convert(from_plain(row["fields"]), type=type(message)))
    assert catalogue.decode(one_frame(written, catalogue.caps())) == message


@pytest.mark.parametrize(("side", "row"), EACH_MESSAGE)
def test_written_out_defaults_and_unknown_fields_change_nothing(side: str, row: dict[str, Any]) -> None:
    """A body of another implementation: other order of fields, defaults present, one field of a later version."""
    body = {"x_later": [1, {"a": None}], **dict(reversed(from_plain(row["fields"]).items()))}
    message = CATALOGUES[side].decode(Frame(row["kind"], msgspec.msgpack.encode(body)))
    assert plain(message) == row["fields"]


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["why"])
def test_what_is_refused(row: dict[str, Any]) -> None:
    catalogue = CATALOGUES[row["place"].partition(",")[0]]
    with pytest.raises(FrameError) as caught:
        for frame in FrameDecoder(PLACES[row["place"]]).feed(from_plain(row["bytes"])):
            DATA_FRAMES.get(frame.kind, catalogue.decode)(frame)
    assert caught.value.word == row["expect"]


def test_chunk() -> None:
    row = from_plain(VECTORS["chunk"])
    chunk = decode_chunk(one_frame(row["frame"], SESSION_CAPS))
    assert chunk == Chunk(row["handle"], row["file"], row["index"], row["hash"], memoryview(row["payload"]))
    assert row["hash"] == blake3(row["payload"]).digest()
    head = struct.pack(">IBIII", 45 + len(row["payload"]), 64, row["handle"], row["file"], row["index"])
    assert row["frame"] == head + row["hash"] + row["payload"]


def test_bundle() -> None:
    row = from_plain(VECTORS["bundle"])
    bundle = decode_bundle(one_frame(row["frame"], SESSION_CAPS))
    assert bundle == Bundle(row["handle"], row["file"], row["hashes"], memoryview(row["payload"]))
    assert bundle.count == len(row["sizes"])
    at = 0
    for size, digest in zip(row["sizes"], bundle.digests(), strict=True):
        assert digest == blake3(row["payload"][at : at + size]).digest()
        at += size
    assert at == len(row["payload"])
    body = struct.pack(">IIH", row["handle"], row["file"], bundle.count) + row["hashes"] + row["payload"]
    assert row["frame"] == struct.pack(">IB", 1 + len(body), 67) + body


def test_rest() -> None:
    row = from_plain(VECTORS["rest"])
    rest = decode_rest(one_frame(row["frame"], SESSION_CAPS))
    assert rest == Rest(1, 2, 3, row["hash"], row["offset"], memoryview(row["whole"])[row["offset"] :])
    assert (rest.length, row["hash"]) == (len(row["whole"]), blake3(row["whole"]).digest())
    body = struct.pack(">III", 1, 2, 3) + row["hash"] + struct.pack(">I", 5) + row["whole"][5:]
    assert row["frame"] == struct.pack(">IB", 1 + len(body), 68) + body


def test_piece() -> None:
    row = from_plain(VECTORS["piece"])
    assert decode_piece(one_frame(row["frame"], SESSION_CAPS)) == Piece(row["number"], row["channel"], row["payload"])
    head = struct.pack(">IBQI", 13 + len(row["payload"]), 65, row["number"], row["channel"])
    assert row["frame"] == head + row["payload"]


def test_patch() -> None:
    row = from_plain(VECTORS["patch"])
    patch = decode_patch(one_frame(row["frame"], SESSION_CAPS))
    ops = tuple(map(tuple, row["operations"]))
    assert (patch.handle, patch.file, patch.index, patch.hash) == (1, 2, 3, row["hash"])
    assert (patch.ops, bytes(patch.literals)) == (ops, row["literals"])
    body = struct.pack(">III", 1, 2, 3) + row["hash"] + struct.pack(">I", len(ops))
    body += b"".join(struct.pack(">III", *op) for op in ops) + row["literals"]
    assert row["frame"] == struct.pack(">IB", 1 + len(body), 66) + body


@pytest.mark.parametrize("row", VECTORS["cuts"], ids=lambda row: f"{row['size']}-{row['average']}")
def test_cuts(row: dict[str, Any]) -> None:
    content = blake3(b"").digest(length=row["size"])
    found = list(blocks(lambda at, count: content[at : at + count], row["size"], row["average"]))
    assert [length for length, _ in found] == row["lengths"]
    assert sum(row["lengths"]) == row["size"]
    assert b"".join(digest for _, digest in found) == from_plain(row["hashes"])


@pytest.mark.parametrize("row", VECTORS["averages"], ids=lambda row: str(row["size"]))
def test_averages(row: dict[str, Any]) -> None:
    assert average_block(row["size"]) == row["average"]


@pytest.mark.parametrize("row", VECTORS["manifests"])
def test_manifest(row: dict[str, Any]) -> None:
    encoded = from_plain(row["encoded"])
    entries = [Entry(**{**each, "kind": Kind(each["kind"])}) for each in row["entries"]]
    assert list(Manifest.decode(encoded).entries) == entries
    assert Manifest(entries).encode() == encoded
    assert hashlib.sha256(encoded).digest() == from_plain(row["transfer_id"])


@pytest.mark.parametrize("row", VECTORS["geometry"], ids=lambda row: str(row["size"]))
def test_geometry(row: dict[str, Any]) -> None:
    size, count = row["size"], row["chunks"]
    assert (chunk_size(size), chunk_count(size)) == (row["chunk_size"], count)
    if count:
        offset, length = chunk_span(size, count - 1)
        assert (offset, offset + length) == ((count - 1) * row["chunk_size"], size)


def test_roots() -> None:
    """With BLAKE3 alone, as the specification has it."""
    row = from_plain(VECTORS["roots"])
    hashes = b"".join(row["chunk_hashes"])
    contents = [hashes, b""]
    for size, below, root in zip(row["file_sizes"], contents, row["file_roots"], strict=True):
        folded = blake3(struct.pack(">Q", size) + below, derive_key_context="p2pxfer 1 file root")
        assert folded.digest() == root
    head = row["transfer_id"] + struct.pack(">I", len(row["file_roots"]))
    folded = blake3(head + b"".join(row["file_roots"]), derive_key_context="p2pxfer 1 transfer root")
    assert folded.digest() == row["transfer_root"]
    assert row["left_out"] == blake3(b"", derive_key_context="p2pxfer 1 file left out").digest()
    folded = blake3(head + row["left_out"] + row["file_roots"][1], derive_key_context="p2pxfer 1 transfer root")
    assert folded.digest() == row["transfer_root_without_the_first"]
    assert blake3(hashes, derive_key_context="p2pxfer 1 claimed chunks").digest() == row["claim_digest"]


@pytest.mark.parametrize("row", VECTORS["ids"], ids=lambda row: row["text"][:13])
def test_id(row: dict[str, Any]) -> None:
    digest = hashlib.sha256(from_plain(row["spki"])).digest()
    assert digest == from_plain(row["digest"])
    assert parse_id(row["text"]).digest == digest
    body = row["text"].removeprefix("p2px1-").replace("-", "")
    without_checks = "".join(body[at : at + 13] for at in range(0, 56, 14))
    assert without_checks == b32encode(digest).decode().rstrip("=").lower()


@pytest.mark.parametrize("row", VECTORS["services"], ids=lambda row: row["name"][:13])
def test_service(row: dict[str, Any]) -> None:
    digest = hashlib.sha256(b"p2pxfer service\0" + from_plain(row["digest"]) + row["service"].encode()).digest()
    assert row["name"] == "svc-" + b32encode(digest).decode().lower()[:28]


def test_hello() -> None:
    """The context and both proofs with SHA-256 and HMAC alone, as the specification has it."""
    row = from_plain(VECTORS["hello"])
    context = hashlib.sha256(row["initiator_hello"] + row["responder_hello"]).digest()
    assert greet().contexts == (context, context)
    assert row["exporter_context"] == context
    for role in ("initiator", "responder"):
        proof = PEER.decode(one_frame(row[f"{role}_ok"], HELLO_CAPS))
        assert proof == wire.HelloOk(hmac.digest(row["exporter_key"], f"ok {role}".encode(), "sha256"))


# -- the tables of the documents -------------------------------------------------------------------------------------


def rows_of(document: str, pattern: str) -> set[tuple[str, ...]]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return {tuple(found) for found in re.findall(pattern, text, re.MULTILINE)}


@pytest.mark.parametrize("side", CATALOGUES)
def test_the_specification_lists_every_message_with_its_fields(side: str) -> None:
    section = (ROOT / "docs" / "protocol.rst").read_text(encoding="utf-8").partition(f".. _{side}-messages:")[2]
    table = section.partition(".. end of table")[0]
    found = {(int(kind), name) for kind, name in re.findall(r"^   \* - (\d+)\n     - ``(\w+)``", table, re.MULTILINE)}
    mapless = {(DATA_KIND, "Chunk"), (PIECE_KIND, "Piece"), (PATCH_KIND, "Patch"), (BUNDLE_KIND, "Bundle")}
    mapless.add((REST_KIND, "Rest"))
    assert found == {(row["kind"], row["type"]) for row in VECTORS[side]} | (mapless if side == "peer" else set())
    for row in VECTORS[side]:
        mine = table.partition(f"``{row['type']}``")[2].partition("\n   * - ")[0]
        assert set(re.findall(r"\*(\w+)\*", mine)) == set(row["fields"]), row["type"]


def test_what_the_documents_cite_exists() -> None:
    """Tests by name, and files by path."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    names = set(re.findall(r"def (test_\w+)", "".join(sources))) | {p.stem for p in (ROOT / "tests").rglob("*.py")}
    for document in [ROOT / "README.rst", *(ROOT / "docs").glob("*.rst")]:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"\b(test_\w+)", text)) <= names, document.name
        for path in re.findall(r"\b(?:p2pxfer|tests|scripts|docs)/(?!1\b)[\w/.-]*\w", text):
            assert (ROOT / path).exists(), f"{document.name}: {path}"
        for layer, module in re.findall(r"``(core|net|cli)/(\w+)``", text):
            assert (ROOT / "p2pxfer" / layer / f"{module}.py").exists(), f"{document.name}: {layer}/{module}"


if __name__ == "__main__":
    FILE_OF_VECTORS.write_text(json.dumps(everything(), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
