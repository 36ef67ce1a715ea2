"""The matrix of NAT pairs without its lab: figures, tables, what is run and what is not run again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.matrixlib import __main__ as matrix
from scripts.matrixlib import attempts, meeter, page
from scripts.matrixlib.homes import DEFAULT_HOMES, HOMES, NEIGHBOURS, lab_of, pairs, promised
from scripts.matrixlib.promises import findings
from scripts.matrixlib.results import FIELDS, Attempt, Case, Cell, Store, percentile, summarize
from scripts.product import Loopback, Program, ProgramError, free_ports
from tests.lab.namespaces import LabError

PAIR = ("none", "symmetric")
CASE = Case(*PAIR)
BOTH = Case("symmetric", "symmetric")
PROGRAMS = Case(*PAIR, "programs")
HEAD = ",".join(FIELDS)


def connected(ms: float, sender: int = 1, receiver: int = 1, case: Case = CASE) -> Attempt:
    return Attempt(case, ms, ms / 2, (sender, receiver))


def failed(reason: str, case: Case = CASE) -> Attempt:
    return Attempt(case, None, None, (28, 7), reason)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.9, 1), (2, 0.9, 2), (3, 0.9, 3), (10, 0.9, 9), (11, 0.9, 10), (20, 0.9, 18), (20, 0.5, 10), (5, 1, 5)],
)
def test_a_percentile_is_the_value_at_the_nearest_rank(count: int, share: float, expected: int) -> None:
    assert percentile(range(count, 0, -1), share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no such percentile"):
        percentile([], 0.9)
    with pytest.raises(ValueError, match="no such percentile"):
        percentile([1.0], 0)


def test_default_homes_exist_and_every_pair_of_them_is_there_once_and_makes_a_lab() -> None:
    assert set(DEFAULT_HOMES) <= {*HOMES, *NEIGHBOURS}
    homes = len(DEFAULT_HOMES) - len(NEIGHBOURS)
    assert len(pairs(DEFAULT_HOMES)) == homes * (homes + 1) // 2 + len(NEIGHBOURS)
    assert not set(HOMES) & set(NEIGHBOURS)
    for pair in pairs(DEFAULT_HOMES):
        lab_of(Case(*pair))
    assert pairs(["none", "symmetric"]) == [("none", "none"), PAIR, ("symmetric", "symmetric")]


@pytest.mark.parametrize(
    ("one", "other", "runs"),
    [
        ("none", "symmetric", 100),
        ("full-cone", "port-restricted/no-simo", 100),
        ("mapped", "symmetric", 100),
        ("v6-firewall", "v6-open", 100),
        ("port-restricted/rst", "carrier", 100),
        ("v6-firewall", "symmetric", 50),
        ("firewall", "sequential/busy", 50),
        ("port-restricted", "port-restricted/no-simo", 50),
        ("web-only/full-cone", "port-restricted", 50),
        ("one-nat", "one-nat", 50),
    ],
)
def test_more_runs_where_none_may_fail(one: str, other: str, runs: int) -> None:
    assert promised((one, other)) == runs
    if one != other:
        assert promised((other, one)) == runs


def test_times_are_those_of_connected_runs_and_syns_those_of_all() -> None:
    attempts = [connected(100), connected(300), connected(200), failed("why"), failed("other", Case("none", "none"))]
    attempts += [connected(7, case=PROGRAMS), connected(8, case=Case(*PAIR, rtt_ms=80))]
    cell = summarize(CASE, attempts)
    assert (cell.runs, cell.connected, cell.median_ms, cell.p90_ms) == (4, 3, 200, 300)
    assert (cell.tcp_median_ms, cell.tcp_p90_ms) == (100, 150)
    assert cell.syns == (1.0, 1.0)
    assert cell.reasons == ("why",)


def test_a_pair_that_never_connects_has_no_times_and_its_reasons_in_order() -> None:
    nobody = Attempt(CASE, None, None, None, "no lab")
    cell = summarize(CASE, [failed("rare"), failed("usual"), failed("usual"), nobody])
    assert (cell.runs, cell.connected, cell.median_ms, cell.p90_ms, cell.tcp_median_ms) == (4, 0, None, None, None)
    assert cell.syns == (28.0, 7.0)
    assert cell.reasons == ("usual", "no lab", "rare")
    assert summarize(CASE, [nobody]).syns is None


def test_results_in_a_file_are_read_again(tmp_path: Path) -> None:
    first = Store(tmp_path / "results")
    written = [
        connected(12.6),
        failed("why"),
        Attempt(CASE, None, None, None, "no lab"),
        Attempt(CASE, 1, None, (0, 1)),
    ]
    for each in [*written, connected(7, case=PROGRAMS)]:
        first.add(each)
    assert Store(tmp_path / "results").of(CASE) == written
    assert Store(tmp_path / "results").of(BOTH) == []
    assert Store(tmp_path / "results").cases == [CASE, PROGRAMS]
    lines = (tmp_path / "results").read_text().splitlines()
    assert lines[:2] == [HEAD, "none,symmetric,meetings,40,12.6,6.3,1,1,"]
    assert Store(None).of(CASE) == []


@pytest.mark.parametrize(
    "line",
    ["x", "a,b,meetings,40,c,1,1,1,", "a,b,meetings,40,1,1,1,x,", "a,b,meetings,40,1,1,1,1", "a,b,walks,40,1,1,1,1,"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "results"
    Store(file).add(connected(1))
    with file.open("a") as out:
        out.write(line + "\n")
    with pytest.raises(ValueError, match="line 3: not a result"):
        Store(file)
    file.write_text(line + "\n")
    with pytest.raises(ValueError, match="line 1: not a result"):
        Store(file)


def test_only_missing_runs_are_run_and_each_row_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.add(connected(100))
    chosen = [(Case(*pair), 9) for pair in pairs(PAIR)]
    ran: list[Case] = []
    said: list[str] = []

    def runs(case: Case) -> Iterator[Attempt]:
        while True:
            ran.append(case)
            yield Attempt(case, None, None, (2, 3), "no way")

    matrix.measure(chosen, store, runs, said.append, threading.Event())
    # A pair that never connected is given up.
    assert {case: ran.count(case) for case, _ in chosen} == {
        Case("none", "none"): matrix.GIVEN_UP_AFTER,
        CASE: 8,
        BOTH: matrix.GIVEN_UP_AFTER,
    }
    assert "2/3  none + symmetric: 1 of 9  50  100  100  2 + 3  --  no way" in said
    again = Store(tmp_path / "results")
    assert len(again.of(CASE)) == 9
    matrix.measure(chosen, again, runs, said.append, threading.Event())
    assert len(ran) == 8 + 2 * matrix.GIVEN_UP_AFTER


def test_the_pairs_of_which_most_is_promised_come_first() -> None:
    options = matrix.parse(["--kinds", "symmetric", "port-restricted", "--rtt", "80", "--way", "programs"])
    assert matrix.cases(options) == [
        (Case("port-restricted", "port-restricted", "programs", 80), 100),
        (Case("symmetric", "symmetric", "programs", 80), 50),
        (Case("symmetric", "port-restricted", "programs", 80), 50),
    ]
    options.runs = 3
    assert {runs for _, runs in matrix.cases(options)} == {3}


def test_an_interrupted_matrix_begins_no_further_run_and_forgets_what_was_under_way(tmp_path: Path) -> None:
    stop = threading.Event()
    store = Store(None)

    def runs(case: Case) -> Iterator[Attempt]:
        while True:
            stop.set()
            yield connected(1)

    matrix.measure([(CASE, 9)], store, runs, lambda text: None, stop)
    assert store.of(CASE) == []


def test_reasons_are_lettered_once_each() -> None:
    cells = [Cell(CASE, 1, 0, None, None, None, None, None, (), (f"reason {n}", "again")) for n in range(60)]
    letters = page.name_reasons(cells)
    assert (letters["reason 0"], letters["again"], letters["reason 1"]) == ("a", "b", "c")
    assert (letters["reason 25"], letters["reason 51"]) == ("aa", "ba")
    assert len(set(letters.values())) == 61


def test_the_page(tmp_path: Path) -> None:
    far = Case("none", "none", rtt_ms=80)
    cells = [
        summarize(CASE, [connected(100.4), connected(250), failed("`no` *way*")]),
        summarize(PROGRAMS, [connected(180, case=PROGRAMS)] * 3),
        summarize(BOTH, [failed("none at all", BOTH)] * 3),
        summarize(far, [connected(360, case=far)] * 20),
    ]
    text = page.render(cells, "data.csv", 3)
    words = " ".join(text.split())
    assert "``data.csv``" in text
    assert "the first 3 runs failed" in words
    assert "2 pairs: 0 connected in every run, 1 in some, 1 in none; 6 runs, of which 2 connected." in words
    assert "1 pairs were run in both ways, and of 1 both say the same: it connects" in words
    assert "at random of 64512" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "none", "--", "2/3"] in rows
    assert ["2", "symmetric", "2/3", "0/3"] in rows
    assert ["none", "symmetric", "2", "of", "3", "88", "175", "250", "1", "+", "1", "3/3", "180", "a"] in rows
    assert ["symmetric", "symmetric", "0", "of", "3", "--", "--", "--", "28", "+", "7", "--", "b"] in rows
    assert ["none", "none", "20", "of", "20", "180", "180", "360", "360"] in rows
    assert "260 ms, and an authenticated path within 4.5 round trips + 0.3 s, 660 ms." in words
    assert r"    \`no\` \*way\*" in text.splitlines()
    assert max(map(len, text.splitlines())) <= 120


def cell(one: str, other: str, times: list[float], runs: int) -> Cell:
    case = Case(one, other)
    return summarize(case, [connected(ms, case=case) for ms in times] + [failed("why", case)] * (runs - len(times)))


@pytest.mark.parametrize(
    ("one", "other", "times", "runs", "kept"),
    [
        ("none", "symmetric", [100.0] * 100, 100, True),
        ("none", "symmetric", [100.0] * 99, 100, False),
        ("port-restricted/rst", "address-restricted", [9000.0] * 5, 5, True),
        ("sequential", "port-restricted", [100.0] * 49, 50, False),
        ("sequential/busy", "sequential", [100.0] * 48, 50, True),
        ("sequential/busy", "sequential", [100.0] * 47, 50, False),
        ("block-512", "firewall", [2000.0] * 50, 50, True),
        ("firewall", "block-512", [2001.0] * 50, 50, False),
        ("symmetric", "port-restricted", [3500.0] * 47 + [8001.0] * 3, 50, True),
        ("symmetric", "port-restricted", [3500.0] * 46 + [8001.0] * 4, 50, False),
        ("symmetric", "port-restricted", [3501.0] * 50, 50, False),
        ("port-restricted/no-simo", "port-restricted", [1.0] * 50, 50, True),
        ("port-restricted/no-simo", "port-restricted", [], 50, False),
    ],
)
def test_a_promise_is_kept_or_not(one: str, other: str, times: list[float], runs: int, kept: bool) -> None:
    found = [each for each in findings([cell(one, other, times, runs)]) if each.pairs]
    assert {(each.pairs, each.fewest) for each in found} == {(1, runs)}
    assert {pair for each in found for pair in each.broken} == (set() if kept else {(one, other)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("port-restricted/no-simo", "port-restricted/no-simo"),
        ("symmetric", "symmetric"),
        ("web-only", "none"),
        ("one-nat", "one-nat"),
        ("carrier", "block-64"),
    ],
)
def test_of_some_pairs_less_is_promised_or_nothing(one: str, other: str) -> None:
    kept = [each.promise.words for each in findings([cell(one, other, [], 3)]) if each.pairs]
    assert kept == (
        ["every run of a NAT that draws from a block and a cone, the median within 2 s"] if one == "carrier" else []
    )


def test_a_pair_of_which_programs_say_something_else_is_named() -> None:
    cells = [summarize(CASE, [connected(1), failed("no"), failed("no")])]
    cells.append(summarize(PROGRAMS, [connected(180, case=PROGRAMS)] * 3))
    words = " ".join(page.render(cells, "data.csv", 3).split())
    assert "of 0 both say the same: it connects in most runs, or it does not; not of ``none + symmetric``." in words


def test_a_pair_that_was_run_with_programs_only_is_there_with_their_figures() -> None:
    rows = [
        line.split() for line in page.render([summarize(PROGRAMS, [connected(180, case=PROGRAMS)])], "", 3).split("\n")
    ]
    assert ["1", "none", "--", "1/1"] in rows
    assert ["none", "symmetric", "1", "of", "1", "90", "180", "180", "1", "+", "1", "1/1", "180", "--"] in rows


def test_the_columns_of_a_table_are_as_wide_as_their_widest_text() -> None:
    lines = page.simple_table([["", "kind"], ["1", "none"]]).splitlines()
    assert lines == ["==  ====", "\\   kind", "==  ====", "1   none", "==  ===="]


def test_options(tmp_path: Path) -> None:
    options = matrix.parse([])
    assert (tuple(options.kinds), options.runs, options.fresh) == (DEFAULT_HOMES, None, False)
    assert (options.out.name, options.data.name) == ("traversal-matrix.rst", "traversal-matrix.csv")
    options = matrix.parse(["--kinds", "none", "symmetric", "none", "--runs", "3", "--out", str(tmp_path / "x")])
    assert (options.kinds, options.runs) == (["none", "symmetric"], 3)


@pytest.mark.parametrize(
    "words",
    [
        "--kinds round",
        "--runs 0",
        "--runs x",
        "--rtt -1",
        "--way x",
        "--out /nowhere/at/all",
        "--data /nowhere/at/all",
        "--kinds",
    ],
)
def test_wrong_options(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        matrix.parse(words.split())
    assert "usage: scripts/matrix" in capsys.readouterr().err


def test_results_that_cannot_be_read_end_it_before_anything_is_run(tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("x\n")
    assert matrix.main(["--out", str(tmp_path / "page"), "--data", str(file)]) == 2
    assert not (tmp_path / "page").exists()


def test_a_lab_that_cannot_be_built_is_a_failed_run_and_the_next_one_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise LabError("nft said no\nfor a reason")

    monkeypatch.setattr(attempts, "built", refuse)
    runs = attempts.attempts(CASE)
    assert [next(runs), next(runs)] == [Attempt(CASE, None, None, None, "nft said no")] * 2


def test_a_meeting_that_fails_ends_nothing_but_itself(tmp_path: Path) -> None:
    """There is no server, and each meeting says so; the program that makes them stays, and knows when it is asked."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", meeter.__name__, f"127.0.0.1:{port}", str(tmp_path), "alice"]
    program = Program(Loopback(), "alice", argv, tmp_path / "log", cwd=attempts.ROOT, commanded=True)
    with program:
        program.wait_for("ready")
        attempts.end(program)
        for number in range(2):
            program.tell(f"meet {number}")
            with pytest.raises(ProgramError, match="the server at"):
                attempts.nominated(program)
            attempts.end(program)
        program.tell("dance")
        with pytest.raises(attempts.Stuck, match="not now: 'dance"):
            attempts.end(program)


def test_a_reason_is_the_first_line_of_an_error() -> None:
    assert attempts.reason(OSError("first\n  second")) == "first"
    assert attempts.reason(OSError("a plan (137 SYNs from here); nothing")) == "a plan; nothing"
    assert attempts.reason(TimeoutError()) == "TimeoutError"


def test_the_page_in_the_documentation_is_made_from_the_runs_beside_it() -> None:
    """Nobody edits it by hand."""
    store = Store(matrix.DATA)
    assert len(store.cases) > 150
    assert matrix.PAGE.read_text() == matrix.page(store, matrix.DATA)
