"""CPace against the published vectors of the draft, and its own laws."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.contact import cpace
from p2pxfer.errors import WrongCode

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "cpace-x25519-sha512.json").read_text("utf-8")
)
RUNS = [
    {key: value if key == "name" else bytes.fromhex(value) for key, value in run.items()} for run in VECTORS["runs"]
]
POINTS = VECTORS["scalar_mult_vfy"]["points"]
SCALAR = bytes.fromhex(VECTORS["scalar_mult_vfy"]["s"])
each_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run["name"]).split()[0])
each_point = pytest.mark.parametrize("point", POINTS, ids=lambda point: point["name"])

scalars = st.binary(min_size=32, max_size=32)


def test_vectors_are_complete() -> None:
    assert len(RUNS) == 2
    assert [point["name"] for point in POINTS] == [f"u{digit:x}" for digit in range(12)]


def test_prepend_len_vectors() -> None:
    for vector in VECTORS["prepend_len"]:
        if "in" in vector:
            assert cpace.prepend_len(bytes.fromhex(vector["in"])).hex() == vector["out"]
        else:
            data = bytes(range(vector["in_range"]))
            assert cpace.prepend_len(data) == bytes.fromhex(vector["out_head"]) + data


def test_prepend_len_of_three_length_bytes() -> None:
    assert cpace.prepend_len(bytes(0x4000))[:3] == b"\x80\x80\x01"


def test_lv_cat_vector() -> None:
    parts = [bytes.fromhex(part) for part in VECTORS["lv_cat"]["in"]]
    assert cpace.lv_cat(*parts).hex() == VECTORS["lv_cat"]["out"]


def test_transcript_vectors() -> None:
    for vector in VECTORS["transcript_ir"]:
        ya, ada, yb, adb = (bytes.fromhex(part) for part in vector["in"])
        assert cpace.transcript_ir(ya, ada, yb, adb).hex() == vector["out"]


@each_run
def test_generator_vectors(run: dict[str, bytes]) -> None:
    text = cpace.generator_string(run["PRS"], run["CI"], run["sid"])
    assert text == run["generator_string"]
    assert hashlib.sha512(text).digest()[:32] == run["generator_hash"]
    assert cpace.map_to_curve(run["generator_hash"]) == run["g"]
    assert cpace.calculate_generator(run["PRS"], run["CI"], run["sid"]) == run["g"]


@each_run
def test_share_vectors(run: dict[str, bytes]) -> None:
    for scalar, share in ((run["ya"], run["Ya"]), (run["yb"], run["Yb"])):
        assert cpace.public_share(run["PRS"], run["CI"], run["sid"], scalar) == share


@each_run
def test_secret_point_vectors(run: dict[str, bytes]) -> None:
    assert cpace.scalar_mult_vfy(run["ya"], run["Yb"]) == run["K"]
    assert cpace.scalar_mult_vfy(run["yb"], run["Ya"]) == run["K"]


@each_run
def test_session_key_vectors(run: dict[str, bytes]) -> None:
    transcript = cpace.transcript_ir(run["Ya"], run["ADa"], run["Yb"], run["ADb"])
    assert transcript == run["transcript_ir"]
    assert cpace.session_key(run["sid"], run["ya"], run["Yb"], transcript) == run["ISK_IR"]
    assert cpace.session_key(run["sid"], run["yb"], run["Ya"], transcript) == run["ISK_IR"]


@each_point
def test_low_order_point_vectors(point: dict[str, str]) -> None:
    assert cpace.scalar_mult_vfy(SCALAR, bytes.fromhex(point["u"])).hex() == point["q"]


@each_point
def test_low_order_points_abort(point: dict[str, str]) -> None:
    share = bytes.fromhex(point["u"])
    if point["q"] == cpace.NEUTRAL.hex():
        with pytest.raises(WrongCode):
            cpace.session_key(bytes(32), SCALAR, share, b"")
    else:
        assert len(cpace.session_key(bytes(32), SCALAR, share, b"")) == 64


def test_seven_points_abort() -> None:
    aborting = [point["name"] for point in POINTS if point["q"] == cpace.NEUTRAL.hex()]
    assert aborting == ["u0", "u1", "u2", "u3", "u4", "u5", "u7"]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_share_of_wrong_length_is_a_wrong_code(size: int) -> None:
    with pytest.raises(WrongCode):
        cpace.session_key(bytes(32), SCALAR, bytes(size), b"")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_own_scalar_of_wrong_length_is_a_caller_error(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        cpace.public_share(b"words", b"channel", bytes(32), bytes(size))


@given(st.binary(min_size=32, max_size=32))
def test_the_map_reaches_the_curve(field_element: bytes) -> None:
    p, a = 2**255 - 19, 486662
    u = int.from_bytes(cpace.map_to_curve(field_element), "little")
    assert u < p
    assert pow(u**3 + a * u**2 + u, (p - 1) // 2, p) == (u != 0)
    without_top_bit = field_element[:31] + bytes([field_element[31] & 0x7F])
    assert cpace.map_to_curve(without_top_bit) == u.to_bytes(32, "little")


@given(st.binary(max_size=200), st.binary(max_size=40), st.binary(max_size=40))
def test_generator_string_hides_the_length_of_short_secrets(prs: bytes, ci: bytes, sid: bytes) -> None:
    text = cpace.generator_string(prs, ci, sid)
    assert text.endswith(cpace.lv_cat(ci, sid))
    if len(prs) <= 117:
        assert len(text) == 128 + len(cpace.lv_cat(ci, sid))


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.binary(max_size=300), max_size=5))
def test_lv_cat_is_injective(left: list[bytes], right: list[bytes]) -> None:
    assert (cpace.lv_cat(*left) == cpace.lv_cat(*right)) is (left == right)


@given(scalars, scalars, st.binary(max_size=20), st.binary(max_size=20))
def test_two_sides_agree_exactly_on_equal_secrets(
    initiator_scalar: bytes, responder_scalar: bytes, left: bytes, right: bytes
) -> None:
    sid = bytes(range(32))
    ya = cpace.public_share(left, b"channel", sid, initiator_scalar)
    yb = cpace.public_share(right, b"channel", sid, responder_scalar)
    transcript = cpace.transcript_ir(ya, b"a", yb, b"b")
    key_a = cpace.session_key(sid, initiator_scalar, yb, transcript)
    key_b = cpace.session_key(sid, responder_scalar, ya, transcript)
    assert (key_a == key_b) is (left == right)


def test_tags_differ_by_message_and_key() -> None:
    key = cpace.mac_key(bytes(32), bytes(64))
    tags = {
        cpace.confirmation_tag(key, b"share", b"i"),
        cpace.confirmation_tag(key, b"share", b"r"),
        cpace.confirmation_tag(key, b"sharei", b""),
        cpace.confirmation_tag(cpace.mac_key(bytes(31) + b"\x01", bytes(64)), b"share", b"i"),
    }
    assert len(tags) == 4
    assert {len(tag) for tag in tags} == {cpace.TAG_BYTES}


def test_the_key_and_tag_are_those_of_the_draft() -> None:
    # Written out with hashlib alone: HMAC as RFC 2104 defines it, over the lengths and values in turn.
    sid, isk, share, label = bytes(range(32)), bytes(range(64)), bytes(range(32, 64)), b"label"
    key = hashlib.sha512(b"CPaceMac" + sid + isk).digest()
    assert cpace.mac_key(sid, isk) == key
    inner = bytes(byte ^ 0x36 for byte in key.ljust(128, b"\0"))
    outer = bytes(byte ^ 0x5C for byte in key.ljust(128, b"\0"))
    message = b"\x20" + share + b"\x05" + label
    expected = hashlib.sha512(outer + hashlib.sha512(inner + message).digest()).digest()
    assert cpace.confirmation_tag(key, share, label) == expected
