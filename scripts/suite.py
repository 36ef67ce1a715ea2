"""Runs the checks and the tests, up to four jobs at a time, and ends with a verdict and one line of counts.

The tests of the lab wait for networks most of their time, the others compute.  So beside one job that computes there
are two of the lab, as long as there are any, and one of those files that do hardly anything but wait.  Each file of the
lab and of the tests with whole programs is a job of its own.  A job's output is printed when it ends, whole.  With
arguments there is one job, pytest with these arguments, and its output is seen as it comes.

A test with real programs, networks, sockets, threads or disks measures the machine too, and what else it does at the
moment.  So when a few tests fail, they alone are run once more, with nothing beside them, unless a test of `tests/core`
is among them: what is tested there does no I/O.  One that passes then is named as unstable in the verdict and in the
counts; one that fails again, or more than a few at once, is a failure, as is a check or a job that ends in another way.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKERS = (
    ("computing", "lab", "waiting"), ("lab", "computing", "waiting"), ("lab", "computing", "waiting"), ("waiting",)
)  # fmt: skip
"""Where each of those who run jobs looks for the next one, in this order: together they keep two processors busy."""
SHORT = 40 * 60.0
"""Seconds after which a run has hung, unless long runs are asked for; two quiet processors need some 20 minutes."""
SOAK = 6 * 3600.0
PATIENCE = 10.0
"""Seconds between the signals that end a job, each stronger than the last."""

LONG = {
    "tests/e2e/test_agent.py": 110,
    "tests/e2e/test_errors.py": 81,
    "tests/e2e/test_failpoints.py": 93,
    "tests/e2e/test_kills.py": 112,
    "tests/e2e/test_pipe.py": 97,
    "tests/e2e/test_queue.py": 86,
    "tests/e2e/test_streams.py": 106,
    "tests/lab/test_agent.py": 90,
    "tests/lab/test_asleep.py": 79,
    "tests/lab/test_chat.py": 69,
    "tests/lab/test_checks.py": 166,
    "tests/lab/test_discovery.py": 160,
    "tests/lab/test_hard_pairs.py": 127,
    "tests/lab/test_lost_paths.py": 77,
    "tests/lab/test_mapped.py": 93,
    "tests/lab/test_paths.py": 225,
    "tests/lab/test_slow_lines.py": 107,
    "tests/lab/test_user_space_nats.py": 100,
    "tests/lab/test_wide_paths.py": 63,
}
"""Files that took more than a minute in a run, and their seconds; started late, one of them would run on alone."""
WAITING = {
    "tests/lab/test_asleep.py",
    "tests/lab/test_checks.py",
    "tests/lab/test_discovery.py",
    "tests/lab/test_hard_pairs.py",
    "tests/lab/test_roaming.py",
    "tests/lab/test_second_try.py",
    "tests/lab/test_slow_lines.py",
    "tests/lab/test_two_ways.py",
    "tests/lab/test_user_space_nats.py",
}
"""Files that compute for a third of their time at most."""
SOURCES = ("p2pxfer", "scripts", "tests", "twisted", "typings")
CHECKS = {
    "ruff format --check": ["ruff", "format", "--check", *SOURCES],
    "ruff check": ["ruff", "check", *SOURCES],
    "mypy": ["mypy"],
}
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_TESTS_FAILED, _NO_TESTS = 1, 5
"""Exit codes of pytest; with another one than these it broke off, or was broken off."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/(?!core/)\S+?::.+?)(?: - .*)?$", re.MULTILINE)
_STOPPED = re.compile(r"^!+ .+ !+$", re.MULTILINE)
"""Where pytest says that it has not run all tests; which they are nobody knows."""
SECOND_TRIES = 3
"""More tests than this that fail in one run are not explained by a busy machine."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command with a name; `is_tests`: it is pytest, and its counts are added up; `lane`: for which of `WORKERS`."""

    name: str
    argv: Sequence[str]
    is_tests: bool = True
    lane: str = "computing"


