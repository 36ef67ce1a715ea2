"""Being at a place of the lab: running programs, opening sockets, changing the kernel's settings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.lab.namespaces import entered, fresh_names, inside, remove, run_all

Output = int | IO[Any] | None


class Places:
    """Named namespaces, and what was started in them."""

    def __init__(self, roles: Sequence[str]) -> None:
        """Choose a namespace name for each role; nothing is made yet."""
        self.names = fresh_names(roles)
        self._children: list[subprocess.Popen[Any]] = []
        self._sockets: list[socket.socket] = []

    def close(self) -> None:
        """Kill the children, close the sockets, remove the namespaces; may be called again."""
        for child in self._children:
            end(child)
        self._children.clear()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        remove(self.names.values())

    def command(self, role: str, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` at `role`, for whoever starts processes itself."""
        return inside(self.names[role], argv)

    def run(
        self,
        role: str,
        argv: Sequence[str],
        *,
        timeout: float = 30.0,
        check: bool = False,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program at `role` to its end, its output captured as text.

        Raises `subprocess.TimeoutExpired` after `timeout` seconds (the program and its process
        group are killed) and, with `check`, `subprocess.CalledProcessError`.
        """
        source = subprocess.DEVNULL if input is None else subprocess.PIPE
        pipe = subprocess.PIPE
        child = self.popen(role, argv, stdin=source, stdout=pipe, stderr=pipe, env=env, cwd=cwd)
        try:
            output, complaint = child.communicate(input, timeout=timeout)
        finally:
            self.end(child)
        done = subprocess.CompletedProcess(list(argv), child.returncode, output, complaint)
        if check:
            done.check_returncode()
        return done

    def popen(
        self,
        role: str,
        argv: Sequence[str],
        *,
        stdin: Output = subprocess.DEVNULL,
        stdout: Output = None,
        stderr: Output = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program at `role`; its process group is killed when the lab closes.

        The process id is the program's own: nothing stands between it and the caller's signals.
        """
        child = subprocess.Popen(
            self.command(role, argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=None if env is None else dict(env),
            cwd=cwd,
            text=True,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def end(self, child: subprocess.Popen[Any]) -> None:
        """Kill a program that `popen` started, with its process group, and forget it."""
        end(child)
        self._children.remove(child)

    @contextlib.contextmanager
    def entered(self, role: str) -> Iterator[None]:
        """Put the calling thread at `role`: sockets made inside belong there for good."""
        with entered(self.names[role]):
            yield

    def socket(
        self, role: str, kind: int = socket.SOCK_STREAM, protocol: int = 0, family: int = socket.AF_INET
    ) -> socket.socket:
        """Return a new socket at `role`, of IPv4 unless told otherwise; the lab closes it at the latest."""
        with entered(self.names[role]):
            sock = socket.socket(family, kind, protocol)
        self._sockets.append(sock)
        return sock

    def ip(self, role: str, text: str) -> None:
        """Apply lines for `ip -batch` at `role`. Raises `LabError`."""
        run_all([self.ip_job(role, text)])

    def nft(self, role: str, text: str) -> None:
        """Apply text for `nft -f` at `role`; tables of one's own survive `reboot_nat`.

        Raises `LabError`.
        """
        run_all([self.nft_job(role, text)])

    def sysctl(self, role: str, key: str, value: str) -> None:
        """Write a network setting, such as "net/ipv4/tcp_syn_retries", at `role`."""
        with entered(self.names[role]):
            Path("/proc/sys", key).write_text(value)

    def ip_job(self, role: str, text: str) -> tuple[list[str], str]:
        """Return what `run_all` needs to apply lines for `ip -batch` at `role`."""
        return ["ip", "-n", self.names[role], "-batch", "-"], text

    def nft_job(self, role: str, text: str) -> tuple[list[str], str]:
        """Return what `run_all` needs to apply text for `nft -f` at `role`."""
        return inside(self.names[role], ["nft", "-f", "-"]), text


def end(child: subprocess.Popen[Any]) -> None:
    """Kill a child's process group, collect the child and close its pipes."""
    # After the child was collected its number may belong to a stranger, but the group's number
    # stays taken while a member lives; then only namespaces.remove can tell them apart.
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
