"""Who may take up a place at the server before it is known who they are: rates, caps and absolute deadlines.

Laws of this machine:

1. A deadline starts when the connection is accepted and no byte moves it: ``tls_s`` for the handshake, then ``first_s``
   for the first message.
2. When the places before authentication are used up, the connection that has held one longest has to go: first among
   those of the same source, then of all.  So a flood slows newcomers down, and silence never blocks them.
3. A source is one IPv4 address or one IPv6 /64; an IPv4 address wrapped in IPv6 is that IPv4 address.
4. Connections that are known are never ended here.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.core.addresses import Address, source_network
from p2pxfer.core.limits import Bucket


def descriptor_ceiling() -> int:
    """How many connections this process may hold: 80 % of its soft limit for open descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else int(soft * 0.8)


class AdmissionSettings(Struct, frozen=True):
    """Times in seconds, rates per second, numbers of connections."""

    tls_s: float = 10.0
    first_s: float = 5.0
    accept_rate: float = 200.0
    accept_burst: float = 400.0
    pending: int = 1024
    pending_per_source: int = 32
    per_source: int = 64
    ceiling: int = 1 << 20


class Visitor:
    """One accepted connection, from the first packet to its end.  ``abort`` ends it at once."""

    __slots__ = ("_abort", "_admission", "_timer", "source")

    def __init__(self, admission: Admission, source: str, abort: Callable[[], None]) -> None:
        self.source = source
        self._admission = admission
        self._abort = abort
        self._timer: IDelayedCall | None = None

    def handshaken(self) -> None:
        """TLS stands: the first message has ``first_s`` seconds."""
        self._set_deadline(self._admission.settings.first_s)

    def settled(self) -> None:
        """The first message came: no deadline any more."""
        self._set_deadline(None)
        self._admission.settled(self)

    def gone(self) -> None:
        """The connection ended; may be called again."""
        self._set_deadline(None)
        self._admission.gone(self)

    def expel(self) -> None:
        """End the connection; :meth:`gone` follows when its socket is closed."""
        self._set_deadline(None)
        self._abort()

    def arrive(self) -> None:
        """The connection was accepted: TLS has ``tls_s`` seconds."""
        self._set_deadline(self._admission.settings.tls_s)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._admission.clock.callLater(seconds, self.expel)


class Admission:
    """Counts the connections of one server."""

    def __init__(self, clock: IReactorTime, settings: AdmissionSettings) -> None:
        self.clock = clock
        self.settings = settings
        self.refused = 0
        self.evicted = 0
        self._accepts = Bucket(settings.accept_rate, settings.accept_burst, clock.seconds())
        self._sources: dict[str, dict[Visitor, None]] = {}
        self._pending: dict[Visitor, None] = {}
        self._pending_of: dict[str, dict[Visitor, None]] = {}
        self._total = 0

    @property
    def total(self) -> int:
        """Connections that exist now."""
        return self._total

    @property
    def pending(self) -> int:
        """Connections that have not sent their first message."""
        return len(self._pending)

    def admit(self, address: Address, abort: Callable[[], None]) -> Visitor | None:
        """Let a connection from ``address`` in, or return None; ``abort`` is how to end it later."""
        settings = self.settings
        source = source_network(address)
        allowed = self._accepts.take(self.clock.seconds())
        if not allowed or len(self._sources.get(source, ())) >= settings.per_source:
            self.refused += 1
            return None
        if self._total >= settings.ceiling and not self._evict(self._pending):
            self.refused += 1
            return None
        if len(self._pending_of.get(source, ())) >= settings.pending_per_source:
            self._evict(self._pending_of[source])
        if len(self._pending) >= settings.pending:
            self._evict(self._pending)
        visitor = Visitor(self, source, abort)
        self._total += 1
        self._sources.setdefault(source, {})[visitor] = None
        self._pending[visitor] = None
        self._pending_of.setdefault(source, {})[visitor] = None
        visitor.arrive()
        return visitor

    def settled(self, visitor: Visitor) -> None:
        """See :meth:`Visitor.settled`."""
        self._pending.pop(visitor, None)
        _discard(self._pending_of, visitor)

    def gone(self, visitor: Visitor) -> None:
        """See :meth:`Visitor.gone`."""
        self.settled(visitor)
        if visitor in self._sources.get(visitor.source, ()):
            _discard(self._sources, visitor)
            self._total -= 1

    def _evict(self, queue: dict[Visitor, None]) -> bool:
        """Expel the first of ``queue``, which gives its place back at once."""
        oldest = next(iter(queue), None)
        if oldest is None:
            return False
        self.evicted += 1
        self.gone(oldest)
        oldest.expel()
        return True


def _discard(groups: dict[str, dict[Visitor, None]], visitor: Visitor) -> None:
    group = groups.get(visitor.source)
    if group is not None:
        group.pop(visitor, None)
        if not group:
            del groups[visitor.source]
