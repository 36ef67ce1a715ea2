"""The meetings of one job with one peer: which of them may still bring a path, and which have had their time.

Laws of this file:

1. A meeting with a path is not ended from here before the job is over.
2. Of meetings without a path only the youngest are waited for: :data:`MAX_PATHLESS` when another one begins, and none
   that began before one that has a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from p2pxfer.net.session.meeting import Meeting
from p2pxfer.net.session.path import PeerPath

MAX_PATHLESS = 2
"""How many earlier meetings without a path may still bring one when another begins."""


class Meetings(Collection[Meeting]):
    """Those that began and have not ended, in the order in which they began."""

    def __init__(self) -> None:
        self._meetings: list[Meeting] = []

    def __contains__(self, meeting: object) -> bool:
        return meeting in self._meetings

    def __iter__(self) -> Iterator[Meeting]:
        return iter(self._meetings)

    def __len__(self) -> int:
        return len(self._meetings)

    def begin(self, meeting: Meeting) -> None:
        """Start another one."""
        self._end([one for one in self._meetings if not one.paths][:-MAX_PATHLESS])
        self._meetings.append(meeting)
        meeting.start()

    def won(self, winner: Meeting) -> None:
        """This one has a path."""
        self._end([one for one in self._meetings if one.started < winner.started and not one.paths])

    def failed(self, meeting: Meeting) -> None:
        """This one has ended by itself."""
        self._meetings.remove(meeting)

    def of(self, path: PeerPath) -> Meeting | None:
        """The one that brought ``path``."""
        return next((meeting for meeting in self._meetings if path in meeting.paths), None)

    def close(self) -> None:
        """The job is over: end all, with their paths."""
        for meeting in list(self._meetings):
            meeting.close()

    def _end(self, meetings: list[Meeting]) -> None:
        for meeting in meetings:
            self._meetings.remove(meeting)
            meeting.close()
