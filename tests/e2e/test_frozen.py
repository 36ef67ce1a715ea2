"""Programs that stand still for longer than anybody may be silent, and go on: nobody blames anybody for that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2pxfer.net.connection.liveness import PATH
from scripts.product import JsonEvent, Program
from tests.e2e.conftest import MIB, Stage, end_of, fast_folder
from tests.scene import file_hash, last, random_file

SIZE = 24 * MIB
RATE = "4M"
"""What holds the transfer up, so that it is under way when they stop."""
SOON_S = 20.0
"""Within what time all is over that is left of the transfer, seconds; its rate alone takes five."""
Who = Callable[[Program, Program, Program], list[Program]]
"""Of sender, receiver and server those that are stopped."""
WHO: dict[str, Who] = {
    "both": lambda sender, receiver, server: [sender, receiver],
    "the server": lambda sender, receiver, server: [server],
    "everybody": lambda sender, receiver, server: [sender, receiver, server],
}


def losses(said: list[JsonEvent]) -> list[str]:
    """Why paths ended in the middle."""
    ends = [event["why"] for event in said if event["event"] == "path" and event["state"] == "down"]
    return [why for why in ends if why != "the session is over"]


def stop(who: Who, path: str, seconds: float) -> tuple[list[JsonEvent], list[JsonEvent]]:
    """What the two say of a transfer in the middle of which some are stopped for so long."""
    with fast_folder() as folder, Stage(folder) as stage:
        server = stage.start_server()
        stage.make_contacts()
        source = folder / "file.bin"
        digest = random_file(source, SIZE)
        receiver = stage.receive("--once", "--no-code", "--path", path)
        sender = stage.send(source, "--limit", RATE, "--path", path)
        heard: list[JsonEvent] = []
        for event in receiver.events(30):
            heard.append(event)
            if event["event"] == "progress" and event["bytes"] > SIZE // 6:
                break
        stopped = who(sender, receiver, server)
        for program in stopped:
            os.kill(program.pid, signal.SIGSTOP)
        # The time itself is what is shown.
        time.sleep(seconds)
        for program in stopped:
            os.kill(program.pid, signal.SIGCONT)
        (status, said), (other, rest) = end_of(sender, SOON_S), end_of(receiver, SOON_S)
        assert (status, other) == (0, 0), (said, rest)
        assert file_hash(stage.inbox / source.name) == digest
        stage.close()
        stage.check_logs()
        return said, heard + rest


@pytest.mark.soak
@pytest.mark.deadline(750)
@pytest.mark.parametrize("seconds", [PATH.dead + 2 * PATH.ping, 600.0])
def test_f36_who_was_stopped_together_goes_on_with_what_stood(seconds: float) -> None:
    """A transfer by a direct path, and one by the relay where that was stopped too; side by side, as it is waiting."""
    shapes = [("both", "direct"), ("everybody", "direct"), ("everybody", "relay"), ("the server", "direct")]
    with ThreadPoolExecutor(len(shapes)) as pool:
        running = {shape: pool.submit(stop, WHO[shape[0]], shape[1], seconds) for shape in shapes}
        ends = {shape: each.result() for shape, each in running.items()}
    for shape, (said, heard) in ends.items():
        print(shape, last(said, "done")["bytes_by_path"], losses(said), losses(heard))
    for said, heard in ends.values():
        assert losses(said) == losses(heard) == []
        assert [event["event"] for event in said].count("introduced") == 1
