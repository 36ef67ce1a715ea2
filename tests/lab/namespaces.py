"""Network namespaces: names, entering, running commands inside, and removal.

A name is `p2x-<owner pid>-<random>-<role>`. The owner's pid makes the leftovers of a killed test
run recognisable, the random part lets one process hold many labs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path("/run/netns")
TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "miniupnpd": "miniupnpd-nftables",
}

_CLONE_NEWNET = 0x40000000
_NAME = re.compile(r"p2x-(\d+)-[0-9a-f]{6}-[a-z_]+")
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """A command that builds or changes the lab failed; the text holds its complaint."""


def fresh_names(roles: Iterable[str]) -> dict[str, str]:
    """Return a namespace name for each role, owned by this process and used by nobody else."""
    prefix = f"p2x-{os.getpid()}-{secrets.token_hex(3)}"
    return {role: f"{prefix}-{role}" for role in roles}


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Put the calling thread into namespace `name`; sockets opened inside stay in it for life.

    Raises `OSError` if the namespace is gone or may not be entered.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(ROOT / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def inside(name: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in namespace `name`, in place and without a shell."""
    return ["nsenter", f"--net={ROOT / name}", "--", *argv]


def run_all(jobs: Sequence[tuple[Sequence[str], str]]) -> None:
    """Run commands side by side, each with a text on its standard input.

    Raises `LabError` with command, complaint and input of the first one that failed.
    """
    running: list[tuple[subprocess.Popen[str], str]] = []
    try:
        for argv, text in jobs:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            running.append((child, text))
            assert child.stdin is not None
            # All texts are far smaller than a pipe's buffer, so this cannot block.
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(text)
                child.stdin.flush()
                child.stdin.close()
            child.stdin = None
        failures = [failure for job in running if (failure := _failure(*job))]
    finally:
        for child, _ in running:
            if child.poll() is None:
                child.kill()
                child.wait()
    if failures:
        raise LabError(failures[0])


def _failure(child: subprocess.Popen[str], text: str) -> str | None:
    _, complaint = child.communicate(timeout=20)
    if child.returncode == 0:
        return None
    return f"{child.args!r} ended with {child.returncode}: {complaint.strip()}\n{text}"


def create(names: Iterable[str], links: str) -> None:
    """Make the namespaces and then the links, given as lines for `ip -batch`."""
    lines = "".join(f"netns add {name}\n" for name in names)
    run_all([(["ip", "-batch", "-"], lines + links)])


def remove(names: Iterable[str]) -> None:
    """Kill every process inside the namespaces, then delete them; those already gone are fine.

    On return each process is dead, though perhaps not collected yet, daemons that left their group included.
    Raises `LabError` if a process or a namespace does not go.
    """
    present = [name for name in names if (ROOT / name).exists()]
    if not present:
        return
    with _held(present) as inodes:
        _kill_all(inodes)
        _delete(present)
        # One that had opened a namespace's file and not yet entered it was not to be seen before; no more can come.
        _kill_all(inodes)


def _delete(names: Sequence[str]) -> None:
    # Another process may be clearing the same stale lab: -force goes on after a missing name.
    subprocess.run(
        ["ip", "-force", "-batch", "-"],
        input="".join(f"netns del {name}\n" for name in names),
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )
    left = [name for name in names if (ROOT / name).exists()]
    if left:
        raise LabError(f"could not remove the namespaces {left}")


@contextlib.contextmanager
def _held(names: Iterable[str]) -> Iterator[set[int]]:
    """The inodes of the namespaces that exist; while they are held, their numbers are given to no other namespace."""
    with contextlib.ExitStack() as stack:
        inodes = set()
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                held = os.open(ROOT / name, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, held)
                inodes.add(os.fstat(held).st_ino)
        yield inodes


def _kill_all(inodes: set[int], patience: float = 2.0) -> None:
    deadline = time.monotonic() + patience
    while pids := _living_in(inodes):
        slow = [pid for pid in pids if not _killed(pid, inodes, deadline)]
        if slow:
            raise LabError(f"processes {slow} survive SIGKILL")


def _killed(pid: int, inodes: set[int], deadline: float) -> bool:
    """Kill one process and wait for its end; False if that does not come before `deadline`."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # The handle is open now, so a process that has taken over the number is told apart here.
        if not _is_in(pid, inodes):
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        # A dying process leaves its namespace some time before it is dead: only the handle says when it is.
        end = select.poll()
        end.register(handle, select.POLLIN)
        return bool(end.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(handle)


def _living_in(inodes: set[int]) -> list[int]:
    pids = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _is_in(pid, inodes)]


def _is_in(pid: int, inodes: set[int]) -> bool:
    # A zombie has no namespace any more, so only the living are found.
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino in inodes
    except OSError:
        return False


def cleanup_stale() -> list[str]:
    """Remove the namespaces of labs whose owner is dead and return their names."""
    if not ROOT.is_dir():
        return []
    stale = []
    for entry in os.scandir(ROOT):
        match = _NAME.fullmatch(entry.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            stale.append(entry.name)
    remove(stale)
    return stale
