"""A receiver that kills itself: ``python killed_receiver.py DESTINATION FAILPOINT COUNT``.

It receives the content below and sends itself SIGKILL when it passes the failpoint for the COUNT-th time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.net.disk_tools import Content, noise, run

BATCH = 3


def content() -> Content:
    files = {
        "big.bin": noise(65_536 * 7 + 5),
        "dir/small.txt": b"small",
        "dir/empty": b"",
        "dir/deep/other.bin": noise(65_536 * 2, 2),
        "zero": b"",
    }
    return Content(files, executable=["dir/small.txt"], directories=["lonely"])


def main() -> None:
    where, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    passed = 0

    def failpoint(here: str) -> None:
        nonlocal passed
        if here == name:
            passed += 1
            if passed == count:
                os.kill(os.getpid(), signal.SIGKILL)

    print("\n".join(run(where, content(), BATCH, failpoint)))


if __name__ == "__main__":
    main()
