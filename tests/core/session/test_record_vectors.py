"""The vectors of sealed records in `tests/vectors/records.json`, and the constants that `docs/protocol.rst` repeats.

Another implementation can be tested with the same file.  After a deliberate change of the protocol write it anew with

    python -m tests.core.session.test_record_vectors
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from p2pxfer.core.session import records
from p2pxfer.core.session.recordblocks import Intake
from p2pxfer.core.session.records import (
    KEY_RECORDS,
    MAX_RECORD,
    OVERHEAD,
    SUITES,
    Direction,
    Opener,
    Sealer,
    exporter_context,
)
from p2pxfer.core.session.wire import PEER, Problem

ROOT = Path(__file__).parents[3]
FILE_OF_VECTORS = ROOT / "tests" / "vectors" / "records.json"
SECRET = bytes(range(0x40, 0x60))
TRANSCRIPT = bytes(range(0x80, 0xA0))
TEXTS = {
    0: b"the first",
    1: b"another",
    KEY_RECORDS - 1: b"the last under this key",
    KEY_RECORDS: b"the first one of the next",
}
FAREWELL = PEER.encode(Problem(word="E_STOPPED", message="the sender was stopped"))
DIRECTIONS: tuple[Direction, ...] = ("initiator", "responder")


def suite_vector(name: str) -> dict[str, Any]:
    """Some records of a stream, in which every other one holds one zero, and its end."""
    sealer = Sealer(SECRET, SUITES[name])
    memory = memoryview(bytearray(100))
    rows = []
    for number in range(KEY_RECORDS + 1):
        text = TEXTS.get(number, b"\0")
        size = sealer.seal(text, memory)
        if number in TEXTS:
            rows.append({"number": number, "plaintext": text.hex(), "sealed": bytes(memory[:size]).hex()})
    size = sealer.seal_last(memory)
    rows.append({"number": KEY_RECORDS + 1, "last": True, "sealed": bytes(memory[:size]).hex()})
    other = Sealer(SECRET, SUITES[name])
    words = memory[: other.seal_last(memory, FAREWELL)]
    alone = {"number": 0, "plaintext": FAREWELL.hex(), "last": True, "sealed": bytes(words).hex()}
    return {"suite": name, "secret": SECRET.hex(), "records": rows, "farewell": alone}


def everything() -> dict[str, Any]:
    return {
        "exporter_label": records.EXPORTER_LABEL.decode(),
        "transcript": TRANSCRIPT.hex(),
        "exporter_context": {role: exporter_context(TRANSCRIPT, role).hex() for role in DIRECTIONS},
        "records_under_one_key": KEY_RECORDS,
        "suites": [suite_vector(name) for name in SUITES],
    }


VECTORS: dict[str, Any] = (
    json.loads(FILE_OF_VECTORS.read_text(encoding="utf-8")) if FILE_OF_VECTORS.exists() else everything()
)
EACH_SUITE = [pytest.param(row, id=row["suite"]) for row in VECTORS["suites"]]


def test_the_file_is_what_the_code_makes() -> None:
    assert json.loads(FILE_OF_VECTORS.read_text(encoding="utf-8")) == everything()


@pytest.mark.parametrize("row", EACH_SUITE)
def test_the_records_open(row: dict[str, Any]) -> None:
    suite = SUITES[row["suite"]]
    sealer, opener = Sealer(bytes.fromhex(row["secret"]), suite), Opener(bytes.fromhex(row["secret"]), suite)
    known = {each["number"]: each for each in row["records"]}
    between = memoryview(bytearray(1 + OVERHEAD))
    for number in range(KEY_RECORDS + 2):
        text = bytes.fromhex(known[number].get("plaintext", "")) if number in known else b"\0"
        memory = memoryview(bytearray(len(text)))
        if number in known:
            record = memoryview(bytes.fromhex(known[number]["sealed"]))
            if text:
                sealer.seal(text, memoryview(bytearray(len(record))))
        else:
            record = between[: sealer.seal(text, between)]
        opener.open(record, memory)
        assert memory == text
    assert opener.finished


@pytest.mark.parametrize("row", EACH_SUITE)
def test_the_farewell_is_apart_from_the_stream(row: dict[str, Any]) -> None:
    intake = Intake(
        Opener(bytes.fromhex(row["secret"]), SUITES[row["suite"]]), bytes.fromhex(row["farewell"]["sealed"])
    )
    assert intake.open(memoryview(bytearray(100))) == 0
    assert intake.finished and intake.last_words == bytes.fromhex(row["farewell"]["plaintext"]) == FAREWELL


def expand(secret: bytes, purpose: bytes, size: int) -> bytes:
    """One block of HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    return hmac.digest(secret, b"p2pxfer 1 record " + purpose + b"\x01", "sha256")[:size]


@pytest.mark.parametrize("row", EACH_SUITE)
def test_the_records_by_hand(row: dict[str, Any]) -> None:
    """With HMAC and the plain ciphers alone, as the specification has it."""
    ciphers: dict[str, tuple[type[AESGCM | ChaCha20Poly1305], int]] = {
        "TLS_AES_128_GCM_SHA256": (AESGCM, 16),
        "TLS_AES_256_GCM_SHA384": (AESGCM, 32),
        "TLS_CHACHA20_POLY1305_SHA256": (ChaCha20Poly1305, 32),
    }
    cipher, key_size = ciphers[row["suite"]]
    for each in [*row["records"], row["farewell"]]:
        secret, number = bytes.fromhex(row["secret"]), each["number"]
        while number >= VECTORS["records_under_one_key"]:
            secret, number = expand(secret, b"next", 32), number - VECTORS["records_under_one_key"]
        nonce = int.from_bytes(expand(secret, b"iv", 12)) ^ number
        text = bytes.fromhex(each.get("plaintext", ""))
        header = bytes([each.get("last", False)]) + len(text).to_bytes(3)
        sealed = cipher(expand(secret, b"key", key_size)).encrypt(nonce.to_bytes(12), text, header)
        assert (header + sealed).hex() == each["sealed"]


def test_the_context_of_the_exporter() -> None:
    transcript = bytes.fromhex(VECTORS["transcript"])
    assert VECTORS["exporter_context"] == {
        "initiator": (transcript + b"i").hex(),
        "responder": (transcript + b"r").hex(),
    }


def test_the_specification_has_the_same_numbers() -> None:
    text = (ROOT / "docs" / "protocol.rst").read_text(encoding="utf-8").partition("Sealed records\n====")[2]
    for literal in (
        records.EXPORTER_LABEL.decode(),
        f"1 to {MAX_RECORD}",
        f"0 to {records.MAX_LAST}",
        f"{KEY_RECORDS} records",
        *SUITES,
    ):
        assert literal in text, literal


if __name__ == "__main__":
    FILE_OF_VECTORS.write_text(json.dumps(everything(), indent=1) + "\n", encoding="utf-8")
