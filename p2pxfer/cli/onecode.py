"""The one-time code that was given to a command with several jobs: for which of them it is.

Laws:

- It is one machine's, and proves it once.  At another one it would be wrong, and use up the code that is shown there.
- It is for the one peer that is met by a code alone; where there is none, for the one whose id is all that is known;
  where all are contacts, for the only one, which may have forgotten this machine.  Of several such it is for none.
- Who went well, or was told that it is wrong, gets it no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pxfer.errors import P2pxferError, WrongCode
from p2pxfer.net.session.knownpeers import look_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pxfer.core.contact.codes import Code
    from p2pxfer.net.private.home import Home


class OneCode:
    """``code`` for those of ``peers``, as the jobs name them, for which it is."""

    def __init__(self, home: Home, peers: Sequence[str], code: Code | None) -> None:
        self._code = code
        self._peers = _meant(home, peers) if code is not None else frozenset()

    @property
    def given(self) -> bool:
        """Whether there is one at all."""
        return self._code is not None

    def of(self, peer: str) -> Code | None:
        """What a job with this peer goes on with now."""
        return self._code if peer in self._peers else None

    def tried(self, peer: str, error: P2pxferError | None) -> None:
        """A job with this peer has ended, by an ``error`` or well."""
        if peer in self._peers and (error is None or isinstance(error, WrongCode)):
            self._peers = frozenset()


def _meant(home: Home, peers: Sequence[str]) -> frozenset[str]:
    groups: list[dict[str, set[str]]] = [{}, {}, {}]
    for peer in peers:
        number, name, contact = look_up(home, peer)
        group = groups[2 if contact is not None else 1 if number is not None else 0]
        known = contact.id if contact is not None else number
        group.setdefault(str(known) if known is not None else name, set()).add(peer)
    alone = next((group for group in groups if group), {})
    return frozenset(*alone.values()) if len(alone) == 1 else frozenset()
