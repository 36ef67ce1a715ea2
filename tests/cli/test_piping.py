"""What a pipe says of its paths."""

from __future__ import annotations

import pytest

from p2pxfer.cli.piping import Piping
from p2pxfer.cli.settings import Global
from p2pxfer.net.session.knownpeers import KnownPeer
from p2pxfer.status import Path


def test_a_path_is_lost_only_that_was_said_to_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    """Of several that stand one carries the data, and people hear of that one."""
    piping = Piping(Global(None, None, False, 0), KnownPeer(bytes(32), "bob", "contact"))
    up = Path("ipv6", "up", "", "", None, 100, "")
    used = Path("direct", "active", "", "192.0.2.1:5", None, 120, "")
    for event in (
        up,
        used,
        Path("ipv6", "down", "", "", None, 900, "reset"),
        Path("direct", "down", "", "", None, 950, "reset"),
    ):
        piping._tell(event)
    assert capsys.readouterr().err.splitlines() == [
        "path: direct to 192.0.2.1:5 after 0.12 s",
        "path lost: direct (reset)",
    ]
