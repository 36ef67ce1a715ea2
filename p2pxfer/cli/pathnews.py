"""What a sender is told beside the events of its paths: whom it waits for, what is tried, why the relay is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pxfer.cli.pairtext import change_sentence, reason_sentence
from p2pxfer.cli.report import TRIED
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.session.verdict import Side, judge
from p2pxfer.core.words.eventtext import describe
from p2pxfer.core.words.parting import unanswered_text
from p2pxfer.net.session.meeting import Meeting
from p2pxfer.status import Event, Introduced, Note, Path, Verdict

ABSENT_S: Final = 3.0
"""How long the server may take to introduce the two before it is said that the peer is waited for, seconds."""
UNANSWERED_S: Final = 10.0
"""How long a peer that is there may take to answer before it is said why it may not, seconds."""


class PathNews:
    """The news of one attempt to send to ``peer``, a name that may be shown; ``tell`` takes events.

    ``stranger``: the peer is to be met by a code.  ``lacks``: what is known of a peer that the server does not find
    under the name that is asked for; its machine may be there all the same.
    """

    def __init__(
        self,
        clock: IReactorTime,
        peer: str,
        policy: PathPolicy,
        tell: Callable[[Event], None],
        *,
        stranger: bool = False,
        lacks: str = "is not here yet",
    ) -> None:
        self._clock = clock
        self._explains = stranger and policy != "direct"
        """Why a peer that is there does not answer is still to be said, should it not answer."""
        self._peer = peer
        self._lacks = lacks
        self._policy = policy
        self._tell = tell
        self._absence: IDelayedCall | None = clock.callLater(ABSENT_S, self._absent)
        self._silence: IDelayedCall | None = None
        self._begun = False
        self._explained: Verdict | None = None

    def _absent(self) -> None:
        self._absence = None
        self._tell(Note(f"waiting for {self._peer}, who {self._lacks}"))

    def _unanswered(self) -> None:
        self._silence, self._explains = None, False  # it is said once
        self._tell(Note(f"{self._peer} has not answered yet: {unanswered_text(self._peer)}"))

    def _present(self) -> None:
        """The peer is there.  Each further introduction comes to the same silence, which is as old as the first one."""
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None
        if self._explains and self._silence is None:
            self._silence = self._clock.callLater(UNANSWERED_S, self._unanswered)

    def stop(self) -> None:
        """The attempt is over."""
        for waiting in (self._absence, self._silence):
            if waiting is not None:
                waiting.cancel()
        self._absence = self._silence = None

    def hear(self, event: Event) -> str | None:
        """An event of the job: what people see of it, ``None`` for what they always see."""
        if isinstance(event, Introduced):
            self._present()
        if isinstance(event, Path) and event.state == "up":
            self.stop()
            self._explains = False
        relayed = isinstance(event, Path) and (event.path, event.state) == ("relay", "active")
        if relayed and self._policy == "auto" and not self._begun and self._explained is None:
            self._begun = True
            return f"{describe(event)}; {TRIED}"
        return None

    def relayed(self, meeting: Meeting) -> None:
        """Nothing but the relay came of ``meeting``: say why, and what would change it, once for each reason."""
        if self._policy == "relay":
            return
        punch = meeting.punch
        mine, theirs = punch.nats
        found = judge(
            Side(mine, plan=punch.plan_state), Side(theirs, dials=meeting.introduction.dial), "relay",
            punch.one_address,
        )  # fmt: skip
        # That both are at one address is the reason then.
        tried = "" if punch.one_address else punch.tried
        sentences = [reason_sentence(found, self._peer, tried), change_sentence(found, self._peer)]
        verdict = Verdict(
            path="relay",
            after_ms=None,
            rtt_ms=None,
            reason=found.reason,
            where=found.where,
            change=found.change,
            at=found.at,
            message=" ".join(["No direct path:", *filter(None, sentences)]),
        )
        if verdict != self._explained:
            self._explained = verdict
            self._tell(verdict)
