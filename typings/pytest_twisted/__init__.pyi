"""Types of what the tests use of pytest-twisted, which has none of its own (1.14.3)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from _pytest.fixtures import FixtureFunctionDefinition
from greenlet import greenlet
from twisted.internet.defer import Deferred

_T = TypeVar("_T")
_Test = TypeVar("_Test", bound=Callable[..., Awaitable[None]])

class _Instances(Protocol):
    """The reactor's own greenlet, once the plugin is configured."""

    gr_twisted: greenlet | None

_instances: _Instances

def blockon(d: Deferred[_T]) -> _T: ...
def ensureDeferred(f: _Test) -> _Test: ...
def async_fixture(f: Callable[..., Awaitable[object]]) -> FixtureFunctionDefinition: ...
def async_yield_fixture(f: Callable[..., AsyncIterator[object]]) -> FixtureFunctionDefinition: ...
