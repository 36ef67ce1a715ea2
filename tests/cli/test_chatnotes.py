from __future__ import annotations

import json
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from p2pxfer.cli.chatnotes import ChatNotes
from p2pxfer.core.session.conversation import Conversation, Line
from p2pxfer.net.services.chatstore import ChatStore


class Threads(Clock):
    """A clock that also takes the results of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.results: SimpleQueue[Any] = SimpleQueue()

    def callFromThread(self, call: Any) -> None:
        self.results.put(call)


def test_a_history_that_cannot_be_written_stops_nothing_else(tmp_path: Path) -> None:
    store = ChatStore(tmp_path, bytes(32))
    (store.path / "history.jsonl").symlink_to("history.jsonl")
    reactor: Any = Threads()
    conversation = Conversation()
    said: list[str] = []
    pushed: list[int] = []
    notes = ChatNotes(reactor, store, conversation, True, said.append, lambda: pushed.append(1))
    lines = [Line(bytes([number]) * 16, f"line {number}", 1) for number in range(3)]
    for line in lines:
        # The second and the third come while the thread writes the first.
        conversation.say(line)
        notes.said(line)
    closed = Deferred.fromCoroutine(notes.close())
    while not closed.called:
        reactor.results.get(timeout=50)()
    outbox = json.loads((store.path / "outbox.json").read_text())
    assert [each["text"] for each in outbox["lines"]] == ["line 0", "line 1", "line 2"]
    assert len(said) == 1 and "only the history misses lines" in said[0]
    store.close()