@dataclass(slots=True)
class Outcome:
    """What is known when all jobs are over."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    doubtful: dict[str, list[str]] = field(default_factory=dict)
    """Failed tests, by job, of the jobs in which nothing failed that may not be tried a second time."""
    unstable: list[str] = field(default_factory=list)
    """Tests that failed, and passed with nothing beside them."""


class Runner:
    """Starts the jobs' processes, each in a group of its own, and ends them all at the deadline or on interruption."""

    def __init__(self, seconds: float) -> None:
        """All jobs together may take `seconds` from now."""
        self._end = time.monotonic() + seconds
        self._print = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, job: Job, outcome: Outcome, *, live: bool = False) -> None:
        """Run one job to its end and enter its result."""
        if self._stopped:
            return
        started = time.monotonic()
        output, code = self._collect(job, live=live)
        counts = tally(output) if job.is_tests else Counter()
        idle = job.is_tests and code == _NO_TESTS
        with self._print:
            if not live:
                print(f"\n== {job.name} ({time.monotonic() - started:.0f} s)\n{output.rstrip()}", flush=True)
            again = second_tries(output, counts)
            if again:  # one that failed and could not be cleaned up is one
                counts["failed"] = len(again)
            outcome.counts.update(counts)
            if code and not idle:
                outcome.broken.append(job.name)
                if again and code == _TESTS_FAILED:
                    outcome.doubtful[job.name] = again

    def _collect(self, job: Job, *, live: bool) -> tuple[str, int]:
        child = subprocess.Popen(
            job.argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._running.add(child)
        watch = threading.Timer(max(0.0, self._end - time.monotonic()), self._give_up, [child])
        watch.daemon = True
        watch.start()
        parts = []
        assert child.stdout is not None
        for line in child.stdout:
            parts.append(line)
            if live:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
        code = child.wait()
        watch.cancel()
        self._running.discard(child)
        return b"".join(parts).decode(errors="replace"), code

    def _give_up(self, child: subprocess.Popen[bytes]) -> None:
        with self._print:
            print(f"\nout of time: ending {' '.join(map(str, child.args))}", flush=True)  # type: ignore[arg-type]  # argv
        # Interrupted, pytest says where it was and cleans up; aborted, it shows the stacks of all threads.
        for number in (signal.SIGINT, signal.SIGABRT, signal.SIGKILL):
            _signal_group(child, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)
                return

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Leave no process behind, whichever way this is left."""
        try:
            yield
        finally:
            self._stopped = True
            for child in list(self._running):
                # pytest removes the lab's namespaces when it is interrupted.
                _signal_group(child, signal.SIGINT)
            for child in list(self._running):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(PATIENCE)
                _signal_group(child, signal.SIGKILL)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def tally(output: str) -> Counter[str]:
    """The counts of pytest's last line; errors, as in a fixture, count as failures."""
    for line in reversed(output.splitlines()):
        found = _COUNT.findall(line)
        if found and " in " in line:
            counts: Counter[str] = Counter()
            for number, word in found:
                counts["failed" if word.startswith(("error", "xpass")) else word] += int(number)
            return counts
    return Counter()


def second_tries(output: str, counts: Counter[str]) -> list[str]:
    """The tests that failed, by pytest's summary, each once; none if they are not all that went wrong in the job."""
    failed = _FAILED.findall(output)
    if len(failed) != counts["failed"] or _STOPPED.search(output):
        return []
    return list(dict.fromkeys(failed))


def pytest_job(name: str, *arguments: str, lane: str = "computing") -> Job:
    """A run of pytest with these arguments."""
    return Job(name, [sys.executable, "-m", "pytest", "--color=no", "-q", "-ra", *arguments], lane=lane)


def test_jobs(options: Sequence[str]) -> list[Job]:
    """The jobs of a whole run, in each lane those of `LONG` first, the longest of them at the head.

    A file of `WAITING` is for that lane, whatever its folder.
    """
    others = ["tests", "--ignore=tests/lab", "--ignore=tests/e2e"]
    jobs = [pytest_job("tests but those of the lab and of whole programs", *others, *options)]
    for folder, lane in (("e2e", "computing"), ("lab", "lab")):
        sizes = {
            str(path.relative_to(ROOT)): path.stat().st_size for path in (ROOT / "tests" / folder).rglob("test_*.py")
        }
        names = sorted(sizes, key=lambda name: (LONG.get(name, 0), sizes[name]), reverse=True)
        jobs += [pytest_job(name, name, *options, lane="waiting" if name in WAITING else lane) for name in names]
    return jobs


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _whole_run(runner: Runner, options: Sequence[str], outcome: Outcome) -> None:
    jobs = [Job(name, argv, is_tests=False) for name, argv in CHECKS.items()] + test_jobs(options)
    queues = {lane: deque(job for job in jobs if job.lane == lane) for lane in WORKERS[0]}

    def work(lanes: Sequence[str]) -> None:
        """Run one job after the other, while there are any."""
        while queue := next((queues[lane] for lane in lanes if queues[lane]), None):
            try:
                job = queue.popleft()
            except IndexError:  # somebody else was quicker
                continue
            runner.run(job, outcome)

    with concurrent.futures.ThreadPoolExecutor(len(WORKERS)) as pool, runner.stopping():
        for each in concurrent.futures.as_completed([pool.submit(work, lanes) for lanes in WORKERS]):
            each.result()
        for name in list(outcome.doubtful) if _few(outcome) else ():
            _try_again(runner, name, options, outcome)


def _few(outcome: Outcome) -> bool:
    return set(outcome.broken) == set(outcome.doubtful) and outcome.counts["failed"] <= SECOND_TRIES


def _try_again(runner: Runner, name: str, options: Sequence[str], outcome: Outcome) -> None:
    tests, again = outcome.doubtful[name], Outcome()
    runner.run(pytest_job(f"{name}, a second time and alone: {', '.join(tests)}", *tests, *options), again)
    if again.broken or again.counts["passed"] != len(tests):
        return
    outcome.broken.remove(name)
    outcome.unstable += tests
    outcome.counts["failed"] -= len(tests)
    outcome.counts["unstable"] += len(tests)


def _names_tests(arguments: Sequence[str]) -> bool:
    return any((ROOT / argument.partition("::")[0]).exists() for argument in arguments if argument[:1] != "-")


def main(arguments: Sequence[str]) -> int:
    """Run everything, or what the arguments name; 0 if nothing failed, 130 if interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    runner, outcome = Runner(SOAK if "--soak" in arguments else SHORT), Outcome()
    try:
        if _names_tests(arguments):
            with runner.stopping():
                runner.run(pytest_job("pytest", *arguments), outcome, live=True)
        else:
            _whole_run(runner, arguments, outcome)
    except KeyboardInterrupt:
        outcome.broken.append("interrupted")
    counts = outcome.counts
    if not counts["passed"] and not outcome.broken:
        outcome.broken.append("no test ran")
    good = not outcome.broken and not counts["failed"]
    for test in outcome.unstable:
        print(f"\nUNSTABLE, failed once and passed alone: {test}")
    print(f"\n{'PASS' if good else 'FAIL: ' + ', '.join(outcome.broken)}")
    others = "".join(f", {counts[word]} {word}" for word in ("unstable", "skipped") if counts[word])
    print(f"{counts['passed']} passed, {counts['failed']} failed{others}", flush=True)
    return 130 if "interrupted" in outcome.broken else 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
