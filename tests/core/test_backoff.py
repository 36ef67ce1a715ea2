"""Many clients that lost the same server come back apart from each other, and soon."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from p2pxfer.core.backoff import LONGEST_S, Backoff

HOUR_S = 3600.0


def attempts(draw: random.Random, until: float) -> list[float]:
    """When one client tries, seconds from the end of its connection; the last time behind ``until``."""
    backoff = Backoff(draw.random)
    times = [backoff.next()]
    while times[-1] < until:
        times.append(times[-1] + backoff.next())
    return times


@pytest.mark.parametrize("away", [60.0, 600.0])
def test_f37_a_thousand_clients_come_back_one_by_one(away: float) -> None:
    """Of a server that comes back at once they would come within a second; its own rate of accepting bounds that."""
    draw = random.Random(1)
    returns = [attempts(draw, away)[-1] - away for _ in range(1000)]
    busiest = Counter(int(at) for at in returns).most_common(1)[0][1]
    print(f"over {max(returns):.0f} s, at most {busiest} in one second")
    assert max(returns) >= 20
    assert busiest < 100


def test_f38_a_server_that_is_away_is_asked_seldom_and_found_soon() -> None:
    draw = random.Random(2)
    for _ in range(100):
        times = attempts(draw, HOUR_S)
        assert len(times) < HOUR_S / (LONGEST_S * 0.4)
        assert times[-1] - HOUR_S <= LONGEST_S <= 60
