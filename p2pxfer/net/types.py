"""The parts of a reactor that this package uses, as one interface."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorMulticast,
    IReactorSocket,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
)


class Reactor(
    IReactorTime,
    IReactorTCP,
    IReactorUDP,
    IReactorMulticast,
    IReactorFDSet,
    IReactorSocket,
    IReactorThreads,
    IReactorCore,
):
    """Time, TCP, UDP, sockets, descriptors and threads: every reactor of POSIX provides all of them."""
