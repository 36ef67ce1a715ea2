"""Every failure a user can meet, as one tree of exceptions.

Each class carries three fixed facts: ``word`` (the stable string in JSON events and on the wire), ``exit_code``
(the process exit status of the command line) and ``retry`` (whether running the same command again may help).  The
instance carries the sentence for people.  Nothing else in the project formats errors: the command line prints
``str(error)``, programs read ``word``.

Three families, after the party that caused the failure: the user or the configuration (:class:`UsageError` and
below), the other end of a connection (:class:`ProtocolBreach`, :class:`IdentityMismatch`, ...), and the world
(:class:`Unreachable`, :class:`DiskError`, ...).
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final, Self


class P2pxferError(Exception):
    """Base of the tree; never raised itself."""

    word: ClassVar[str] = "E_INTERNAL"
    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    withheld: ClassVar[str] = ""
    """What the other end is told of an error that has no sentence for it; empty: the same as people here."""
    reported: bool = False
    """The other end said so itself, and need not hear of it."""
    word_abroad: str = ""
    """The word for the other end where it is not the same: what is an error here may be a plain no there."""

    def __init__(self, message: str, abroad: str = "") -> None:
        """``message`` is one sentence for people, free of control characters and secrets.

        ``abroad`` is the one for the other end, which has its own user and is to know no place of this machine.
        """
        super().__init__(message)
        self.message = message
        self._abroad = abroad

    @classmethod
    def plain(cls, message: str) -> Self:
        """One with the same sentence for both ends, which names no place of this machine."""
        return cls(message, message)

    @property
    def abroad(self) -> str:
        """What the other end is told."""
        return self._abroad or self.withheld or self.message


# -- the user, the configuration ---------------------------------------------------------------------------------


class UsageError(P2pxferError):
    """The command cannot be carried out as it was given."""

    word = "E_USAGE"
    exit_code = 2
    withheld = "its command cannot be carried out; its user is told why"


class ConfigError(P2pxferError):
    """A stored setting, key or state file cannot be used."""

    word = "E_CONFIG"
    exit_code = 2
    withheld = "its settings or its state cannot be used; its user is told why"


class NameInvalid(UsageError):
    """A text is not a legal registered name."""

    word = "E_NAME"


class IdInvalid(UsageError):
    """A text is not a peer id: wrong form or wrong check characters."""


class CodeInvalid(P2pxferError):
    """A text is not a one-time code; found before any network use."""

    word = "E_CODE"
    exit_code = 5


class Interrupted(P2pxferError):
    """The user stopped the command; what arrived of files is kept."""

    word = "E_INTERRUPTED"
    exit_code = 130
    retry = True


# -- who the other end is ----------------------------------------------------------------------------------------


class IdentityMismatch(P2pxferError):
    """A key is not the one that was verified before.  Always fatal."""

    word = "E_PIN"
    exit_code = 5


class ServerUntrusted(IdentityMismatch):
    """The rendezvous server's certificate does not prove that it is the server asked for."""

    word = "E_TLS"


class WrongCode(P2pxferError):
    """Pairing failed; the code is spent at both ends."""

    word = "E_CODE"
    exit_code = 5


# -- what the other end did --------------------------------------------------------------------------------------


class ProtocolBreach(P2pxferError):
    """The other end sent what the protocol does not allow."""

    word = "E_STATE"
    exit_code = 6


class FrameError(ProtocolBreach):
    """A frame is too large, unknown or malformed."""

    word = "E_FRAME"


class ManifestRefused(ProtocolBreach):
    """A manifest breaks a rule of numbers, kinds or order."""

    word = "E_MANIFEST"


class BeyondOffer(ManifestRefused):
    """A list is longer than its sender, or the user who took it, had been told; what is here of it is not at fault."""


class PathRefused(ManifestRefused):
    """A name in a manifest may not be created on this machine."""

    word = "E_PATH"


class NameCollision(ManifestRefused):
    """Two names of a manifest are one on some file system."""

    word = "E_COLLISION"


class ChunkRefused(ProtocolBreach):
    """A chunk is outside its file, of the wrong length, or does not match its hash."""

    word = "E_CHUNK"


