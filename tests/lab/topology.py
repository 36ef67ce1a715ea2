"""The lab: a context manager that builds two homes, a server and the network between them.

    with Lab(KINDS["full-cone"], KINDS["symmetric/rst"], rtt_ms=80) as lab:
        lab.run("alice", [sys.executable, "-m", "p2pxfer", ...])

Any number of labs live side by side; each removes what it made, also when the test fails, and the
next one on the machine removes what a killed test run left.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.lab import crosstraffic, delay, namespaces, nat, plan, syns
from tests.lab.delay import BUFFER_BYTES, Shape
from tests.lab.namespaces import LabError, entered, inside, run_all
from tests.lab.nat import KINDS, NatKind
from tests.lab.places import Places, end


class Lab(Places):
    """Two hosts behind two routers, a server with two addresses, and what connects them.

    Roles: "alice" behind "nat_a", "bob" behind "nat_b", "srv", and the network "pub".
    """

    def __init__(
        self,
        nat_a: NatKind | None = KINDS["port-restricted"],
        nat_b: NatKind | None = KINDS["port-restricted"],
        *,
        rtt_ms: float = 40,
        same_lan: bool = False,
        rate_bps: int = 0,
        loss: float = 0.0,
        seed: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
        tcp_window: int = 0,
    ) -> None:
        """Say what to build; entering the context builds it.

        A router given as None only routes and its host has the public address. `rtt_ms` is the
        round trip between alice and bob; the server is half of it away from each. `rate_bps`,
        `loss` (probability) and `buffer_bytes` hold for each direction of both access lines.
        `tcp_window` is the most that the hosts' kernels buffer for a connection, in bytes; 0
        leaves Linux's 4 MiB for sending, of which about 2.6 MiB can be under way.
        """
        super().__init__(plan.ROLES)
        self.kinds = {"nat_a": nat_a, "nat_b": nat_b}
        self._shape = Shape(rtt_ms / 4000, rate_bps, loss, seed, buffer_bytes)
        self._sites = {
            "nat_a": plan.site("alice", nat_a is None, same_lan),
            "nat_b": plan.site("bob", nat_b is None, same_lan),
        }
        self._window = tcp_window
        self._generation = {"nat_a": 0, "nat_b": 0}
        self._line: subprocess.Popen[bytes] | None = None
        self._cuts: dict[str, bool] = {}

    # Life

    def __enter__(self) -> Lab:
        """Build everything. Raises `LabError`, after removing what was built."""
        namespaces.cleanup_stale()
        try:
            namespaces.create(self.names.values(), plan.links(self.names, cables=not self._shape.needed))
            if self._shape.needed:
                self._start_line()
            self._configure()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self.close()

    def close(self) -> None:
        """Kill the children, stop the lines, remove the namespaces; may be called again."""
        # Deleting the namespaces first would make the line's devices vanish under it.
        if self._line is not None:
            end(self._line)
            self._line = None
        super().close()

    def _start_line(self) -> None:
        """Open the four TUN ends and hand them to one program."""
        ends: list[int] = []
        try:
            for router in plan.ROUTER_OF.values():
                for role, device in ((router, "wan"), ("pub", plan.PUB_PORT[router])):
                    with entered(self.names[role]):
                        ends.append(delay.open_tun(device, self._shape.batching))
            self._line = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(delay.__file__)), self._shape.encode()]
                + [f"{left}:{right}" for left, right in zip(ends[::2], ends[1::2], strict=True)],
                stdin=subprocess.PIPE,
                pass_fds=ends,
                start_new_session=True,
            )
        finally:
            for descriptor in ends:
                os.close(descriptor)

    def _configure(self) -> None:
        tuns = self._shape.needed
        a, b = self._sites["nat_a"], self._sites["nat_b"]
        texts = {"pub": plan.pub((a, b), tuns), "srv": plan.srv()}
        for home in (a, b):
            texts[home.router] = plan.router(home, tuns)
            texts[home.host] = plan.host(home)
        counting = syns.ruleset("lan", self.server_addresses)
        for role in plan.ROLES:
            self._default_sysctls(role)
        run_all(
            [self.ip_job(role, text) for role, text in texts.items()]
            + [self.nft_job(role, self._rules(role) + counting) for role in self.kinds]
        )
        for role, kind in self.kinds.items():
            if kind is not None:
                self.sysctl(role, "net/netfilter/nf_conntrack_tcp_loose", "0")

    def _default_sysctls(self, role: str) -> None:
        with entered(self.names[role]):
            # Without IPv6 on the links no neighbour discovery disturbs the byte counters.
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            for conf in Path("/proc/sys/net/ipv6/conf").iterdir():
                if conf.name not in ("all", "default", "lo"):
                    (conf / "disable_ipv6").write_text("1")
            for conf in Path("/proc/sys/net/ipv4/conf").iterdir():
                (conf / "rp_filter").write_text("0")
            if role not in plan.HOSTS:
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            elif self._window:
                Path("/proc/sys/net/ipv4/tcp_rmem").write_text(f"4096 131072 {self._window}")
                Path("/proc/sys/net/ipv4/tcp_wmem").write_text(f"4096 16384 {self._window}")

    def _rules(self, router: str) -> str:
        kind = self.kinds[router]
        return "" if kind is None else nat.ruleset(kind, "wan", "lan", self.public_addr(router))

    # Addresses and counters

    @property
    def server_addresses(self) -> tuple[str, str]:
        """The two public addresses of the server."""
        return plan.SERVER_ADDRESSES

    def addr(self, role: str) -> str:
        """Return the address that `role` itself sees: private for alice and bob behind a NAT."""
        for home in self._sites.values():
            if role == home.host:
                return home.lan_host
        return self.server_addresses[0] if role == "srv" else self.public_addr(role)

    def public_addr(self, router: str) -> str:
        """Return the address under which a router's host is seen, as it is now."""
        return self._sites[router].public(self._generation[router])

    def server_bytes(self) -> int:
        """Return the bytes received and sent on the server's link, headers included."""
        return self.link_bytes("srv")

    def link_bytes(self, role: str) -> int:
        """Return the bytes received and sent on the link of a host or the access line of a router.

        Batches of segments count with one header.
        """
        device = "eth0" if role in plan.HOSTS else "wan"
        with entered(self.names[role]):
            table = Path("/proc/thread-self/net/dev").read_text()
        for line in table.splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == device:
                fields = numbers.split()
                return int(fields[0]) + int(fields[8])
        raise LabError(f"{role} has no {device}")

    def syns_sent(self, side: str) -> syns.Syns:
        """Return how many SYNs alice or bob has sent since the lab was built, repeated ones included."""
        return syns.parse(self.run(plan.ROUTER_OF[side], syns.LIST, check=True).stdout)

    # Changes while programs run

    @contextlib.contextmanager
    def cross_traffic(self, side: str, per_second: float, *, seconds: float = 60.0) -> Iterator[None]:
        """Another host behind the NAT of alice or bob connects to the server, `per_second` times.

        Begun when the context is entered; ends with it, or after `seconds`. The other host has the
        LAN address of the router, and the server refuses it. Raises `LabError` for a side without
        NAT and for more than `crosstraffic.MOST` a second.
        """
        router = plan.ROUTER_OF[side]
        if self.kinds[router] is None or not 0 < per_second <= crosstraffic.MOST:
            raise LabError(f"no cross traffic of {per_second:g} a second through {router}")
        program = [sys.executable, "-I", "-S", crosstraffic.__file__, self._sites[router].lan_router]
        numbers = [str(number) for number in (plan.DISCARD_PORT, per_second, seconds)]
        argv = [*program, self.server_addresses[0], *numbers]
        child = self.popen(router, argv, stdout=subprocess.PIPE)
        try:
            if child.stdout is None or not child.stdout.readline():
                raise LabError("the cross traffic did not begin")
            yield
        finally:
            self.end(child)

    def flush_nat(self, router: str) -> None:
        """Make a router forget every flow, mapping and permission; nothing to do without NAT."""
        if self.kinds[router] is None:
            return
        self.nft(router, nat.forget())
        run_all([(inside(self.names[router], ["conntrack", "-F"]), "")])

    def reboot_nat(self, router: str, *, new_address: bool = False) -> None:
        """Restart a router: it forgets everything and may come back with another public address.

        Raises `LabError` for a new address without NAT, where the host itself would have it.
        """
        if self.kinds[router] is None:
            if new_address:
                raise LabError("a router without NAT has no address to change")
            return
        # Between losing the entries and loading the rules nothing may pass untranslated.
        hold = "type filter hook forward priority -500; policy drop;"
        self.nft(router, f"table ip lab_reboot {{\nchain hold {{ {hold} }}\n}}\n")
        if new_address:
            self._generation[router] += 1
            home = self._sites[router]
            own, public = plan.move(home, self._generation[router])
            run_all([self.ip_job(router, own), self.ip_job("pub", public)])
        self.nft(router, self._rules(router))
        run_all([(inside(self.names[router], ["conntrack", "-F"]), "")])
        self.nft(router, "delete table ip lab_reboot\n")

    def cut(self, role: str, *, hard: bool = False) -> None:
        """Interrupt the access line of a host or router: packets vanish, nobody is told.

        `hard` takes the host's own interface down instead, which its kernel notices at once.
        """
        key = plan.ROUTER_OF.get(role, role)
        if key in self._cuts:
            return
        if hard:
            if role not in plan.HOSTS:
                raise LabError(f"{role} is not a host")
            self.ip(role, "link set eth0 down\n")
        else:
            port, table = plan.PUB_PORT[key], f"inet lab_cut_{key}"
            self.nft(
                "pub",
                f"table {table} {{\n"
                f'chain up {{ type filter hook prerouting priority -450; iifname "{port}" drop; }}\n'
                f'chain down {{ type filter hook forward priority 0; oifname "{port}" drop; }}\n}}\n',
            )
        self._cuts[key] = hard

    def restore(self, role: str) -> None:
        """Undo `cut`, whichever way it was done; nothing to do if the line is whole."""
        key = plan.ROUTER_OF.get(role, role)
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
