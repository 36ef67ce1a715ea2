"""Runs of one case, all in one lab with one server, and the relay forbidden.

Between runs the NATs forget everything, and nothing of a run is left in the next: a meeting is a process of its own
(`meeter`), and so is a program.  What goes wrong, wherever, is the reason of a failed run.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact
from scripts.matrixlib import meeter
from scripts.matrixlib.homes import furnished, lab_of, served
from scripts.matrixlib.meeter import PEERS, Role, home_of
from scripts.matrixlib.results import Attempt, Case
from scripts.product import STARTING, Program, ProgramError
from tests.lab.namespaces import LabError
from tests.lab.topology import Lab
from tests.scene import Scene, file_hash, random_file

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 256 << 10
"""Bytes of the file."""
LIMIT = 60.0
"""Seconds that a run may take; the product gives up by itself long before."""
NEWS_S = 10.0
"""Seconds between the nomination at one side and at the other, at most."""


class Stuck(Exception):
    """A program that should make many meetings does not do what it is told."""


FAULTS = (ProgramError, LabError, OSError, Stuck)

Found = tuple[float, float | None]
"""Milliseconds from the introduction to the nominated path, and to its TCP connection."""
Syns = tuple[int, int]
"""SYNs of sender and receiver, without those to the server."""
Run = Callable[[int], Found]
"""One run, by its number.  Raises `ProgramError` if there is no path."""


def attempts(case: Case) -> Iterator[Attempt]:
    """Run the case again and again, as often as asked.

    A lab that cannot be built, or programs that do not do what they are told, are a failed run, and the next one builds
    another lab.
    """
    while True:
        try:
            with built(case) as (lab, scene), WAYS[case.way](scene) as run:
                counted = syns_of(lab)
                for number in itertools.count():
                    done, counted = attempt(case, lab, run, number, counted)
                    yield done
                    lab.flush_nat(*lab.kinds)
        except FAULTS as error:
            yield Attempt(case, None, None, None, reason(error))


@contextlib.contextmanager
def built(case: Case) -> Iterator[tuple[Lab, Scene]]:
    """A lab with the two homes, and in it a server."""
    with (
        tempfile.TemporaryDirectory(prefix="p2pxfer-matrix-") as folder,
        lab_of(case) as lab,
        furnished(case.pair, lab, Path(folder)),
        Scene(lab, Path(folder), loopback=False) as scene,
    ):
        served(case.pair, scene)
        yield lab, scene


def attempt(case: Case, lab: Lab, run: Run, number: int, before: Syns) -> tuple[Attempt, Syns]:
    """One run, and how many SYNs there were when it was over; `before` it there were so many.

    Raises `LabError` and `OSError` if the lab itself is at fault, and `Stuck`.
    """
    found: tuple[float | None, float | None] = (None, None)
    why = ""
    try:
        found = run(number)
    except ProgramError as error:
        why = reason(error)
    after = syns_of(lab)
    return Attempt(case, *found, (after[0] - before[0], after[1] - before[1]), why), after


# -- whole programs ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def programs(scene: Scene) -> Iterator[Run]:
    """Two peers who know each other; in each run new programs of theirs move a small file."""
    scene.make_contacts()
    yield lambda number: transfer(scene, f"small-{number}.bin")


def transfer(scene: Scene, name: str) -> Found:
    """Move a file."""
    source = scene.folder / name
    digest = random_file(source, SIZE)
    # What this run starts ends with it.
    with contextlib.ExitStack() as started:
        bob = scene.receive("--no-code", "--once", "--path", "direct")
        started.callback(bob.stop)
        alice = scene.send(source, "--path", "direct")
        started.callback(alice.stop)
        found = nominated(alice)
        wait_for_end(alice)
        bob.succeed(LIMIT)
    if file_hash(scene.inbox / name) != digest:
        raise ProgramError("what arrived is not what was sent")
    return found


def wait_for_end(alice: Program) -> None:
    """Read what the sender says to its end.  Raises `ProgramError` if that is not a good one."""
    for event in alice.events(LIMIT):
        if event["event"] == "error":
            raise ProgramError(str(event["message"]))
    alice.succeed(LIMIT)


# -- meetings ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def meetings(scene: Scene) -> Iterator[Run]:
    """Peers who know each other, and in each home a program in which one of them after the other meets the other's."""
    for number in range(PEERS):
        acquaint(scene.folder, number)
    with started(scene, "alice") as alice, started(scene, "bob") as bob:
        for program in (alice, bob):
            program.wait_for("ready", STARTING)
        yield lambda number: met(alice, bob, number % PEERS)


def acquaint(folder: Path, number: int) -> None:
    """Make a pair of peers, as an earlier code would have done."""
    today = datetime.date.today().isoformat()
    alice, bob = home_of(folder, "alice", number), home_of(folder, "bob", number)
    for mine, theirs, name in ((alice, bob, "bob"), (bob, alice, "alice")):
        mine.add_contact(Contact(name, PeerId(theirs.identity().id.digest), "code", today))


def started(scene: Scene, role: Role) -> Program:
    """The program in one of the homes."""
    argv = [sys.executable, "-m", meeter.__name__, scene.address, str(scene.folder), role]
    return Program(scene.place, role, argv, scene.folder / f"meeter-{role}.log", cwd=ROOT, commanded=True)


def met(alice: Program, bob: Program, number: int) -> Found:
    """One meeting; both have the nominated path, or it failed."""
    try:
        bob.tell(f"meet {number}")
        bob.wait_for("registered", STARTING)
        alice.tell(f"meet {number}")
        found = nominated(alice)
        nominated(bob, NEWS_S)
        return found
    finally:
        for program in (alice, bob):
            end(program)


def end(program: Program) -> None:
    """End what the program does now, and read what it still says of it.  Raises `Stuck`."""
    try:
        program.tell("end")
        for event in program.events(STARTING):
            if event["event"] == "ended":
                return
    except ProgramError as error:
        raise Stuck(str(error)) from error
    raise Stuck(f"{program.role} has ended{program.last_words()}")


WAYS = {"programs": programs, "meetings": meetings}


# -- both --------------------------------------------------------------------------------------------------------------


def nominated(program: Program, patience: float | None = None) -> Found:
    """Its first direct path, as soon as it stands.

    Raises `ProgramError` for the error that it says instead, and after `patience` seconds, `LIMIT` if not given.
    """
    patience = LIMIT if patience is None else patience
    deadline = time.monotonic() + patience
    for event in program.events(patience):
        match event["event"]:
            case "path" if event["state"] == "up" and event["path"] != "relay":
                return float(event["after_ms"]), event["tcp_ms"]
            case "error":
                raise ProgramError(str(event["message"]))
        if time.monotonic() > deadline:
            raise ProgramError(f"{program.role} has no path after {patience:g} s")
    raise ProgramError(f"{program.role} ended without a direct path")


def syns_of(lab: Lab) -> Syns:
    """What was counted so far."""
    return lab.syns_sent("alice").elsewhere, lab.syns_sent("bob").elsewhere


def reason(error: Exception) -> str:
    """The first line of an error, without what differs from run to run."""
    lines = str(error).splitlines()
    text = re.sub(r" \(\d+ SYNs from here\)", "", lines[0].strip()) if lines else ""
    return text or type(error).__name__
