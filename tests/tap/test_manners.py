"""How a service that cannot be ends: one line, and a status that says whether trying again may help."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]  # Twisted does not say that it exports it

from p2pxfer.errors import ConfigError, DiskError, UsageError
from p2pxfer.net.agent.room import Room
from p2pxfer.tap.manners import name_files, stop, stop_once


@pytest.mark.parametrize("program", ["p2pxfer-agent", "p2pxfer-rendezvous"])
@pytest.mark.parametrize(
    ("words", "pidfile", "logfile"),
    [
        ([], "PROGRAM.pid", "PROGRAM.log"),
        (["-n"], "PROGRAM.pid", None),
        (["--pidfile=other", "--logfile=here"], "other", "here"),
        (["--pidfile", "mine", "--syslog"], "mine", None),
    ],
)
def test_a_program_of_twistd_has_files_of_its_own(
    program: str, words: list[str], pidfile: str, logfile: str | None
) -> None:
    options = ServerOptions()
    options.parseOptions([*words, program])
    assert Path(options["pidfile"]).name == pidfile.replace("PROGRAM", program)
    assert options["logfile"] == (logfile and logfile.replace("PROGRAM", program))


@pytest.mark.parametrize("program", ["p2pxfer-agent", "p2pxfer-rendezvous"])
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nothing"], "option --nothing not recognized"),
        (["--home"], "option --home requires argument"),
        (["here"], "Wrong number of arguments."),
    ],
)
def test_a_slip_is_one_line_and_wrong_use(
    program: str, words: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--state" if word == "--home" and program == "p2pxfer-rendezvous" else word for word in words]
    with pytest.raises(SystemExit) as caught:
        ServerOptions().parseOptions(["-n", program, *words])
    assert caught.value.code == UsageError.exit_code == 2
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = set(said.err.splitlines())
    assert line == f"{program}: {says.replace('--home', words[0])}; twistd {program} --help lists the options"


def test_a_program_of_twist_has_none() -> None:
    options = {"reactor": "default"}
    name_files(options, "prog")
    name_files(None, "prog")
    assert options == {"reactor": "default"}


def status(error: ConfigError | UsageError) -> object:
    with pytest.raises(SystemExit) as caught:
        stop("prog", error)
    return caught.value.code


def test_a_limit_that_is_reached_is_no_wrong_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As on a machine with no descriptors left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(ConfigError, match="Too many open files") as caught:
            Room(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert status(caught.value) == DiskError.exit_code
    assert f"prog: {caught.value}\n" in capfd.readouterr().err


def test_what_somebody_must_mend_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="File exists") as caught:
        Room(tmp_path / "file")
    assert status(caught.value) == ConfigError.exit_code == 2
    assert status(ConfigError("a key is wrong")) == 2
    assert status(UsageError("an option is wrong")) == 2


@pytest.mark.parametrize(
    ("code", "expected"), [("EIO", 8), ("ENOSPC", 8), ("ESTALE", 8), ("ENOTCONN", 8), ("EACCES", 2), ("EROFS", 2)]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_system_says_decides(code: str, expected: int, wrapped: bool) -> None:
    fault: Exception = OSError(getattr(errno, code), code)
    error = ConfigError("it cannot be read")
    error.__cause__ = CannotListenError(None, "socket", fault) if wrapped else fault
    assert status(error) == expected


def test_only_who_stops_what_stops_already_meets_no_fault() -> None:
    """Whoever does it before the reactor runs has to hear that nothing came of it."""

    class Reactor(ReactorBase):
        def installWaker(self) -> None:
            """Nothing runs that could be woken."""

        def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
            return []

    reactor = Reactor()
    stop_once(reactor)
    stop_once(reactor)
    with pytest.raises(ReactorNotRunning):
        reactor.stop()
    reactor.startRunning()
    for _ in range(3):
        reactor.stop()
    reactor.runUntilCurrent()
    assert not reactor.running
