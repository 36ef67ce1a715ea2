"""Stages of tests that run side by side have ports of their own."""

from __future__ import annotations

import contextlib
import random

import pytest

from tests.e2e.conftest import unused_port


def test_no_two_stages_have_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([15000, 15000, 15001, 15000])
    monkeypatch.setattr(random, "randrange", lambda low, high: next(drawn))
    with contextlib.ExitStack() as other:
        with contextlib.ExitStack() as one:
            assert unused_port(one) == 15000
            assert unused_port(other) == 15001
        assert unused_port(other) == 15000
