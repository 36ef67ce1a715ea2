"""The agent's corner of the private directory."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from p2pxfer.errors import ConfigError
from p2pxfer.net.agent.room import Room


def test_there_is_one_agent_and_it_says_which_process_it_is(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.sign()
    with pytest.raises(ConfigError, match=rf"another agent runs for the home .* \(process {os.getpid()}\)$"):
        Room(tmp_path)
    room.close()
    Room(tmp_path).close()


def test_a_disk_that_refuses_writes_keeps_no_agent_from_running(tmp_path: Path) -> None:
    room = Room(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            os.pwrite(room._lock, b"x", 0)
        room.sign()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(ConfigError, match=r"another agent runs for the home [^ ]*$"):
        Room(tmp_path)
    room.close()
