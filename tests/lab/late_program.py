"""The ``p2pxfer`` command, which begins to dial so much later: ``python late_program.py SECONDS WORDS...``.

The side that begins first learns less than half of the round trip from the SYNs that cross.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2pxfer.cli import main
from p2pxfer.net.session.meeting import Meeting


def run() -> None:
    late = float(sys.argv.pop(1))
    start = Meeting.start

    def start_late(self: Meeting) -> None:
        self._reactor.callLater(late, start, self)

    Meeting.start = start_late  # type: ignore[method-assign]  # for this process only
    main.main()


if __name__ == "__main__":
    run()
