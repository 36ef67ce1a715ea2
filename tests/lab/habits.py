"""What networks do to their customers beside translating: ports and ways that are closed, and a short memory."""

from __future__ import annotations

from tests.lab.topology import Lab

WEB_ONLY = 'iifname "lan" oifname "wan" ct state new tcp dport != { 80, 443 }'
"""What a router drops that lets nobody out but to the ports of the web."""
UNANSWERED_S = 2
"""How long a NAT with a short memory remembers a SYN that nobody answers, seconds."""
QUIET_S = 15
"""How long it remembers a connection on which nothing is said, seconds."""


def allow_web_only(lab: Lab, router: str) -> None:
    """Let nobody behind a router dial but to the ports of the web; answers to what comes in may leave."""
    lab.block(router, WEB_ONLY)


def shorten_memory(lab: Lab, router: str, quiet: int = QUIET_S) -> None:
    """Make a NAT forget soon; ``quiet`` is for connections on which something is said from now on, seconds."""
    lab.sysctl(router, "net/netfilter/nf_conntrack_tcp_timeout_syn_sent", str(UNANSWERED_S))
    lab.sysctl(router, "net/netfilter/nf_conntrack_tcp_timeout_established", str(quiet))


def keep_to_the_relay(lab: Lab) -> None:
    """The two NATs do not reach each other any more."""
    outside = ", ".join(lab.public_addr(router) for router in ("nat_a", "nat_b"))
    lab.block("pub", f"ip saddr {{ {outside} }} ip daddr {{ {outside} }}")
