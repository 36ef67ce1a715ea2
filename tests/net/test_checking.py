"""What ``netcheck`` makes of what was found, and of what was not."""

from __future__ import annotations

from p2pxfer.cli.findings import nat_found
from p2pxfer.core.discovery import Inbound
from tests.net.test_probing import TAG, Net


def test_a_server_that_was_lost_is_named_as_the_reason() -> None:
    net = Net(lambda local, at: local)
    net.register(TAG)
    net.wait(1)
    assert "mapping" not in nat_found(net.discovery, Inbound()).why
    net.discovery.end()
    lost = nat_found(net.discovery, Inbound())
    assert (lost.mapping, lost.ports, lost.addresses) == ("unknown", "unknown", ())
    assert lost.why["mapping"] == lost.why["ports"] == "the connection to the server was lost"
