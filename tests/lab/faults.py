"""Interruptions of the lab: lines that are cut, packets that are dropped."""

from __future__ import annotations

from typing import Literal

from tests.lab import plan
from tests.lab.namespaces import LabError
from tests.lab.places import Places

Way = Literal["out", "in"]
"""Direction of what passes a line, as seen by whose line it is."""


class Faults(Places):
    """Places whose lines can be cut; the first half of `topology.Lab`."""

    _sites: dict[str, plan.Site]
    _router_of: dict[str, str]
    _cuts: dict[str, bool]

    def cut(self, role: str, *, hard: bool = False, way: Way | None = None) -> None:
        """Interrupt the access line of a host or router: packets vanish, nobody is told.

        `hard` takes the host's own interface down instead, which its kernel notices at once. With `way` only what
        goes "out" from the role, or comes "in" to it, vanishes; everything else passes.
        """
        key = self._router_of.get(role, role)
        if key in self._cuts:
            return
        if hard:
            if role not in plan.HOSTS:
                raise LabError(f"{role} is not a host")
            self.ip(role, "link set eth0 down\n")
        else:
            port, table = plan.PUB_PORT[key], f"inet lab_cut_{key}"
            chains = {
                "out": f'chain up {{ type filter hook prerouting priority -450; iifname "{port}" drop; }}\n',
                "in": f'chain down {{ type filter hook forward priority 0; oifname "{port}" drop; }}\n',
            }
            dropped = "".join(chains.values()) if way is None else chains[way]
            self.nft("pub", f"table {table} {{\n{dropped}}}\n")
        self._cuts[key] = hard

    def restore(self, role: str) -> None:
        """Undo `cut`, whichever way it was done; nothing to do if the line is whole."""
        key = self._router_of.get(role, role)
        hard = self._cuts.pop(key, None)
        if hard:
            home = self._sites.get(key)
            self.ip(role, f"link set eth0 up\n{plan.default_route(role, home)}\n")
        elif hard is not None:
            self.nft("pub", f"delete table inet lab_cut_{key}\n")

    def block(self, role: str, expression: str) -> None:
        """Drop what matches an nftables expression: at a router what it forwards, at a host its own.

        Rules add up. A router sees private addresses of its LAN in outbound packets; "pub" sees
        public ones only. For an upper limit use e.g. `tcp dport 443 quota over 1 mbytes`.
        """
        hooks = ("input", "output") if role in plan.HOSTS else ("forward",)
        self.nft(
            role,
            "".join(
                f"add table inet lab_block\n"
                f"add chain inet lab_block {hook} "
                f"{{ type filter hook {hook} priority -10; policy accept; }}\n"
                f"add rule inet lab_block {hook} {expression} drop\n"
                for hook in hooks
            ),
        )

    def unblock(self, role: str) -> None:
        """Remove every rule that `block` added at `role`."""
        self.nft(role, "add table inet lab_block\ndelete table inet lab_block\n")
