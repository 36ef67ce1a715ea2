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

from tests.lab import crosstraffic, delay, ipv6, namespaces, nat, plan, syns, tunnat
from tests.lab.delay import BUFFER_BYTES, Shape
from tests.lab.faults import Faults
from tests.lab.namespaces import LabError, entered, inside, run_all
from tests.lab.nat import KINDS, NatKind
from tests.lab.places import end
from tests.lab.tunnat import TunKind


class Lab(Faults):
    """Two hosts behind two routers, a server with two addresses, and what connects them.

    Roles: "alice" behind "nat_a", "bob" behind "nat_b", "srv", and the network "pub"; with a
    second NAT in front of the first "carrier_a", "carrier_b". With one NAT for both no "nat_b".
    """

    def __init__(
        self,
        nat_a: NatKind | TunKind | None = KINDS["port-restricted"],
        nat_b: NatKind | TunKind | None = KINDS["port-restricted"],
        *,
        carrier_a: NatKind | None = None,
        carrier_b: NatKind | None = None,
        one_nat: bool = False,
        one_carrier: bool = False,
        isolated: bool = False,
        firewall_a: ipv6.Filter = "open",
        firewall_b: ipv6.Filter = "open",
        v6_a: ipv6.Filter | None = None,
        v6_b: ipv6.Filter | None = None,
        rtt_ms: float = 40,
        same_lan: bool = False,
        rate_bps: int = 0,
        loss: float = 0.0,
        jitter_ms: float = 0.0,
        seed: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
        tcp_window: int = 0,
        long_line: bool = False,
        public_net: str = "198.18",
    ) -> None:
        """Say what to build; entering the context builds it.

        A router given as None only routes and its host has the public address; `firewall_a` and
        `firewall_b` are what such a router filters. A `TunKind` translates in its home's line. A carrier is a NAT
        between the router and the public network. With `one_nat` both hosts are in alice's LAN and
        there is no nat_b; `isolated` hosts of it reach their router only. With `one_carrier` both
        routers are customers of carrier_a, and there is no carrier_b. `v6_a` and `v6_b` give a home
        IPv6 too, and with it the server.
        `rtt_ms` is the round trip between alice and bob across the network; the
        server is half of it away from each. `rate_bps`, `loss` (probability), `jitter_ms` and `buffer_bytes`
        hold for each direction of both access lines; `seed` sets what is lost and how much later packets come.
        `tcp_window` is the most that the hosts' kernels buffer for a connection, in bytes; 0
        leaves Linux's 4 MiB for sending, of which about 2.6 MiB can be under way.
        `long_line` is for a `rate_bps` that single segments in Python do not reach: they pass in batches.
        `public_net` is the first half of the public addresses of the two sites.

        Raises `LabError` for a carrier in front of a router without NAT, for two hosts behind one, for one carrier
        that is none or not the only one, for IPv6 behind a carrier or in a shared LAN, for a firewall with a NAT, and
        for a `TunKind` without a line of its own.
        """
        self._firewalls = {"nat_a": firewall_a, "nat_b": firewall_b}
        if (nat_a and firewall_a != "open") or (firewall_b != "open" and (nat_b or one_nat)):
            raise LabError("a NAT is firewall enough")
        self.filters = {host: kind for host, kind in (("alice", v6_a), ("bob", v6_b)) if kind is not None}
        if (v6_a and carrier_a) or (v6_b and carrier_b) or (self.filters and one_nat):
            raise LabError("homes with IPv6 are plain ones here")
        if one_carrier and (carrier_a is None or carrier_b is not None or one_nat):
            raise LabError("one carrier for both is carrier_a and has two customers")
        kinds: dict[str, NatKind | TunKind | None] = {
            "nat_a": nat_a, "nat_b": nat_b, "carrier_a": carrier_a, "carrier_b": carrier_b
        }  # fmt: skip
        if one_nat:
            del kinds["nat_b"], kinds["carrier_b"]
        # Without a kind a router is there and routes, but a carrier is not there.
        self.kinds = {role: kind for role, kind in kinds.items() if kind is not None or role in plan.PUB_PORT}
        super().__init__(["pub", *plan.HOSTS, *self.kinds])
        self._shape = Shape(rtt_ms / 4000, rate_bps, loss, seed, buffer_bytes, jitter_ms / 1000, long=long_line)
        if any(isinstance(kind, TunKind) for kind in kinds.values()) and (
            carrier_a or carrier_b or not self._shape.needed
        ):
            raise LabError("such a NAT is part of its home's line")
        self._sites = {
            router: plan.site(
                host,
                routed=kinds[router] is None,
                same_lan=same_lan,
                carrier=one_carrier or plan.CARRIER_OF[router] in self.kinds,
                guest="bob" if one_nat else None,
                isolated=isolated,
                one_carrier=one_carrier,
                net=public_net,
            )
            for host, router in plan.ROUTER_OF.items()
            if router in kinds
        }
        self._router_of = {host: home.router for home in self._sites.values() for host in home.hosts}
        self._window = tcp_window
        self._generation = dict.fromkeys(self._sites, 0)
        self._line: subprocess.Popen[bytes] | None = None
        self._cuts: dict[str, bool] = {}

    # Life

    def __enter__(self) -> Lab:
        """Build everything. Raises `LabError`, after removing what was built."""
        namespaces.cleanup_stale()
        try:
            namespaces.create(self.names.values(), self._links())
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

    def _links(self) -> str:
        return plan.links(self.names, self._sites.values(), cables=not self._shape.needed)

    def _start_line(self) -> None:
        """Open the TUN ends, two for each site, and hand them to one program."""
        ends: list[int] = []
        words: list[str] = []
        try:
            for home in (each for each in self._sites.values() if each.has_line):
                for role, device in ((home.edge, "wan"), ("pub", plan.PUB_PORT[home.router])):
                    with entered(self.names[role]):
                        ends.append(delay.open_tun(device, self._shape.batching))
                words.append(":".join([*map(str, ends[-2:]), *self._translation(home.router)]))
            translates = any(":" in word.partition(":")[2] for word in words)
            program = tunnat.__file__ if translates else delay.__file__
            self._line = subprocess.Popen(
                [sys.executable, "-I", "-S", program, self._shape.encode(), *words],
                stdin=subprocess.PIPE,
                pass_fds=ends,
                start_new_session=True,
            )
        finally:
            for descriptor in ends:
                os.close(descriptor)

    def _translation(self, router: str) -> list[str]:
        """The words for the program of the lines where it is to translate, too."""
        kind = self.kinds.get(router)
        return [self.public_addr(router), kind.encode()] if isinstance(kind, TunKind) else []

    def _configure(self) -> None:
        tuns = self._shape.needed
        texts = {"pub": plan.pub(self._sites.values(), tuns), "srv": plan.srv()}
        for home in self._sites.values():
            texts[home.router] = plan.router(home, tuns)
            texts |= {host: plan.host(home, host) for host in home.hosts}
            if home.edge != home.router:
                texts[home.edge] = texts.get(home.edge, "") + plan.carrier(home, tuns)
        if self.filters:
            texts["pub"] += ipv6.pub({role: plan.PUB_PORT[plan.ROUTER_OF.get(role, role)] for role in self._dual})
            texts |= {role: texts[role] + ipv6.host(role) for role in self._dual}
            texts |= {plan.ROUTER_OF[side]: texts[plan.ROUTER_OF[side]] + ipv6.router(side) for side in self.filters}
        counting = syns.ruleset("eth0", [*self.server_addresses, ipv6.SERVER])
        for role in self.names:
            self._default_sysctls(role)
        run_all(
            [self.ip_job(role, text) for role, text in texts.items()]
            + [self.nft_job(role, self._rules(role)) for role in self.kinds]
            + [self.nft_job(host, counting) for host in self._router_of]
            + [
                self.nft_job(router, ipv6.ruleset(kind, "ip"))
                for router, kind in self._firewalls.items()
                if kind != "open"
            ]
            + [self.nft_job(plan.ROUTER_OF[side], ipv6.ruleset(kind, "ip6")) for side, kind in self.filters.items()]
        )
        for role, kind in self.kinds.items():
            if kind is not None:
                self.sysctl(role, "net/netfilter/nf_conntrack_tcp_loose", "0")

    @property
    def _dual(self) -> list[str]:
        """The hosts with IPv6."""
        return ["srv", *self.filters]

    def _default_sysctls(self, role: str) -> None:
        routers = [plan.ROUTER_OF[side] for side in self.filters]
        dual = bool(self.filters) and role in ("pub", *self._dual, *routers)
        with entered(self.names[role]):
            # Without IPv6 on the links no neighbour discovery disturbs the byte counters.
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("0" if dual else "1")
            for conf in Path("/proc/sys/net/ipv6/conf").iterdir():
                if conf.name not in ("all", "default", "lo"):
                    (conf / "disable_ipv6").write_text("0" if dual else "1")
            if dual and role not in plan.HOSTS:
                Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
            for conf in Path("/proc/sys/net/ipv4/conf").iterdir():
                (conf / "rp_filter").write_text("0")
                # A hairpin leaves by the interface by which it came.
                (conf / "send_redirects").write_text("0")
            # If the machine's kernel shows bridged frames to the rules for routed packets, not those of a LAN here.
            bridged = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
            if bridged.exists():
                bridged.write_text("0")
            if role not in plan.HOSTS:
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            elif self._window:
                Path("/proc/sys/net/ipv4/tcp_rmem").write_text(f"4096 131072 {self._window}")
                Path("/proc/sys/net/ipv4/tcp_wmem").write_text(f"4096 16384 {self._window}")

    def _rules(self, router: str) -> str:
        kind = self.kinds[router]
        return (
            "" if kind is None or isinstance(kind, TunKind) else nat.ruleset(kind, "wan", "lan", self._outside(router))
        )

    def _outside(self, router: str) -> str:
        home = self._site(router)
        return self.public_addr(router) if router == home.edge else home.behind_carrier

    def _site(self, router: str) -> plan.Site:
        return next(home for home in self._sites.values() if router in (home.router, home.edge))

    # Addresses and counters

    @property
    def server_addresses(self) -> tuple[str, str]:
        """The two public addresses of the server."""
        return plan.SERVER_ADDRESSES

    def addr(self, role: str) -> str:
        """Return the address that `role` itself sees: private for alice and bob behind a NAT."""
        for home in self._sites.values():
            if role in home.hosts:
                return home.hosts[role]
        return self.server_addresses[0] if role == "srv" else self.public_addr(role)

    def public_addr(self, router: str) -> str:
        """Return the address under which a router's host is seen, as it is now."""
        home = self._site(router)
        return home.public(self._generation[home.router])

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
        return syns.parse(self.run(side, syns.LIST, check=True).stdout)

    # Changes while programs run

    @contextlib.contextmanager
    def cross_traffic(self, side: str, per_second: float, *, seconds: float = 60.0) -> Iterator[None]:
        """Another host behind the NAT of alice or bob connects to the server, `per_second` times.

        Begun when the context is entered; ends with it, or after `seconds`. The other host has the
        LAN address of the router, and the server refuses it. Raises `LabError` for a side without
        NAT and for more than `crosstraffic.MOST` a second.
        """
        router = self._router_of[side]
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

    def _kernel_nat(self, router: str) -> bool:
        kind = self.kinds[router]
        if isinstance(kind, TunKind):
            raise LabError(f"the NAT of {router} forgets nothing")
        return kind is not None

    def flush_nat(self, *routers: str) -> None:
        """Make routers forget every flow, mapping and permission; nothing to do where there is no NAT.

        Raises `LabError` for a `TunKind`.
        """
        nats = [router for router in routers if self._kernel_nat(router)]
        run_all([self.nft_job(router, nat.forget()) for router in nats])
        run_all([(inside(self.names[router], ["conntrack", "-F"]), "") for router in nats])

    def reboot_nat(self, router: str, *, new_address: bool = False) -> None:
        """Restart a router: it forgets everything and may come back with another public address.

        Raises `LabError` for a new address without NAT, where the host itself would have it, and of
        a router behind a carrier, which does not have the public one; also for a `TunKind`.
        """
        home = self._site(router)
        if new_address and router != home.edge:
            raise LabError("the public address is the carrier's")
        if not self._kernel_nat(router):
            if new_address:
                raise LabError("a router without NAT has no address to change")
            return
        # Between losing the entries and loading the rules nothing may pass untranslated.
        hold = "type filter hook forward priority -500; policy drop;"
        self.nft(router, f"table ip lab_reboot {{\nchain hold {{ {hold} }}\n}}\n")
        if new_address:
            self._generation[home.router] += 1
            own, public = plan.move(home, self._generation[home.router])
            run_all([self.ip_job(router, own), self.ip_job("pub", public)])
        self.nft(router, self._rules(router))
        run_all([(inside(self.names[router], ["conntrack", "-F"]), "")])
        self.nft(router, "delete table ip lab_reboot\n")
