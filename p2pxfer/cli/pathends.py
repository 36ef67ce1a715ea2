"""Why paths of a receiver ended, in words for whoever sits at it.

Laws of this file:

1. An end that was meant is said as what it is, once, and not as a path that was lost.
2. Who is no contact and proved no code has carried nothing: that its paths go is no news, that nothing was taken is.
3. Programs are told of every path and its true reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pxfer.cli.report import Reporter
from p2pxfer.cli.wordscheck import WordsCheck
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import safe_text
from p2pxfer.errors import CodeNeeded, IdentityMismatch, P2pxferError, PeerStopped, Refused
from p2pxfer.net.session.knownpeers import ContactsNow
from p2pxfer.net.session.path import PeerPath
from p2pxfer.net.transfer.inboxowner import Brought
from p2pxfer.status import Event, Note, Path

SAID_S: Final = 10.0
"""How long the same reason for the end of a path is not said again, seconds: a peer may have several."""


class PathEnds:
    """Of one run: ``welcome(key)`` says whether this peer may be here, ``seconds`` the time.

    ``stopped(farewell, brought)`` is what is said of a peer that took its leave on a path that brought this, nothing if
    that is said already; ``final(error)`` says whether that the peer's user denied the words ends the run, with this
    error.
    """

    def __init__(
        self,
        contacts: ContactsNow,
        words: WordsCheck,
        report: Reporter,
        welcome: Callable[[bytes], bool],
        seconds: Callable[[], float],
        stopped: Callable[[PeerStopped, Brought | None], str],
        final: Callable[[P2pxferError], bool],
    ) -> None:
        self._contacts = contacts
        self._words = words
        self._report = report
        self._welcome = welcome
        self._seconds = seconds
        self._stopped = stopped
        self._final = final
        self._explained = False
        """What is told next of a path is no news for people."""
        self._said = "", 0.0

    def ends(self, path: PeerPath, peer: str, error: P2pxferError, brought: Brought | None) -> None:
        """A path of ``peer``, which ``brought`` this, is about to be told as gone, for this reason."""
        if isinstance(error, PeerStopped):
            text = self._stopped(error, brought)
        else:
            text = self._text(path, safe_text(peer), error)
        self._explained = bool(text) or not self._welcome(path.peer_key)
        now = self._seconds()
        if text and isinstance(error, IdentityMismatch) and self._final(IdentityMismatch(text)):
            return
        if text and (self._said[0] != text or now - self._said[1] >= SAID_S):
            self._said = text, now
            self._report.tell(Note(text), wanted=True)

    def _text(self, path: PeerPath, peer: str, error: P2pxferError) -> str:
        contact = self._contacts.by_key(path.peer_key)
        if isinstance(error, IdentityMismatch) and self._words.shown_to(path.peer_key) is not None:
            then = "; if it was no mistake, remove the contact and pair again" if contact is not None else ""
            return f"{peer}'s user says that the words differ: nothing was taken{then}"
        if isinstance(error, Refused) and contact is not None and not contact.allows(Right.FILES):
            return f"{contact.name} offered files and was refused: p2pxfer contacts allow {contact.name} files lets it"
        if isinstance(error, CodeNeeded) and not self._welcome(path.peer_key):
            # It may have one, and prove it next.
            return f"{stranger(path)} is no contact here: nothing was taken, and it was asked for a one-time code"
        return ""

    def tell(self, event: Event) -> None:
        """What the inbox tells, for people and for programs; see the laws above."""
        explained = self._explained and isinstance(event, Path) and event.state == "down"
        self._explained = self._explained and not explained
        self._report.tell(event, "" if explained else None)


def stranger(path: PeerPath) -> str:
    """Whoever is at the other end of a path and is no contact: its id, and the name that anybody could take."""
    return f"{PeerId(path.peer_key)}, which calls itself {safe_text(path.peer_name, 64)},"
