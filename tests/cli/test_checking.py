"""What ``netcheck`` makes of what was found, and of what was not."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from p2pxfer.cli.findings import nat_found, peer_found, sides
from p2pxfer.cli.pairtext import change_sentence, pair_table, path_sentence, reason_sentence
from p2pxfer.core.messages import Introduction, NatSummary, PathPolicy
from p2pxfer.core.session.verdict import Verdict
from p2pxfer.core.session.wire import Checked
from p2pxfer.core.traversal.discovery import Inbound
from p2pxfer.net.session.peercheck import Findings
from p2pxfer.reasons import Change, Reason, Where
from p2pxfer.status import PathKind
from tests.net.traversal.natworld import TAG, Net


def test_a_server_that_was_lost_is_named_as_the_reason() -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(1)
    assert "mapping" not in nat_found(net.discovery, Inbound()).why
    net.discovery.end()
    lost = nat_found(net.discovery, Inbound())
    assert (lost.mapping, lost.ports, lost.addresses) == ("unknown", "unknown", ())
    assert lost.why["mapping"] == lost.why["ports"] == "the connection to the server was lost"


def findings(**changed: Any) -> Findings:
    """What came of a check with a peer that said all it could."""
    introduction = Introduction(
        session=bytes(32), initiator=True, peer_id=bytes(32), observed=["198.18.2.1:31000", "198.18.2.1:31001"]
    )
    known = NatSummary("port-dependent", "random", low=1024, high=65535)
    answer = Checked("port-dependent", hairpin="no", unsolicited="rst", simultaneous="yes")
    whole = Findings(introduction, "relay", 0.2, 0.04, (known, known), "none", "", answer)
    return replace(whole, **changed)


def test_what_is_known_of_the_peer() -> None:
    there = peer_found(findings())
    assert (there.side, there.mapping, there.ports, there.low, there.high) == (
        "there", "port-dependent", "random", 1024, 65535,
    )  # fmt: skip
    assert (there.filtering, there.hairpin, there.unsolicited, there.why) == ("port-dependent", "no", "rst", {})
    assert there.addresses == ("198.18.2.1",)


def test_words_of_the_peer_are_made_harmless_and_its_silence_is_named() -> None:
    evil = Checked(closed="\x1b[2J", unturned="x" * 1000)
    why = peer_found(findings(answer=evil)).why
    assert why["filtering"] == "\\x1b[2J"
    assert len(why["hairpin"]) <= 200
    assert why["unsolicited"] == "nobody says why"
    assert peer_found(findings(answer=None)).why == dict.fromkeys(
        ("filtering", "unsolicited", "simultaneous", "hairpin"), "the peer did not say"
    )


def test_an_observed_endpoint_that_is_none_is_left_out() -> None:
    introduction = replace(findings().introduction, observed=["nonsense", "198.18.2.2:40000", "198.18.2.1:40000"])
    found = findings(introduction=introduction)
    assert peer_found(found).addresses == ("198.18.2.2", "198.18.2.1")
    here = peer_found(findings())
    assert [side.pooled for side in sides("auto", found, here, peer_found(found))] == [False, True]


@pytest.mark.parametrize(
    ("policy", "dial", "allowed"),
    [("auto", True, [True, True]), ("relay", False, [False, True]), ("auto", False, [True, False])],
)
def test_who_forbids_direct_paths(policy: PathPolicy, dial: bool, allowed: list[bool]) -> None:
    found = findings(introduction=replace(findings().introduction, dial=dial))
    assert [side.dials for side in sides(policy, found, peer_found(found), peer_found(found))] == allowed


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_verdict_has_its_sentences(reason: Reason) -> None:
    """Each names the peer where it means it, and nothing is left to fill in."""
    for where, change in itertools.product(get_args(Where), get_args(Change)):
        verdict = Verdict("relay", reason, where, change, where)
        said = [reason_sentence(verdict, "bob", "ports were tried"), change_sentence(verdict, "bob")]
        for sentence in filter(None, said):
            assert "{" not in sentence
            assert sentence.endswith((".", ")."))
            assert sentence[0].isupper() or sentence.startswith("bob")
        assert "Ports were tried." in said[0]
        assert bool(said[1]) == (change != "none")


@pytest.mark.parametrize("kind", get_args(PathKind))
def test_every_path_has_its_sentence(kind: PathKind) -> None:
    assert f"({kind})" in path_sentence(kind, 0.2, 0.04, "bob")
    assert path_sentence(None, None, None, "bob") == "There is no path to bob."


def test_the_table_of_two() -> None:
    here, there = peer_found(findings(answer=None)), peer_found(findings())
    assert pair_table(here, there, "bob").splitlines() == [
        "                   here                   bob",
        "  mapping          port-dependent         port-dependent",
        "  outside ports    random, 1024 to 65535  random, 1024 to 65535",
        "  outside address  198.18.2.1             198.18.2.1",
        "  filtering        unknown                port-dependent",
        "  unasked          unknown                refused (rst)",
        "  simultaneous     unknown                yes",
        "  hairpin          unknown                no",
        "  here: filtering is unknown: the peer did not say",
        "  here: unsolicited is unknown: the peer did not say",
        "  here: simultaneous is unknown: the peer did not say",
        "  here: hairpin is unknown: the peer did not say",
    ]
