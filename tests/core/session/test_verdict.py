"""What is said of a pair of NATs and of what came of it: a table of clear cases, and the laws over all pairs."""

from __future__ import annotations

import itertools
from typing import Final, get_args

import pytest

from p2pxfer.core.messages import NatSummary
from p2pxfer.core.session.verdict import Side, Verdict, judge, no_direct_path, should_meet
from p2pxfer.core.session.wire import PlanState
from p2pxfer.reasons import Change, Reason, Where
from p2pxfer.status import PathKind

DEPENDENT: Final = "port-dependent"
NATS = {
    "unseen": NatSummary(),
    "unmapped": NatSummary(ports="preserving"),
    "none": NatSummary("none", "preserving"),
    "cone": NatSummary("endpoint-independent", "preserving"),
    "strict": NatSummary("endpoint-independent", "preserving", simultaneous="no"),
    "moved": NatSummary("endpoint-independent", "changed"),
    "kept": NatSummary("address-dependent", "preserving"),
    "counter": NatSummary(DEPENDENT, "sequential", 1, 40_000),
    "random": NatSummary(DEPENDENT, "random", low=1024, high=65535),
    "block": NatSummary(DEPENDENT, "block", low=40960, high=41215),
    "offset": NatSummary(DEPENDENT, "offset"),
    "changed": NatSummary(DEPENDENT, "changed"),
}
PATHS: list[PathKind | None] = [None, "relay", "lan", "direct", "punched", "mapped", "ipv6"]
PLANS: tuple[PlanState, ...] = ("none", "followed", "withheld")


def said(one: str, other: str, path: PathKind | None, *plans: PlanState) -> tuple[Reason, Where, Change, Where]:
    """The verdict on two NATs by their names, ``plans`` as far as they are not ``none``."""
    states: list[PlanState] = [*plans, "none", "none"]
    here, there = (Side(NATS[name], plan=state) for name, state in zip((one, other), states, strict=False))
    verdict = judge(here, there, path, same_address=False)
    assert verdict.path == path
    return verdict.reason, verdict.where, verdict.change, verdict.at


@pytest.mark.parametrize(
    ("one", "other", "plans", "expected"),
    [
        ("cone", "moved", [], ("kept", "", "none", "")),
        ("none", "random", [], ("open", "here", "none", "")),
        ("cone", "none", [], ("open", "there", "none", "")),
        ("none", "none", [], ("open", "both", "none", "")),
        ("cone", "random", [], ("let-in", "here", "none", "")),
        ("counter", "kept", [], ("let-in", "there", "none", "")),
        ("cone", "random", ["followed", "followed"], ("searched", "", "none", "")),
        ("offset", "cone", ["followed"], ("searched", "", "none", "")),
        ("cone", "counter", ["followed"], ("predicted", "", "none", "")),
        ("counter", "counter", ["followed", "followed"], ("predicted", "", "none", "")),
        ("random", "random", [], ("met", "", "none", "")),
        ("unseen", "cone", ["followed"], ("met", "", "none", "")),
    ],
)
def test_why_a_punched_path_came(
    one: str, other: str, plans: list[PlanState], expected: tuple[Reason, Where, Change, Where]
) -> None:
    assert said(one, other, "punched", *plans) == expected


@pytest.mark.parametrize(
    ("one", "other", "plans", "expected"),
    [
        ("random", "random", [], ("both-random", "both", "map", "either")),
        ("random", "block", [], ("both-random", "both", "map", "either")),
        ("random", "changed", [], ("both-change", "both", "map", "either")),
        ("block", "block", ["followed", "followed"], ("not-found", "both", "map", "either")),
        ("offset", "offset", [], ("both-change", "both", "map", "either")),
        ("counter", "random", [], ("counted-and-random", "there", "map", "either")),
        ("block", "counter", [], ("counted-and-random", "here", "map", "either")),
        ("random", "cone", ["followed", "followed"], ("not-found", "here", "map", "there")),
        ("cone", "random", ["followed"], ("not-found", "there", "map", "here")),
        ("cone", "random", ["none", "withheld"], ("withheld", "there", "permit", "there")),
        ("cone", "random", ["withheld", "withheld"], ("withheld", "both", "permit", "both")),
        ("cone", "counter", ["followed"], ("overtaken", "there", "map", "here")),
        ("counter", "counter", ["followed"], ("overtaken", "both", "map", "either")),
        ("cone", "cone", [], ("blocked", "", "map", "either")),
        ("strict", "strict", [], ("no-crossing", "both", "map", "either")),
        ("strict", "cone", [], ("blocked", "", "map", "either")),
        ("strict", "random", ["followed"], ("not-found", "there", "map", "here")),
        ("none", "cone", [], ("closed", "here", "unblock", "here")),
        ("none", "none", [], ("closed", "both", "unblock", "both")),
        ("cone", "unseen", [], ("unmeasured", "there", "map", "here")),
        ("unseen", "unmapped", [], ("unmeasured", "both", "map", "either")),
    ],
)
def test_why_there_is_no_direct_path(
    one: str, other: str, plans: list[PlanState], expected: tuple[Reason, Where, Change, Where]
) -> None:
    assert said(one, other, "relay", *plans) == said(one, other, None, *plans) == expected


