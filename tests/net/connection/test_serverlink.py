"""A relay leg and the ways in which it may be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IHandshakeListener
from zope.interface import implementer

from p2pxfer.core.framing import FrameDecoder
from p2pxfer.core.messages import ALPN_PEER, ALPN_SERVER, SERVER, JoinRelay, RelayReady
from p2pxfer.net.connection.securing import start_tls
from p2pxfer.net.connection.serverlink import RelayLeg
from p2pxfer.net.connection.tls import PeerTLS
from p2pxfer.net.private.identity import new_identity
from tests.net.tlskit import Upper, reactor, tcp_pair

TOKEN = bytes(range(32))
SERVER_TLS = PeerTLS(new_identity(), None, ALPN_SERVER)
LEG_TLS = PeerTLS(new_identity(), None, ALPN_SERVER)
INNER_TLS = PeerTLS(new_identity(), None, ALPN_PEER)
STACKS = pytest.mark.parametrize("on_socket", [True, False])


@implementer(IHandshakeListener)
class CancelledOnTheWay(RelayLeg):
    """A leg that somebody gives up as soon as TCP stands."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.joined.cancel()


async def end_of(make: Callable[..., RelayLeg], on_socket: bool, *, cancelled: bool) -> tuple[RelayLeg, Upper, Upper]:
    """Connect a leg; returns it, its inner protocol and the server's end when that one heard something or ended."""
    inner: Any = Upper()
    leg = make(reactor, TOKEN, inner, INNER_TLS, True)
    leg.joined.addErrback(lambda failure: failure.trap(CancelledError))
    if cancelled:
        leg.joined.cancel()
    dialling, listening = await tcp_pair()
    server = Upper()
    start_tls(listening.transport, server, SERVER_TLS, is_client=False, reactor=reactor, on_socket=on_socket)
    start_tls(dialling.transport, leg, LEG_TLS, is_client=True, reactor=reactor, on_socket=on_socket)
    either: list[Deferred[Any]] = [server.got(1), server.ended]
    await DeferredList(either, fireOnOneCallback=True)
    return leg, inner, server


@STACKS
@pytest_twisted.ensureDeferred
async def test_a_leg_shows_its_token_and_carries_the_inner_protocol(on_socket: bool) -> None:
    leg, inner, server = await end_of(RelayLeg, on_socket, cancelled=False)
    frame = next(iter(FrameDecoder(SERVER.caps([JoinRelay])).feed(bytes(server.received))))
    message = SERVER.decode(frame)
    assert isinstance(message, JoinRelay) and message.token == TOKEN
    peer = Upper()
    server.transport.write(SERVER.encode(RelayReady()))
    start_tls(server.transport, peer, INNER_TLS, is_client=False, reactor=reactor)
    stands: object = await leg.joined
    assert stands is inner
    assert await inner.secured and await peer.secured
    peer.transport.abortConnection()
    await peer.ended
    await inner.ended


@STACKS
@pytest.mark.parametrize("make", [RelayLeg, CancelledOnTheWay])
@pytest_twisted.ensureDeferred
async def test_a_leg_that_was_given_up_never_shows_its_token(make: Callable[..., RelayLeg], on_socket: bool) -> None:
    """Before TCP stood there was nothing to abort, and nobody stops the dial."""
    _, inner, server = await end_of(make, on_socket, cancelled=make is RelayLeg)
    shown = bytes(server.received)
    server.transport.abortConnection()
    if not server.ended.called:
        await server.ended
    assert not shown and inner.transport is None
