"""An agent that is killed when a queued transfer is through: ``python killed_agent.py POINT WORDS...``.

It runs twist with WORDS, and sends itself SIGKILL when the peer has everything, ``before`` or ``after`` the entry was
removed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from twisted.application.twist._twist import Twist

from p2pxfer.net.queue.queuefiles import QueueFiles
from p2pxfer.net.queue.queuestore import Queued


def main() -> None:
    """Run it."""
    point, *words = sys.argv[1:]
    remove = QueueFiles._remove

    def removed(self: QueueFiles, entry: Queued) -> None:
        if point == "after":
            remove(self, entry)
        os.kill(os.getpid(), signal.SIGKILL)

    QueueFiles._remove = removed  # type: ignore[method-assign]  # that is what this program is for
    Twist.main(["twist", *words])


if __name__ == "__main__":
    main()
