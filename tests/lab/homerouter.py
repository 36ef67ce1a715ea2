"""A home's router that speaks PCP and leads ports to its LAN behind a carrier's NAT too, as many do.

Debian's `miniupnpd` (`tests.lab.portmapper`) is no such router: it refuses where its outside address is one of
100.64.0.0/10 or private.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from ipaddress import IPv4Address
from types import TracebackType

from p2pxfer.core.traversal import pcp
from tests.lab.topology import Lab

_TABLE = "lab_home"
_RULES = f"""table ip {_TABLE} {{
map leads {{ type inet_service : ipv4_addr . inet_service; size 64; }}
chain entry {{
type nat hook prerouting priority dstnat - 5
iifname "wan" dnat ip to tcp dport map @leads
}}
}}
"""
_REQUEST = struct.Struct("!BBxxI12x4s12sB3xHH")
"""Version, opcode, lifetime, the client's address, nonce, protocol, inside port, suggested port (RFC 6887, 11.1)."""


class HomeRouter(threading.Thread):
    """PCP's MAP for TCP at one router of a lab, which gives the suggested port and calls `outside` its own address.

    With `gives` False it refuses every port, and says by NAT-PMP what its address is.
    """

    def __init__(self, lab: Lab, router: str, outside: str, *, gives: bool = True) -> None:
        super().__init__(daemon=True)
        self._lab = lab
        self._router = router
        self._outside = IPv4Address(outside)
        self._gives = gives
        self._over = threading.Event()
        self.led: dict[int, tuple[str, int]] = {}
        """Outside port -> address and port in the LAN."""
        lab.nft(router, _RULES)
        self._socket = lab.socket(router, socket.SOCK_DGRAM)
        self._socket.bind(("", pcp.SERVER_PORT))
        self._socket.settimeout(0.1)

    def __enter__(self) -> HomeRouter:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()
        self._socket.close()

    def run(self) -> None:
        """Answer until the end."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                request, sender = self._socket.recvfrom(pcp.MAX_DATAGRAM)
                answer = self._answer(request)
                if answer:
                    self._socket.sendto(answer, sender)

    def _answer(self, request: bytes) -> bytes:
        if request == pcp.pmp_address() and not self._gives:
            return struct.pack("!BBHI4s", 0, 0x80, 0, 1, self._outside.packed)
        if len(request) < _REQUEST.size or request[:2] != b"\x02\x01":
            return b""
        _, _, lifetime, client, nonce, protocol, inside, _ = _REQUEST.unpack_from(request)
        result = 0 if self._gives else 2
        if self._gives:
            self._lead(str(IPv4Address(client)), inside, lifetime > 0)
        head = struct.pack("!BBBBII", 2, 0x81, 0, result, lifetime, 1) + bytes(12)
        body = struct.pack("!12sB3xHH", nonce, protocol, inside, inside if self._gives else 0)
        return head + body + bytes(10) + b"\xff\xff" + self._outside.packed

    def _lead(self, host: str, port: int, keep: bool) -> None:
        if keep and port not in self.led:
            self._lab.nft(self._router, f"add element ip {_TABLE} leads {{ {port} : {host} . {port} }}\n")
            self.led[port] = (host, port)
        elif not keep and self.led.pop(port, None) is not None:
            self._lab.nft(self._router, f"delete element ip {_TABLE} leads {{ {port} }}\n")
