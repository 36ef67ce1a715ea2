"""Carries out the queue of a home: has the core decide what runs, and notes what came of it.

Laws of this file:

1. The files are the queue.  They are read again whenever the doorbell rings, and every :data:`LOOK_S` for a ring that
   was lost; what a person changed in them is what is said to the core.
2. An entry of which the peer has everything is never sent again by this process, whatever becomes of its file.
3. A fault of one run, or one file, ends nothing else.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import IO, Any, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pxfer.core.transfer.queue import Input, Queue, Start, State
from p2pxfer.errors import P2pxferError
from p2pxfer.inventory import JobListed, JobState
from p2pxfer.net.queue.joblist import queued
from p2pxfer.net.queue.queuefiles import Look, QueueFiles
from p2pxfer.net.queue.queueitem import Item, core_name, one_line, passes
from p2pxfer.net.queue.queuerun import QueueRun, Run, RunOwner
from p2pxfer.net.queue.queuestore import Queued, Unreadable
from p2pxfer.net.session.machine import Machine
from p2pxfer.status import Event, Note

LOOK_S: Final = 30.0
"""How often the files are looked at although nobody rang, seconds."""
SAVE_S: Final = 5.0
"""How old the progress in a file may be, seconds."""


class RunMaker(Protocol):
    """Makes the run of an entry."""

    def __call__(self, machine: Machine, entry: Queued, owner: RunOwner) -> Run:
        """See :class:`~p2pxfer.net.queue.queuerun.QueueRun`."""


class QueueRunner:
    """The queue in ``home``, carried out as ``name`` over the server ``server``; ``tell`` hears what becomes of it.

    ``tell`` gets a :class:`~p2pxfer.inventory.JobListed` whenever the state of an entry changes, and a
    :class:`~p2pxfer.status.Note` about files that cannot be used.
    """

    log = Logger()

    def __init__(
        self,
        machine: Machine,
        tell: Callable[[Event], None],
        *,
        draw: Callable[[], float] = random.random,
        make_run: RunMaker = QueueRun,
    ) -> None:
        self._machine = machine
        reactor = self._reactor = machine.reactor
        self._tell = tell
        self._make_run = make_run
        self._files = QueueFiles(reactor, machine.home)
        self._queue = Queue(draw)
        self._items: dict[str, Item] = {}
        self._over: set[str] = set()
        """Entries that were done and whose files may still be there."""
        self._unreadable: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._held: IO[bytes] | None = None
        self._looking = False
        self._rung = False
        self._stopping = False
        self._wake: IDelayedCall | None = None
        self._clock = LoopingCall(self.doorbell)
        self._saver = LoopingCall(self._save)
        self._clock.clock = self._saver.clock = reactor

    # -- beginning and end -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the queue and begin.

        Raises:
            ConfigError: another process carries it out already, or its directory cannot be used.
        """
        self._held = self._files.store.hold()
        self._clock.start(LOOK_S)
        self._saver.start(SAVE_S, now=False)

    async def stop(self) -> None:
        """End what runs, keep how far it came, and give the queue back; takes some seconds at most."""
        self._stopping = True
        for loop in (self._clock, self._saver):
            if loop.running:
                loop.stop()
        self._cancel_wake()
        running = [item.running for item in self._items.values() if item.running is not None]
        for each in running:
            each.cancel()
        await DeferredList(running)
        await self._files.stop()
        if self._held is not None:
            self._held.close()
            self._held = None

    def listed(self) -> list[JobListed]:
        """The entries as they are now, the oldest first."""
        items = sorted(self._items.values(), key=lambda item: item.entry.added)
        return [self._shown(item) for item in items]

    # -- the files -------------------------------------------------------------------------------------------------

    def doorbell(self) -> None:
        """The files were changed: look at them now."""
        if self._stopping:
            return
        if self._looking:
            self._rung = True
            return
        self._looking = True
        self._files.look().addCallback(self._compare).addErrback(self._fault, "looking").addCallback(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = False
        if self._rung:
            self._rung = False
            self.doorbell()

    def _fault(self, failure: Failure, what: str) -> None:
        self.log.failure("the queue: {what} failed", failure, what=what)

    def _compare(self, look: Look) -> None:
        """Tell the core what a person did to the files."""
        if self._stopping:
            return
        self._names = look.names
        self._complain(look.unreadable)
        there = {core_name(entry): entry for entry in look.entries}
        for name in self._items.keys() - there.keys() - self._over:
            if self._items[name].entry.number not in self._unreadable:
                self._say(name, Input.CANCEL)
        self._over &= there.keys() | self._items.keys()
        for name, entry in there.items():
            if name in self._over:
                self._remove(entry)
            elif name in self._items:
                self._changed(name, self._items[name], entry)
            else:
                self._add(name, entry)
        self._act()

    def _complain(self, unreadable: list[Unreadable]) -> None:
        """Say once of each file that cannot be used why."""
        for each in unreadable:
            if self._unreadable.get(each.number) != each.why:
                self._tell(Note(f"{each.why}; the other transfers go on"))
        self._unreadable = {each.number: each.why for each in unreadable}

    def _add(self, name: str, entry: Queued) -> None:
        item = self._items[name] = Item(entry)
        state = State.FAILED if entry.failed else State.PAUSED if entry.paused else State.WAITING
        self._queue.add(name, entry.key, entry.priority, entry.added, self._reactor.seconds(), state)
        if entry.running:
            self._note(item, running=False, asking=False)  # a process said so that is gone
        self._tell(self._shown(item))

    def _changed(self, name: str, item: Item, entry: Queued) -> None:
        before = item.entry
        item.entry = replace(
            entry, failed=before.failed, why=before.why, running=before.running, asking=before.asking,
            transfer=before.transfer, size=before.size, acked=before.acked, changed=before.changed,
        )  # fmt: skip
        if entry.priority != before.priority:
            self._queue.set_priority(name, entry.priority)
        resumed = entry.resumed != before.resumed
        if resumed:
            item.entry = replace(item.entry, failed=False, why="")
        if resumed or (before.paused and not entry.paused):
            self._say(name, Input.RESUME)
        if entry.paused and (resumed or not before.paused):
            self._say(name, Input.PAUSE)
        if not item.noted:
            self._note(item)

    # -- the core --------------------------------------------------------------------------------------------------

    def _say(self, name: str, what: Input) -> None:
        item = self._items[name]
        before = self._queue.state(name)
        after = self._queue.say(name, what, self._reactor.seconds())
        if after is State.GONE:
            del self._items[name]
            if item.through:
                self._remove(item.entry)
            else:  # its file was gone: nothing of it is removed here on the word of one look
                self._files.forget(item.entry).addErrback(self._fault, "forgetting")
        again = after is State.GONE and not item.through and any(each.startswith(name[:8]) for each in self._items)
        if before is not after and not again:  # what was queued again meanwhile is not dropped
            self._tell(self._shown(item, None if after is not State.GONE else "done" if item.through else "dropped"))

    def _act(self) -> None:
        """Do what the core wants done now, and come back when it wants more."""
        if self._stopping:
            return
        for todo in self._queue.act(self._reactor.seconds()):
            item = self._items[todo.entry]
            if isinstance(todo, Start):
                self._start(todo.entry, item)
            elif item.running is not None:
                item.running.cancel()
        self._cancel_wake()
        now = self._reactor.seconds()
        at = self._queue.wake_at(now)
        if at is not None:
            self._wake = self._reactor.callLater(at - now, self._act)

    def _cancel_wake(self) -> None:
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        self._wake = None

    # -- runs ------------------------------------------------------------------------------------------------------

    def _start(self, name: str, item: Item) -> None:
        item.best = item.entry.acked
        run = item.run = self._make_run(self._machine, item.entry, _Hearing(self, name, item))
        item.running = Deferred.fromCoroutine(run.run())
        item.running.addBoth(self._ended, name, item).addErrback(self._fault, "the end of a run")

    def met(self, name: str, item: Item) -> Deferred[None]:
        """The run of an entry has met its peer; fires when that is noted, or the disk has refused that."""
        noted = self._note(item, running=True, asking=True, why="")
        self._say(name, Input.MET)
        self._reactor.callLater(0, self._act)
        return noted

    def accepted(self, name: str, item: Item) -> None:
        """The peer takes an entry."""
        if item.entry.asking:
            self._note(item, asking=False)
        self._say(name, Input.ACCEPTED)

    def through(self, name: str, item: Item) -> Deferred[None]:
        """The peer has all of an entry; fires when that is forgotten here, or the disk has refused that."""
        item.through = True
        self._over.add(name)
        return self._remove(item.entry)

    def short(self, item: Item, error: P2pxferError) -> Deferred[None]:
        """The peer has all of an entry that could be read; fires when that is noted, or the disk has refused that."""
        item.short = error
        return self._note(item, running=False, asking=False, failed=True, why=one_line(error))

    def _ended(self, result: object, name: str, item: Item) -> None:
        # What the peer has is not sent again, however the run ended that brought it.
        error = item.short or (result.value if isinstance(result, Failure) else None)
        item.short = None
        item.entry, run, item.run, item.running = item.now(), item.run, None, None
        if item.through or error is None:
            item.through = True
            self._over.add(name)
            self._say(name, Input.DONE)
        elif isinstance(error, CancelledError) or passes(error):
            if run is not None and run.acked > item.best:
                self._queue.moved(name)
            why = item.entry.why if isinstance(error, CancelledError) else one_line(error)
            self._note(item, running=False, asking=False, why=why)
            self._say(name, Input.BROKE)
        else:
            if not isinstance(error, P2pxferError):
                self._fault(Failure(error), "a run")
            self._note(item, running=False, asking=False, failed=True, why=one_line(error))
            self._say(name, Input.REFUSED)
        if not self._stopping:
            self._reactor.callLater(0, self._act)

    # -- what is noted ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Keep how far the runs came."""
        for item in self._items.values():
            now = item.now()
            if now != item.entry and not item.through:
                item.entry = now
                self._note(item)

    def _note(self, item: Item, **fields: Any) -> Deferred[None]:
        """Keep what became of an entry; where the disk refuses, it is tried again with the next look."""
        item.noted = True
        item.entry = replace(item.entry, **fields, changed=time.time())
        return self._files.note(item.entry).addCallback(lambda _: None).addErrback(self._not_noted, item)

    def _not_noted(self, failure: Failure, item: Item) -> None:
        item.noted = False
        if not failure.check(P2pxferError, CancelledError):  # a run that is stopped does not wait for it
            self._fault(failure, "noting")

    def _remove(self, entry: Queued) -> Deferred[None]:
        return self._files.remove(entry).addErrback(lambda failure: self._tell(Note(one_line(failure.value))))

    def _shown(self, item: Item, state: JobState | None = None) -> JobListed:
        entry = item.now()
        listed = queued(entry, self._names.get(entry.peer, entry.peer), attended=True, lies=item.lies)
        return listed if state is None else replace(listed, state=state)


class _Hearing(Struct, frozen=True):
    """What the run of one entry has to say."""

    runner: QueueRunner
    name: str
    item: Item

    def met(self) -> Deferred[None]:
        """See :meth:`QueueRunner.met`."""
        return self.runner.met(self.name, self.item)

    def accepted(self) -> None:
        """See :meth:`QueueRunner.accepted`."""
        self.runner.accepted(self.name, self.item)

    def through(self) -> Deferred[None]:
        """See :meth:`QueueRunner.through`."""
        return self.runner.through(self.name, self.item)

    def short(self, error: P2pxferError) -> Deferred[None]:
        """See :meth:`QueueRunner.short`."""
        return self.runner.short(self.item, error)
