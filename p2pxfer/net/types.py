"""The parts of a reactor that this package uses, as one interface."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorSocket,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)


class Reactor(IReactorTime, IReactorTCP, IReactorFDSet, IReactorSocket, IReactorThreads, IReactorCore):
    """Time, TCP, sockets, descriptors and threads: every reactor of POSIX provides all of them."""
