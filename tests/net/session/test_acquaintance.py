"""Whose key a job's peer must have, where two paths tell of it at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from p2pxfer.core.contact.codes import parse_code
from p2pxfer.core.contact.pairing import Party
from p2pxfer.core.reported import from_peer
from p2pxfer.core.session.wire import Pair1
from p2pxfer.errors import CodeNeeded, IdentityMismatch, P2pxferError, Refused, Unreachable, WrongCode
from p2pxfer.net.session.acquaintance import Acquaintance
from p2pxfer.net.session.seeking import Target
from tests.moments import for_now

KEY, OTHER = b"k" * 32, b"o" * 32
FORGOTTEN = CodeNeeded("the peer reports: bob does not know this key")


def acquaintance(code: str | None) -> Acquaintance:
    target = Target(
        to="bob", key=KEY, name=None, alias="bob", verified="contact", code=None if code is None else parse_code(code)
    )
    nobody: Any = None
    told: list[str] = []
    return Acquaintance(
        nobody, Party("alice", OTHER), target, on_paired=nobody, met=nobody, failed=nobody, forgotten=told.append
    )


def test_a_contact_that_forgot_this_machine_says_so_on_every_path() -> None:
    peer = acquaintance("4-acid-acorn-acre")
    assert for_now(peer.key) == KEY
    assert [peer.may_prove_again(FORGOTTEN) for _ in range(2)] == [True, True]
    assert peer.key is None
    peer.key = KEY  # the code was proved
    assert not peer.may_prove_again(FORGOTTEN)


def test_without_a_code_there_is_nothing_to_prove() -> None:
    assert not acquaintance(None).may_prove_again(FORGOTTEN)
    assert not acquaintance("4-acid-acorn-acre").may_prove_again(WrongCode("no"))


def test_a_key_that_was_verified_is_the_only_one() -> None:
    peer = acquaintance("4-acid-acorn-acre")
    peer.introduced(KEY)
    with pytest.raises(IdentityMismatch):
        peer.introduced(OTHER)
    assert peer.may_prove_again(FORGOTTEN)
    with pytest.raises(IdentityMismatch):  # the code is proved to the contact's key or not at all
        peer.introduced(OTHER)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (from_peer("E_PEER_GONE", "bob can take nothing new now"), True),
        (from_peer("E_STOPPED", "the receiver was stopped"), False),
        (Unreachable("the connection was reset"), False),
    ],
)
def test_a_code_that_the_peer_did_not_answer_is_tried_again_where_it_can_do_nothing_now(
    error: P2pxferError, *, again: bool
) -> None:
    clock: Any = Clock()
    failed: list[P2pxferError] = []
    nobody: Any = None
    target = Target("bob", None, "bob", None, "code", parse_code("4-acid-acorn-acre"))
    peer = Acquaintance(
        clock, Party("alice", OTHER), target, on_paired=nobody, met=nobody, failed=failed.append, forgotten=nobody
    )
    said: list[object] = []
    paths: list[Any] = [
        SimpleNamespace(peer_key=KEY, peer_name="bob", send=said.append, export=lambda *_: bytes(32)) for _ in range(2)
    ]
    peer.prove(paths[0])
    peer.lost(paths[0], error)
    assert bool(failed) != again
    peer.prove(paths[1])
    assert [type(message) for message in said] == [Pair1, Pair1]


def test_who_wants_words_compared_is_sent_nothing_to() -> None:
    peer = acquaintance("4-acid-acorn-acre")
    failed: list[P2pxferError] = []
    peer._failed = failed.append
    path: Any = SimpleNamespace(peer_key=OTHER)
    pairing: Any = SimpleNamespace(both=object())
    peer._pairing = (path, pairing)
    peer._verdict(None)
    assert [type(error) for error in failed] == [Refused]
    assert for_now(peer.key) == KEY
