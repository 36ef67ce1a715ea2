"""For all tests: the guards of `tests/guard.py`, and the options and marks that go with them."""

from __future__ import annotations

import gc
import inspect
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import greenlet
import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings

from scripts.product import Program
from tests import guard
from tests.eventcheck import Faults

ON_REACTOR = tuple(Path(__file__).parent / folder for folder in ("net", "cli"))
"""All tests of these folders are checked for what they leave in the reactor, the synchronous ones too."""
_deadline = pytest.StashKey[guard.Deadline]()


# What an example takes says how busy the machine is; and what is drawn anew in each run fails by chance one day.
# What the default is depends on whether a service runs the tests (CI is set).
_QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("every run", _QUIET, derandomize=True)
settings.register_profile("long runs", _QUIET, derandomize=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch for long runs."""
    parser.addoption("--soak", action="store_true", help="run the tests marked soak too, and draw new examples")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known; a coroutine that nobody awaits is an error; long runs look for new examples."""
    settings.load_profile("long runs" if config.getoption("--soak") else "every run")
    # Under nohup, or in the background of a script, the programs that tests start would ignore these signals as well,
    # and live on where they should end them.
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    config.addinivalue_line("markers", f"deadline(seconds): fail the test after so long (default {guard.DEADLINE:g})")
    config.addinivalue_line("markers", "on_reactor: check that the test leaves the reactor empty (async ones always)")
    config.addinivalue_line("filterwarnings", "error:coroutine .* was never awaited:RuntimeWarning")
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what runs in this process's reactor, and leave out the long runs unless they are asked for."""
    for item in items:
        if any(folder in item.path.parents for folder in ON_REACTOR):
            item.add_marker(pytest.mark.on_reactor)
    if config.getoption("--soak"):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_collection_finish() -> None:
    """Spare the collector after each test the modules, which live until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Watch set-up, test and clean-up together."""
    from twisted.internet import reactor

    marker = item.get_closest_marker("deadline")
    seconds = float(marker.args[0]) if marker else guard.DEADLINE
    with guard.Deadline(seconds, reactor, _reactor_greenlet()) as deadline:
        item.stash[_deadline] = deadline
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Tell the deadline which Deferred the test waits for."""
    deadline = pyfuncitem.stash[_deadline]
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if hypothesis is None:
        pyfuncitem.obj = deadline.watch(pyfuncitem.obj)
        return (yield)
    inner = hypothesis.inner_test
    hypothesis.inner_test = deadline.watch(inner)
    try:
        return (yield)
    finally:
        # The same function serves the next set of parameters, and pytest-twisted would wrap it again.
        hypothesis.inner_test = inner


@pytest.fixture(scope="session", autouse=True)
def _started_reactor() -> None:
    """Let the reactor open what it needs for itself before anything is compared."""
    from twisted.internet import reactor, task

    pytest_twisted.blockon(task.deferLater(reactor, 0))


@pytest.fixture(autouse=True)
def lost_errors(request: pytest.FixtureRequest) -> Iterator[guard.LostErrors]:
    """Fail the test for errors that only the log saw; `lost_errors.flush(Kind)` takes out expected ones."""
    from twisted.internet import reactor

    with guard.LostErrors() as lost:
        if _on_reactor(request.node):
            with guard.guarded_reactor(reactor, pytest_twisted.blockon, lost):
                yield lost
        else:
            yield lost
            guard.fail_for(lost)


@pytest.fixture(autouse=True)
def _published_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test if a program prints an event that the published schema does not have."""
    faults = Faults()
    monkeypatch.setattr(Program, "listener", staticmethod(faults.hear))
    yield
    assert not faults.found, "\n".join(faults.found)


def _on_reactor(item: Any) -> bool:
    function = getattr(item, "obj", None)
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    marked = hasattr(inner, "_pytest_twisted_mark") or inspect.iscoroutinefunction(inner)
    return marked or item.get_closest_marker("on_reactor") is not None


def _reactor_greenlet() -> greenlet.greenlet | None:
    return pytest_twisted._instances.gr_twisted
