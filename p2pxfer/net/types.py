"""The parts of a reactor that this package uses, as one interface."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorCore, IReactorFDSet, IReactorTCP, IReactorThreads, IReactorTime


class Reactor(IReactorTime, IReactorTCP, IReactorFDSet, IReactorThreads, IReactorCore):
    """Time, TCP, descriptors and threads: every reactor of POSIX provides all of them."""
