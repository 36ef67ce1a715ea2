"""``agent stop`` returns when the agent's process has ended, and not when it only says nothing any more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pxfer.errors import Incomplete
from p2pxfer.net.agent import asking, process
from p2pxfer.net.agent.room import FOLDER
from p2pxfer.net.private.filelocks import hold

pytestmark = pytest.mark.deadline(120)


@contextmanager
def slow_agent(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "tests.net.agent.slow_agent", str(home)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"there\n"
            yield child
        finally:
            child.kill()


def until_room_is_free(home: Path) -> None:
    """Until the agent's service has ended; its process has not."""
    deadline = time.monotonic() + 60
    while True:
        try:
            os.close(hold(home / FOLDER / "lock"))
        except BlockingIOError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def no_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel before 5.3, or one that forbids them."""

    def refuse(pid: int) -> int:
        raise OSError(38, "not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.mark.parametrize("handles", [True, False])
def test_stop_returns_with_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_descriptor_is_lost: None, handles: bool
) -> None:
    if not handles:
        no_handles(monkeypatch)
    with ThreadPoolExecutor(1) as pool, slow_agent(tmp_path) as child:

        def stop() -> tuple[int, int | None]:
            return asking.stop(tmp_path, 60), child.poll()

        stopped = pool.submit(stop)
        until_room_is_free(tmp_path)
        assert not stopped.done()
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)
        assert stopped.result(60) == (child.pid, 0)


@pytest.mark.parametrize("handles", [True, False])
def test_an_agent_that_does_not_end_in_time_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_descriptor_is_lost: None, handles: bool
) -> None:
    if not handles:
        no_handles(monkeypatch)
    with slow_agent(tmp_path) as child:
        with pytest.raises(Incomplete, match=rf"process {child.pid}\) was told to end and has not in 0.3 s"):
            asking.stop(tmp_path, 0.3)
        assert child.poll() is None


def test_whose_number_is_not_known_here_ends_with_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent in a container of its own has no number here."""
    monkeypatch.setattr(process, "peer_of", lambda connection: (0, os.geteuid()))
    with slow_agent(tmp_path) as child:
        assert asking.stop(tmp_path, 60) == child.pid
        os.close(hold(tmp_path / FOLDER / "lock"))
