"""This machine, for a run of a command on a clock of its own."""

from __future__ import annotations

from typing import Any

from p2pxfer.core.approach import Approach
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.net.private.home import Home
from p2pxfer.net.session.machine import Machine


def machine_at(home: Home, reactor: Any, name: str = "alice", **options: Any) -> Machine:
    """The machine of ``home``, which asks no router."""
    approach = Approach(port_mapping=False)
    return Machine(reactor, home, home.identity(), ServerLine("h", 1, None), name, approach, **options)
