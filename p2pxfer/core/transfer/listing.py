"""How a file list travels: the sender's side, which page goes out on which path, and the receiver's, what a page means.

Laws:

- The first page comes with the offer, the others in order, on each path for itself; each is answered on the path that
  brought it.  At most :data:`WINDOW` pages wait for their answer on a path.
- A page that the receiver may know, from an earlier run or another path, is told by its digest alone.  If it does not
  know it, it asks, and that page and all behind it come with their bytes.
- Bytes of pages go out on one path at a time; the others wait, or take over when it is lost.
- Chunks of a file may be sent when its page was answered, on whatever path, by the receiving process of now.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct

from p2pxfer.core.session.transferwire import Page
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.sendeffect import Send
from p2pxfer.errors import ManifestRefused, ProtocolBreach

WINDOW = 8


class _Path(Struct):
    """Pages below ``remembered`` the receiver may know, below ``next`` were told, below ``answered`` answered."""

    remembered: int
    next: int = 1
    answered: int = 0


class ListTeller:
    """The pages of ``manifest``, which may still grow, as the sender tells them: as far as :meth:`grow` saw them."""

    def __init__(self, handle: int, manifest: Manifest) -> None:
        self._handle = handle
        self._manifest = manifest
        self._paths: dict[int, _Path] = {}
        self._carrier: int | None = None
        self.settled = 0
        """Pages that were answered by the receiving process of now."""
        self.grow()

    def grow(self) -> None:
        """All pages that are in the manifest may be told."""
        self.pages = self._manifest.pages
        self.complete = self._manifest.complete

    @property
    def files(self) -> int:
        """How many files these list."""
        return self._manifest.files_before(self.settled)

    def forget(self) -> None:
        """Another process receives now."""
        self._paths.clear()
        self._carrier = None
        self.settled = 0

    def accepted(self, path: int, pages: int) -> None:
        """The offer was accepted on ``path``, by a receiver that may know ``pages`` pages."""
        self._paths[path] = _Path(pages)

    def lost(self, path: int) -> None:
        """The path is gone."""
        self._paths.pop(path, None)
        if self._carrier == path:
            self._carrier = None

    def expects(self, path: int, page: int) -> bool:
        """Whether ``page`` is the one that is answered next on ``path``."""
        state = self._paths.get(path)
        return state is not None and page == state.answered < state.next

    def wanted(self, path: int, page: int) -> None:
        """The receiver does not know this page.

        Raises:
            ProtocolBreach: it was not told by its digest alone, or is known there.
        """
        if not self.expects(path, page) or not max(self.settled, 1) <= page < self._paths[path].remembered:
            raise ProtocolBreach("the receiver wants a page of the file list that it has, or that comes by itself")
        state = self._paths[path]
        state.remembered = state.next = page

    def answered(self, path: int, page: int) -> None:
        """The receiver has said all about a page that it was expected to answer."""
        self._paths[path].answered = page + 1
        self.settled = max(self.settled, page + 1)

    def files_answered(self, path: int) -> int:
        """How many files the pages list that were answered on ``path``."""
        state = self._paths.get(path)
        return self._manifest.files_before(state.answered) if state is not None else 0

    def begun(self, path: int) -> bool:
        """Whether the first page was answered on ``path``."""
        state = self._paths.get(path)
        return state is not None and state.answered > 0

    def done(self, path: int) -> bool:
        """Whether the whole list was told and answered on ``path``."""
        state = self._paths.get(path)
        return state is not None and self.complete and state.answered == self.pages

    def take(self) -> list[Send]:
        """What may go out now, on all paths."""
        return [each for path, state in self._paths.items() for each in self._take(path, state)]

    def _take(self, path: int, state: _Path) -> Iterator[Send]:
        while state.next < self.pages and state.next - state.answered < WINDOW:
            number = state.next
            known = number < max(state.remembered, self.settled)
            if not known:
                if self._carrier not in (None, path):
                    return
                self._carrier = path
            state.next += 1
            yield Send(
                path,
                Page(
                    handle=self._handle,
                    page=number,
                    digest=self._manifest.digest(number),
                    data=b"" if known else self._manifest.page(number),
                    more=not self.complete or number + 1 < self.pages,
                ),
            )


class Answer(Enum):
    """What becomes of a page at the receiver."""

    KNOWN = "it was known"
    NEW = "it is known now"
    WANTED = "its bytes are needed"
    STALE = "its bytes were asked for already"
    CHANGED = "the list is another one than before"


class Heard(Struct):
    """What a path brought of the list: the ``next`` page, and whether its bytes were ``wanted``."""

    next: int = 1
    wanted: bool = False


class ListTaker:
    """The pages of ``manifest`` as the receiver takes them; those that an earlier run left in it count when told again.

    ``settled`` pages were told in this run; ``cut``: where another list begins, after :attr:`Answer.CHANGED`;
    ``closed``: names of this list were published, so one that has more pages is another list.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.settled = 1
        self.cut = 0
        self.closed = False

    @property
    def files(self) -> int:
        """How many files the pages list that were told."""
        return self._manifest.files_before(self.settled)

    @property
    def complete(self) -> bool:
        """Whether the whole list was told."""
        return self._manifest.complete and self.settled == self._manifest.pages

    def take(self, page: Page, heard: Heard) -> Answer:
        """A page was told on the path of which ``heard`` says what came before.

        Raises:
            ProtocolBreach: it is not the next one.
            ManifestRefused: it breaks a rule, or is not the one of the digest.
        """
        if heard.wanted and page.page > heard.next:
            return Answer.STALE
        if page.page != heard.next:
            raise ProtocolBreach("a page of the file list was left out, or came again")
        answer = self._judge(page.page, page)
        heard.wanted = answer is Answer.WANTED
        if answer in (Answer.KNOWN, Answer.NEW):
            heard.next += 1
        return answer

    def _judge(self, number: int, page: Page) -> Answer:
        manifest = self._manifest
        if number < manifest.pages:
            if page.digest == manifest.digest(number):
                return self.again(number, page.more)
            self.cut = number
            return Answer.CHANGED if page.data else Answer.WANTED
        if not page.data:
            return Answer.WANTED
        if self.closed:
            self.cut = number
            return Answer.CHANGED
        manifest.add(page.data, more=page.more)
        if manifest.digest() != page.digest:
            raise ManifestRefused("a page of the file list is not the one that its digest stands for")
        self.settled = number + 1
        return Answer.NEW

    def again(self, number: int, more: bool) -> Answer:
        """A page that is in the manifest was told once more; ``more`` may be another one than before."""
        if number + 1 < self._manifest.pages and not more:
            self.cut = number + 1
            return Answer.CHANGED
        if number + 1 == self._manifest.pages:
            self._manifest.complete = not more
        self.settled = max(self.settled, number + 1)
        return Answer.KNOWN

    def ends_elsewhere(self, more: bool, *, begun: bool) -> bool:
        """Whether a list that begins with the same page is another one, as its offer says; ``begun``: chunks come."""
        if begun:
            return self.again(0, more) is Answer.CHANGED
        self.cut = 1
        return more == (self._manifest.complete and self._manifest.pages == 1)

    def forget(self) -> None:
        """The pages from :attr:`cut` on are no longer in the manifest."""
        self.settled = min(self.settled, max(self.cut, 1))