class Damaged(P2pxferError):
    """Data that both ends hold does not agree."""

    word = "E_CHUNK"
    exit_code = 6


class Refused(P2pxferError):
    """The other end, or its user, said no."""

    word = "E_DENIED"
    exit_code = 4


class RefusedHere(Refused):
    """The user of this machine said no, which was told when it was said."""

    def __init__(self, message: str = "the user here said no") -> None:
        """The other end hears the same from its side."""
        super().__init__(message, "the receiver's user said no")


class RefusedForNow(Refused):
    """The other end cannot take it at present: its disk is full, or its own part was cut."""

    retry = True


class Declined(Refused):
    """The receiver, or its user, does not take this very transfer: there is nothing to go on with."""


class NameTaken(Refused):
    """A registered name belongs to another key."""

    word = "E_NAME"


class CodeNeeded(Refused):
    """The other end does not know this key; a one-time code would change that."""

    word = "E_UNKNOWN"


class Replaced(Refused):
    """The same key registered the same name again elsewhere; the newer one has it."""

    word = "E_REPLACED"


class AddressRefused(ProtocolBreach):
    """A candidate address may not be dialled."""

    word = "E_ADDR"


class LimitReached(P2pxferError):
    """A quota, a cap or a rate stopped the request."""

    word = "E_LIMIT"
    exit_code = 9
    retry = True


class RateLimited(LimitReached):
    """Too many requests in a short time."""

    word = "E_RATE"


class NoMemory(LimitReached):
    """The system gives this program no more memory, or threads; this process does not go on with what it was at."""

    def __init__(self) -> None:
        """The sentence is the same wherever it happens."""
        super().__init__(
            "the system gives this program no more memory; what arrived is kept: run the same command again with more"
            " of it, or send fewer files with one command"
        )


# -- the world ---------------------------------------------------------------------------------------------------


class Unreachable(P2pxferError):
    """The server or the peer cannot be reached now."""

    word = "E_PEER_GONE"
    exit_code = 3
    retry = True


class PeerStopped(Unreachable):
    """The other end says that its program was stopped, or ends before what it was at; it may be started again."""

    word = "E_STOPPED"


PEER_REPORTS: Final = "the peer reports: "
"""How what a peer says begins, so that nobody takes it for words of this program."""


class PeerFailed(PeerStopped):
    """The other end says that what it was at has ended there, by an error of its own."""

    @property
    def why(self) -> str:
        """Its sentence alone, for those who say whose it is."""
        return self.message.removeprefix(PEER_REPORTS)


class NoDirectPath(P2pxferError):
    """``--path`` allows no path that exists."""

    word = "E_PATH_NONE"
    exit_code = 7
    retry = True


class DiskError(P2pxferError):
    """A local file or disk refused an operation."""

    word = "E_IO"
    exit_code = 8
    withheld = "its disk failed; its user is told why"


class NoSpace(DiskError):
    """The disk, a quota or the inodes are used up."""

    word = "E_SPACE"
    retry = True


class SourceUnreadable(DiskError):
    """One of the files that are sent cannot be read; others may be."""


class SourceChanged(SourceUnreadable):
    """A file changed while it was being sent."""

    word = "E_SOURCE_CHANGED"
    retry = True


class FilesLeftOut(SourceChanged):
    """Files were left out of a transfer, of which everything else has arrived: sent again, that would come twice."""

    retry = False


class Incomplete(P2pxferError):
    """A transfer stopped before its end; the command run again goes on with a file and begins a stream anew."""

    word = "E_INCOMPLETE"
    exit_code = 75
    retry = True


class InternalFault(P2pxferError):
    """A fault of the program itself, which ended a part of what the command was to do."""


def is_no_memory(fault: BaseException | None) -> bool:
    """Whether ``fault`` says that the system has no memory for this program, be it for a thread."""
    if isinstance(fault, OSError):
        return fault.errno == errno.ENOMEM
    return isinstance(fault, MemoryError) or (isinstance(fault, RuntimeError) and "start new thread" in str(fault))
