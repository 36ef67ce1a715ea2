"""Which direct paths of a meeting are different ways: those that leave this machine by different network interfaces.

A laptop that has a cable and is in a wireless network reaches the same peer by both, and then both may carry.  Two
paths by one interface share its line, so the second one would bring nothing: IPv6 beside IPv4, or the hairpin of the
router beside the LAN.  The peer judges its own side by the same rule, so a pair of paths stays only if it differs at
both ends.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pxfer.net.traversal.ownaddresses import interface_towards

MAX_WAYS = 3
"""Most direct paths of one meeting, those left out that are opened beside one of them."""


class Ways:
    """The ways that are taken, by the groups of paths that took them: those that were opened beside one go its way.

    ``interface`` names the one by which a host is reached, ``None`` for no way.
    """

    def __init__(self, interface: Callable[[str], str | None] = interface_towards) -> None:
        self._interface = interface
        self._taken: dict[int, str | None] = {}

    def take(self, group: int, host: str) -> None:
        """A path to ``host`` stays."""
        self._taken[group] = self._interface(host)

    def lost(self, group: int) -> None:
        """No path of the group is up any more: its way is free."""
        self._taken.pop(group, None)

    def is_new(self, host: str) -> bool:
        """Whether a path to ``host`` would be the first one, or another way than all that are taken."""
        if not self._taken:
            return True
        if len(self._taken) >= MAX_WAYS or None in self._taken.values():
            return False
        interface = self._interface(host)
        return interface is not None and interface not in self._taken.values()
