"""A router that gives ports to its LAN: Debian's `miniupnpd`, really running in a router's namespace.

It refuses to work with an outside address of a range for tests, so the sites have ordinary addresses
(`ORDINARY`), which nobody outside the namespaces ever sees.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Literal

from tests.lab.namespaces import LabError
from tests.lab.topology import Lab

Speaks = Literal["all", "upnp", "pcp"]
"""`pcp` is NAT-PMP too: the program has one switch for both."""

ORDINARY = "198.17"
"""The first half of the sites' public addresses."""
_TABLE = "lab_ports"
_CHAINS = f"""table inet {_TABLE} {{
chain forward {{ }}
chain prerouting {{ }}
chain postrouting {{ }}
chain entry {{
type nat hook prerouting priority dstnat - 5
jump prerouting
}}
}}
"""
_RULE = re.compile(r"th dport (\d+).*dnat ip to ([0-9.]+):(\d+)")


class PortMapper:
    """`miniupnpd` at one router of a lab; its files are in `folder`."""

    def __init__(self, lab: Lab, router: str, folder: Path, speaks: Speaks = "all") -> None:
        """Start it and wait until it listens. Raises `LabError` if it does not."""
        self._lab = lab
        self._router = router
        self._folder = folder / f"miniupnpd-{router}"
        self._folder.mkdir()
        settings = {
            "ext_ifname": "wan",
            "listening_ip": "lan",
            "enable_natpmp": "no" if speaks == "upnp" else "yes",
            "enable_upnp": "no" if speaks == "pcp" else "yes",
            "secure_mode": "yes",
            "uuid": "00000000-0000-0000-0000-000000000001",
            "upnp_table_name": _TABLE,
            "upnp_nat_table_name": _TABLE,
            "upnp_forward_chain": "forward",
            "upnp_nat_chain": "prerouting",
            "upnp_nat_postrouting_chain": "postrouting",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines.append("allow 1024-65535 0.0.0.0/0 1024-65535")
        config = self._folder / "miniupnpd.conf"
        config.write_text("\n".join(lines) + "\n")
        lab.nft(router, _CHAINS)
        self._log = self._folder / "log"
        self._sign = "HTTP listening" if speaks == "upnp" else "Listening for NAT-PMP/PCP"
        self._start()

    def _start(self) -> None:
        with self._log.open("w") as log:
            argv = ["miniupnpd", "-d", "-f", str(self._folder / "miniupnpd.conf"), "-P", str(self._folder / "pid")]
            self._child = self._lab.popen(self._router, argv, stdout=log, stderr=subprocess.STDOUT)
        self._wait(self._sign)

    def _wait(self, sign: str) -> None:
        deadline = time.monotonic() + 10
        while sign not in self._log.read_text(errors="replace"):
            if time.monotonic() > deadline or self._child.poll() is not None:
                raise LabError(f"miniupnpd does not start: {self._log.read_text(errors='replace')}")
            time.sleep(0.02)

    def ports(self) -> dict[int, tuple[str, int]]:
        """The ports that it leads inside now: outside port -> address and port in the LAN."""
        rules = self._lab.run(self._router, ["nft", "list", "chain", "inet", _TABLE, "prerouting"], check=True).stdout
        return {int(port): (host, int(inside)) for port, host, inside in _RULE.findall(rules)}

    def wait_for_ports(self, count: int, seconds: float = 15.0) -> dict[int, tuple[str, int]]:
        """As `ports`, when there are so many. Raises `AssertionError` if it does not come to that."""
        deadline = time.monotonic() + seconds
        while len(found := self.ports()) != count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{count} ports were expected, and {found} are there")
            time.sleep(0.05)
        return found

    def restart(self) -> None:
        """Begin anew without any of the ports that were given."""
        self._lab.end(self._child)
        self._lab.nft(
            self._router, "".join(f"flush chain inet {_TABLE} {name}\n" for name in ("forward", "prerouting"))
        )
        self._start()

    def heard(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")
