"""What the progress display prints above its lines is the text that it was given."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time

import pyte
import pytest

from p2pxfer.cli.display import ProgressDisplay


@pytest.mark.parametrize(
    "text",
    [":bomb:.txt", "saved a\\", "[red]one[/red] [/] \\[two]", "1.5 MiB of 'words' at http://127.0.0.1:4000", "x" * 300],
)
def test_a_line_above_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    display = ProgressDisplay()
    display.say(text)
    display.close()
    assert text in capsys.readouterr().err.splitlines()


READER = """
import sys
from p2pxfer.cli.report import Reporter
from p2pxfer.status import Done, Note, Progress
report = Reporter(False)
for number in range(1, 6):
    report.tell(Progress(number << 20, None, 1 << 20, "lan"))
    if number == 3:
        report.tell(Note("something to know"))
    print(number, flush=True)  # to the reader, which answers on the terminal
    sys.stdin.readline()
report.tell(Progress(6 << 20, None, 1 << 20, "lan"))
report.tell(Done(6 << 20, 1, 6.0, {"lan": 6 << 20}, "00"))
report.close()
"""


class Shared:
    """The program above before a screen on which its reader, or its writer, writes as well."""

    def __init__(self) -> None:
        self._side, self._terminal = os.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self._screen = pyte.Screen(100, 40)
        self._stream = pyte.ByteStream(self._screen)
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        env = {**clean, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.child = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._terminal,
            env=env, text=True,
        )  # fmt: skip

    def until_last(self, begins: str) -> list[str]:
        """What stands there as soon as the last line begins like this; a terminal shows things a little later."""
        deadline = time.monotonic() + 60
        while True:
            shown = [line.rstrip() for line in self._screen.display if line.strip()]
            if shown and shown[-1].startswith(begins):
                return shown
            assert time.monotonic() < deadline, shown
            if select.select([self._side], [], [], 0.1)[0]:
                self._stream.feed(os.read(self._side, 65536))

    def write(self, text: str) -> None:
        """Another program writes."""
        os.write(self._terminal, text.encode())

    def close(self) -> None:
        """All of it."""
        os.close(self._side)
        os.close(self._terminal)


def test_who_writes_to_the_same_terminal_is_not_written_over() -> None:
    """As in ``receive --stdout | tar tvz``: every line of both is whole, and nothing of the progress is left."""
    shared = Shared()
    rows = [f"-rw-r--r-- root/root  {number} 2026-11-22 10:00 directory/file-{number}" for number in range(1, 6)]
    with shared.child as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for number, row in enumerate(rows, 1):
            assert child.stdout.readline() == f"{number}\n"
            shared.until_last(f"lan  {number}.0 MiB")
            shared.write(f"{row}\n")
            child.stdin.write("\n")
            child.stdin.flush()
        assert child.wait(60) == 0
    done = "done: 1 file, 6.0 MiB in 6.0 s (1.0 MiB/s); lan 6.0 MiB (100 %)"
    seen = shared.until_last("done")
    shared.close()
    assert seen == [*rows[:2], "something to know", *rows[2:], done]