def test_the_sentence_names_what_both_nats_refuse_and_only_then() -> None:
    both = no_direct_path("bob", NATS["strict"], NATS["strict"], "")
    assert "the NAT here and the peer's both refuse simultaneous opens" in both
    for other in set(NATS) - {"strict"}:
        for text in (
            no_direct_path("bob", NATS["strict"], NATS[other], ""),
            no_direct_path("bob", NATS[other], NATS["strict"], ""),
        ):
            assert "the NAT here " in text
            assert "simultaneous" not in text


def test_who_forbids_is_named_before_anything_else() -> None:
    cone, refuses = Side(NATS["cone"]), Side(NATS["random"], pooled=True, dials=False)
    assert judge(cone, refuses, "relay", True) == Verdict("relay", "forbidden", "there", "allow", "there")
    assert judge(refuses, refuses, "relay", True) == Verdict("relay", "forbidden", "both", "allow", "both")


def test_one_outside_address_for_both_means_one_nat() -> None:
    verdict = judge(Side(NATS["cone"]), Side(NATS["cone"]), "relay", same_address=True)
    assert (verdict.reason, verdict.change) == ("same-nat", "join")


def test_pooled_addresses_matter_only_where_ports_change_too() -> None:
    pooled = Side(NATS["random"], pooled=True)
    assert judge(Side(NATS["cone"]), pooled, "relay", False) == Verdict("relay", "pooled", "there", "map", "here")
    cone = Side(NATS["cone"], pooled=True)
    assert judge(cone, Side(NATS["cone"]), "relay", False).reason == "blocked"


def swapped(where: Where) -> Where:
    exchange: dict[Where, Where] = {"here": "there", "there": "here"}
    return exchange.get(where, where)


MEASURED: dict[Reason, set[str]] = {
    "both-random": {"random", "block"},
    "both-change": {"random", "block", "offset", "changed"},
    "no-crossing": {"strict"},
    "counted-and-random": {"random", "block", "offset", "changed", "counter"},
    "kept": {"none", "cone", "strict", "moved", "kept"},
    "blocked": {"cone", "strict", "moved", "kept"},
    "closed": {"none", "cone", "strict", "moved", "kept"},
    "predicted": {"none", "cone", "strict", "moved", "kept", "counter"},
    "overtaken": {"none", "cone", "strict", "moved", "kept", "counter"},
}
"""What both NATs must be, that this reason is true."""


def test_the_laws_hold_for_all_pairs() -> None:
    """Symmetry, one piece of advice and only for who needs it, nothing claimed that was not measured."""
    reasons, changes = set(), set()
    sides = [
        (name, Side(nat, pooled, dials, plan))
        for (name, nat), pooled, dials, plan in itertools.product(NATS.items(), (False, True), (True, False), PLANS)
    ]
    for (one, here), (other, there) in itertools.product(sides, repeat=2):
        for path, same in itertools.product(PATHS, (False, True)):
            verdict = judge(here, there, path, same)
            mirror = judge(there, here, path, same)
            assert (verdict.reason, verdict.change) == (mirror.reason, mirror.change)
            assert (verdict.where, verdict.at) == (swapped(mirror.where), swapped(mirror.at))
            direct = path not in (None, "relay")
            assert (verdict.change == "none") == direct == (verdict.at == "" and verdict.change != "join")
            assert {one, other} <= MEASURED.get(verdict.reason, set(NATS)), verdict
            if {one, other} & {"unseen", "unmapped"} and not direct:
                assert verdict.reason in ("unmeasured", "forbidden", "same-nat", "pooled")
            reasons.add(verdict.reason)
            changes.add(verdict.change)
    assert reasons == set(get_args(Reason))
    assert changes == set(get_args(Change))


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (NatSummary("endpoint-independent"), NatSummary("none"), True),
        (NatSummary("endpoint-independent"), NatSummary("endpoint-independent", simultaneous="no"), True),
        (
            NatSummary("endpoint-independent", simultaneous="no"),
            NatSummary("endpoint-independent", simultaneous="no"),
            False,
        ),
        (NatSummary("port-dependent"), NatSummary("endpoint-independent"), False),
        (NatSummary("endpoint-independent"), NatSummary("unknown"), False),
    ],
)
def test_a_punch_that_failed_had_bad_luck_only_where_single_dials_meet(
    mine: NatSummary, theirs: NatSummary, expected: bool
) -> None:
    assert should_meet(mine, theirs) is should_meet(theirs, mine) is expected
