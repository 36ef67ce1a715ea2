"""Running `netcheck` in the lab, and how often."""

from __future__ import annotations

from p2pxfer.core.server.effects import ServerSettings
from scripts.product import JsonEvent
from tests.scene import Scene, events_of, last

SOAK_RUNS = 20
PACE_S = 60 / ServerSettings().dial_backs_per_source
"""Between two runs, seconds: the server dials one source back no more often."""


def netcheck(scene: Scene) -> JsonEvent:
    """What one run says of alice's NAT."""
    program = scene.program("alice", scene.alice, "netcheck")
    program.succeed(45)
    return last(events_of(program), "nat")
