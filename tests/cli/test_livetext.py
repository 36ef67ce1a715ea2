"""The lines of a running transfer: what they say, in what room, and in which style."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from p2pxfer.cli.livetext import (
    BARS,
    PLAIN_BARS,
    SPAN_S,
    Line,
    Piece,
    RateHistory,
    graph,
    graph_width,
    news_line,
    state_line,
    time_left,
)
from p2pxfer.status import Progress

MIB = 1 << 20
HALF = Progress(50 * MIB, 100 * MIB, 5 * MIB, "relay")


def text_of(line: Line) -> str:
    return "".join(piece.text for piece in line)


def test_a_graph_is_as_high_as_the_rates_and_in_the_style_of_their_paths() -> None:
    columns = [(0.0, "none"), (10.0, "relay"), (40.0, "relay"), (80.0, "punched"), (79.0, "lan")]
    assert graph(columns) == [Piece("▁", "dim"), Piece("▂▅", "relay"), Piece("██", "direct")]
    assert text_of(graph(columns, plain=True)) == "_.+##"
    assert graph([]) == []
    assert text_of(graph([(0.0, "none")] * 3)) == "▁▁▁"
    assert len(BARS) == len(PLAIN_BARS)


def test_the_history_shows_what_was_moved_and_over_what() -> None:
    history = RateHistory()
    history.add(100.0, 1000, "none")  # here from before
    for second in range(100, 110):
        history.add(second + 0.5, 1000 + (second - 99) * 300, "relay")
    history.add(110.2, 4000 + 100, "relay")
    history.add(110.7, 4000 + 1000, "punched")
    columns = history.columns(111.5, SPAN_S)
    assert columns == [(300.0, "relay")] * 10 + [(1000.0, "punched")]
    # Half as many columns: each is two seconds, and nothing gets lost.
    assert sum(rate * 2 for rate, _ in history.columns(112.0, SPAN_S // 2)) == 4000
    assert history.columns(111.5, SPAN_S)[-1][1] == "punched"


def test_a_stop_is_seen_and_the_start_falls_out_in_the_end() -> None:
    history = RateHistory()
    for second in range(300):
        history.add(float(second), 500 * min(second, 280), "direct")
    columns = history.columns(300.0, SPAN_S)
    assert len(columns) == SPAN_S
    assert columns[:41] == [(500.0, "direct")] * 41
    assert columns[41:] == [(0.0, "none")] * 19
    assert history.rate(300.0) == 0.0


@pytest.mark.parametrize("wait", [0.1, 0.25, 0.7, 1.0, 1.3, 4.0, 15.0])
@pytest.mark.parametrize("start", [100.0, 100.6])
def test_an_even_rate_is_the_one_that_it_is(wait: float, start: float) -> None:
    """Whatever part of a second has gone by, and however often somebody says how much there is."""
    history = RateHistory()
    for number in range(200):
        now = start + number * wait
        history.add(now, round(1_000_000 * number * wait), "direct")
        if number:
            assert history.rate(now) == pytest.approx(1_000_000, rel=1e-3)


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 10**9)), max_size=200), st.integers(1, SPAN_S),
    st.floats(0.0, 100.0),
)  # fmt: skip
def test_whatever_comes_there_are_no_more_columns_than_room(
    steps: list[tuple[float, int]], width: int, later: float
) -> None:
    history, now, size = RateHistory(), 5.0, 0
    for wait, more in steps:
        now, size = now + wait, size + more
        history.add(now, size, "lan")
    columns = history.columns(now + later, width)
    assert len(columns) <= width
    assert all(rate >= 0 for rate, _ in columns)
    assert history.rate(now + later) >= 0


def test_the_state_says_all_where_there_is_room() -> None:
    text = text_of(state_line(HALF, 3661.0, 100))
    assert len(text) == 100
    assert text.startswith("relay  ━━━")
    assert text.endswith("──  50.0 MiB of 100.0 MiB  5.0 MiB/s  1:01:01 left")
    assert text.count("━") == (text.count("━") + text.count("─")) // 2
    assert state_line(HALF, None, 100)[0] == Piece("relay", "relay")
    assert text_of(state_line(Progress(7, None, 2.0, "none"), None, 100)) == "waiting  7 B  for 0:00"
    assert "#####-----" in text_of(state_line(HALF, 10.0, 100, plain=True))
    waits = state_line(Progress(7, 14, 2.0, "none"), None, 60, waits="waiting for alice: a.iso")
    assert re.fullmatch("waiting for alice: a.iso  ━+─+  7 B of 14 B  for 0:00", text_of(waits))
    assert text_of(state_line(HALF, None, 100, waits="waiting for alice")).startswith("relay")
    assert text_of(state_line(Progress(7, 14, 2.0, "none"), None, 9, waits="waiting for alice")) == "waiting f"


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (54, "relay  50.0 MiB of 100.0 MiB  5.0 MiB/s  0:10 left"),
        (33, "relay  50 %  5.0 MiB/s  0:10 left"),
        (32, "relay  ━━━━────  50 %  5.0 MiB/s"),
        (24, "relay  50 %  5.0 MiB/s"),
        (12, "relay  50 %"),
        (6, "relay"),
        (3, "rel"),
    ],
)
def test_what_matters_least_is_left_out_first(width: int, says: str) -> None:
    text = text_of(state_line(HALF, 10.0, width))
    assert text == says


@settings(deadline=None)
@given(
    st.integers(1, 200), st.integers(0, 2**50), st.one_of(st.none(), st.integers(0, 2**50)),
    st.floats(0, 1e12), st.one_of(st.none(), st.floats(0, 1e12)),
    st.text(max_size=300) | st.text("a 漢字가🎉\u0301", max_size=300), st.booleans(),
)  # fmt: skip
def test_no_line_is_wider_than_the_terminal(
    width: int, size: int, total: int | None, rate: float, left: float | None, news: str, plain: bool
) -> None:
    progress = Progress(size, None if total is None else max(size, total), rate, "punched")
    assert cell_len(text_of(state_line(progress, left, width, plain=plain))) <= width
    columns = [(rate, "relay")] * graph_width(width)
    line = text_of(news_line(columns, news, width, plain=plain))
    assert graph_width(width) <= cell_len(line) <= width


def test_news_that_have_no_room_are_cut() -> None:
    columns = [(1.0, "relay")] * 5
    assert text_of(news_line(columns, "a direct path is being tried", 50)) == "█████  a direct path is being tried"
    assert text_of(news_line(columns, "a direct path is being tried", 20)) == "█████  a direct pat…"
    assert text_of(news_line(columns, "a direct path is being tried", 20, plain=True)) == "#####  a direct p..."
    # Letters of two columns; where only half a one has room, nothing of it is shown.
    assert text_of(news_line(columns, "漢字漢字漢字漢字", 19)) == "█████  漢字漢字漢 …"
    assert text_of(news_line(columns, "漢字漢字漢字漢字", 18)) == "█████  漢字漢字漢…"
    assert text_of(news_line(columns, "漢字漢字漢字", 19)) == "█████  漢字漢字漢字"
    assert text_of(news_line(columns, "a direct path is being tried", 14)) == "█████"


def test_nobody_knows_when_what_does_not_move_is_there() -> None:
    assert time_left(HALF, 10 * MIB) == 5
    assert time_left(HALF, 0.0) is None
    assert time_left(Progress(1, None, 1.0, "lan"), 5.0) is None


@pytest.mark.parametrize(
    ("path", "still", "shown"),
    [
        ("relay", 0.0, "relay  50.0 MiB of 100.0 MiB  5.0 MiB/s  0:10 left"),
        ("relay", 2.9, "relay  50.0 MiB of 100.0 MiB  5.0 MiB/s  0:10 left"),
        ("relay", 12.4, "relay  50.0 MiB of 100.0 MiB  nothing for 0:12"),
        ("none", 0.0, "waiting  50.0 MiB of 100.0 MiB  for 0:00"),
        ("none", 3725.0, "waiting  50.0 MiB of 100.0 MiB  for 1:02:05"),
    ],
)
def test_while_nothing_moves_it_is_shown_for_how_long_and_no_rate(path: str, still: float, shown: str) -> None:
    progress = Progress(50 * MIB, 100 * MIB, 5 * MIB, path)
    line = text_of(state_line(progress, 10.0, 100, plain=True, still=still))
    assert re.sub("  [#-]+  ", "  ", line) == shown
    for width in range(1, 60):
        assert cell_len(text_of(state_line(progress, 10.0, width, still=still))) <= width


def test_what_has_come_whole_is_not_said_to_stand_still() -> None:
    whole = Progress(100 * MIB, 100 * MIB, 0, "relay")
    assert "nothing" not in text_of(state_line(whole, 0.0, 100, still=60.0))


def test_the_history_knows_since_when_nothing_moved() -> None:
    history = RateHistory()
    assert history.still(5.0) == 0.0
    history.add(10.0, 500, "none")
    assert history.still(12.0) == 2.0
    history.add(13.0, 600, "relay")
    history.add(14.0, 600, "relay")
    assert history.still(15.5) == 2.5
