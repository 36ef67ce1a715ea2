"""The matrix of NAT pairs without its lab: figures, tables, what is run and what is not run again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.matrixlib import __main__ as matrix
from scripts.matrixlib import attempts, page
from scripts.matrixlib.homes import DEFAULT_HOMES, HOMES, NEIGHBOURS, lab_of, pairs
from scripts.matrixlib.results import FIELDS, Attempt, Cell, Pair, Store, percentile, summarize
from tests.lab.namespaces import LabError

PAIR = ("none", "symmetric")
HEAD = ",".join(FIELDS)


def connected(ms: float, sender: int = 1, receiver: int = 1) -> Attempt:
    return Attempt(*PAIR, ms, (sender, receiver))


def failed(reason: str, pair: Pair = PAIR) -> Attempt:
    return Attempt(*pair, None, (28, 7), reason)


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
    assert len(pairs(DEFAULT_HOMES)) == 17 * 18 // 2 + 5
    assert not set(HOMES) & set(NEIGHBOURS)
    for pair in pairs(DEFAULT_HOMES):
        lab_of(pair)
    assert pairs(["none", "symmetric"]) == [("none", "none"), PAIR, ("symmetric", "symmetric")]


def test_times_are_those_of_connected_runs_and_syns_those_of_all() -> None:
    attempts = [connected(100), connected(300), connected(200), failed("why"), failed("other", ("none", "none"))]
    cell = summarize(PAIR, attempts)
    assert (cell.runs, cell.connected, cell.median_ms, cell.p90_ms) == (4, 3, 200, 300)
    assert cell.syns == (1.0, 1.0)
    assert cell.reasons == ("why",)


def test_a_pair_that_never_connects_has_no_times_and_its_reasons_in_order() -> None:
    cell = summarize(PAIR, [failed("rare"), failed("usual"), failed("usual"), Attempt(*PAIR, None, None, "no lab")])
    assert (cell.runs, cell.connected, cell.median_ms, cell.p90_ms) == (4, 0, None, None)
    assert cell.syns == (28.0, 7.0)
    assert cell.reasons == ("usual", "no lab", "rare")
    assert summarize(PAIR, [Attempt(*PAIR, None, None, "no lab")]).syns is None


def test_results_in_a_file_are_read_again(tmp_path: Path) -> None:
    first = Store(tmp_path / "results")
    written = [connected(12.5), failed("why"), Attempt(*PAIR, None, None, "no lab")]
    for each in written:
        first.add(each)
    assert Store(tmp_path / "results").of(PAIR) == written
    assert Store(tmp_path / "results").of(("none", "none")) == []
    assert Store(tmp_path / "results").pairs == [PAIR]
    assert (tmp_path / "results").read_text().splitlines()[:2] == [HEAD, "none,symmetric,12.5,1,1,"]
    assert Store(None).of(PAIR) == []


@pytest.mark.parametrize("line", ["x", "a,b,c,1,1,", "a,b,1,1,x,", "a,b,1,1,1"])
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
    ran: list[Pair] = []
    said: list[str] = []

    def runs(pair: Pair) -> Iterator[Attempt]:
        while True:
            ran.append(pair)
            yield Attempt(*pair, None, (2, 3), "no way")

    matrix.measure(pairs(PAIR), 9, store, runs, said.append, threading.Event())
    # A pair that never connected is given up.
    assert {pair: ran.count(pair) for pair in pairs(PAIR)} == {
        ("none", "none"): matrix.GIVEN_UP_AFTER,
        PAIR: 8,
        ("symmetric", "symmetric"): matrix.GIVEN_UP_AFTER,
    }
    assert "2/3  none + symmetric: 1 of 9  100  100  2 + 3  no way" in said
    again = Store(tmp_path / "results")
    assert len(again.of(PAIR)) == 9
    matrix.measure(pairs(PAIR), 9, again, runs, said.append, threading.Event())
    assert len(ran) == 8 + 2 * matrix.GIVEN_UP_AFTER


def test_an_interrupted_matrix_begins_no_further_run_and_forgets_what_was_under_way(tmp_path: Path) -> None:
    stop = threading.Event()
    store = Store(None)

    def runs(pair: Pair) -> Iterator[Attempt]:
        while True:
            stop.set()
            yield connected(1)

    matrix.measure([PAIR], 9, store, runs, lambda text: None, stop)
    assert store.of(PAIR) == []


def test_reasons_are_lettered_once_each() -> None:
    cells = [Cell(*PAIR, 1, 0, None, None, None, (f"reason {n}", "again")) for n in range(60)]
    letters = page.name_reasons(cells)
    assert (letters["reason 0"], letters["again"], letters["reason 1"]) == ("a", "b", "c")
    assert (letters["reason 25"], letters["reason 51"]) == ("aa", "ba")
    assert len(set(letters.values())) == 61


def test_the_page(tmp_path: Path) -> None:
    cells = [
        summarize(PAIR, [connected(100.4), connected(250), failed("`no` *way*")]),
        summarize(("symmetric", "symmetric"), [failed("none at all", ("symmetric", "symmetric"))] * 3),
    ]
    text = page.render(cells, "data.csv", 3)
    assert "``data.csv``" in text
    assert "Runs of every pair: 3." in text
    assert "the first 3 runs failed" in " ".join(text.split())
    assert "2 pairs: 0 connected in every run, 1 in some, 1 in none." in text
    assert "at random of 64512" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "none", "--", "2/3"] in rows
    assert ["2", "symmetric", "2/3", "0/3"] in rows
    assert ["none", "symmetric", "2", "of", "3", "175", "250", "1", "+", "1", "a"] in rows
    assert ["symmetric", "symmetric", "0", "of", "3", "--", "--", "28", "+", "7", "b"] in rows
    assert r"    \`no\` \*way\*" in text.splitlines()
    assert max(map(len, text.splitlines())) <= 120


def test_the_columns_of_a_table_are_as_wide_as_their_widest_text() -> None:
    lines = page.simple_table([["", "kind"], ["1", "none"]]).splitlines()
    assert lines == ["==  ====", "\\   kind", "==  ====", "1   none", "==  ===="]


def test_options(tmp_path: Path) -> None:
    options = matrix.parse([])
    assert (tuple(options.kinds), options.runs, options.fresh) == (DEFAULT_HOMES, 20, False)
    assert (options.out.name, options.data.name) == ("traversal-matrix.rst", "traversal-matrix.csv")
    options = matrix.parse(["--kinds", "none", "symmetric", "none", "--runs", "3", "--out", str(tmp_path / "x")])
    assert (options.kinds, options.runs) == (["none", "symmetric"], 3)


@pytest.mark.parametrize(
    "words", ["--kinds round", "--runs 0", "--runs x", "--out /nowhere/at/all", "--data /nowhere/at/all", "--kinds"]
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
    runs = attempts.attempts(PAIR)
    assert [next(runs), next(runs)] == [Attempt(*PAIR, None, None, "nft said no")] * 2


def test_a_reason_is_the_first_line_of_an_error() -> None:
    assert attempts.reason(OSError("first\n  second")) == "first"
    assert attempts.reason(OSError("a plan (137 SYNs from here); nothing")) == "a plan; nothing"
    assert attempts.reason(TimeoutError()) == "TimeoutError"


def test_the_page_in_the_documentation_is_made_from_the_runs_beside_it() -> None:
    """Nobody edits it by hand."""
    store = Store(matrix.DATA)
    assert len(store.pairs) >= len(pairs(DEFAULT_HOMES))
    assert matrix.PAGE.read_text() == matrix.page(store, matrix.DATA)
