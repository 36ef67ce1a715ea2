"""What going on with many files costs, in calls and messages: seconds depend on the machine, these do not."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pxfer.core.session.transferwire import Listed, Page
from p2pxfer.core.transfer.manifest import Manifest
from p2pxfer.core.transfer.receiveeffect import Announced
from p2pxfer.core.transfer.receiver import ReceiverCore
from p2pxfer.core.transfer.sendeffect import HashChunks, Send
from p2pxfer.core.transfer.sender import SenderCore
from p2pxfer.net.staging.staging import Staging
from p2pxfer.net.transfer.hashcache import HashCache
from p2pxfer.net.transfer.source import Source

DIRECTORIES = 20
FILES = 2000
HERE = 1100
SENDER = b"s" * 32
BESIDE = 40
"""Calls for the journal and the directories of the transfer itself."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    for number in range(FILES):
        folder = top / f"folder-{number * DIRECTORIES // FILES:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number:05d}").write_bytes(b"%d" % number)
    return top


def first_run(tree: Path, home: Path, destination: Path) -> None:
    """Both sides are killed when the first files are here."""
    source = Source.scan([str(tree)])
    cache = HashCache(str(home), source.manifest, source.identity, time.time())
    staging = Staging.open(str(destination), SENDER, source.manifest)
    claims = []
    for file in range(HERE):
        payload, digest = source.read_chunk(file, 0)
        cache.add(file, 0, digest)
        staging.write_chunk(file, 0, memoryview(payload), digest)
        claims.append((file, 0, 1, digest))
    for at in range(0, HERE, 100):
        staging.sync(claims[at : at + 100])
    staging.close()
    cache.close()
    source.close()


class Calls:
    """Counts calls of the system while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: Counter[str] = Counter()
        for name in ("open", "stat", "fstat", "pread", "listdir", "mkdir"):
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keywords: Any) -> Any:
            self.made[name] += 1
            return real(*args, **keywords)

        return counted


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("home", "inbox"):
        (tmp_path / name).mkdir()
    return tmp_path / "home", tmp_path / "inbox"


def test_the_receiver_looks_once_at_each_file_and_opens_none(
    tree: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_run(tree, *places)
    source = Source.open([str(tree)])
    offered = Manifest()
    offered.add(source.manifest.page(0), more=True)
    calls = Calls(monkeypatch)
    staging = Staging.open(str(places[1]), SENDER, offered, announced=Announced(FILES, FILES * 4, 0, counting=True))
    assert len(staging.have) == HERE
    assert len(offered.files) == FILES
    assert calls.made["stat"] <= HERE + BESIDE
    assert calls.made["open"] <= 2 * DIRECTORIES + BESIDE
    assert calls.made["pread"] <= BESIDE
    assert calls.made["listdir"] + calls.made["mkdir"] <= BESIDE
    staging.close()
    source.close()


def test_the_sender_reads_nothing_and_few_messages_go(
    tree: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, inbox = places
    first_run(tree, home, inbox)
    source = Source.open([str(tree)])
    cache = HashCache(str(home), source.manifest, source.identity, time.time())
    monkeypatch.setattr(Source, "read_chunk", lambda *_: pytest.fail("a file is read again"))
    sender = SenderCore(1, source.manifest, cache.load(), source.holes())
    receiver = ReceiverCore(source.manifest.transfer_id, b"i" * 16)
    (offer,) = sender.open_path(1)
    assert isinstance(offer, Send)
    receiver.receive(1, offer.message)
    assert receiver.manifest is not None
    staging = Staging.open(str(inbox), SENDER, receiver.manifest)
    said = [effect for effect in receiver.accepted(staging.have) if isinstance(effect, Send)]
    told: list[Send] = []
    answers = 0
    while said or not source.manifest.complete:
        for send in said:
            answers += isinstance(send.message, Listed)
            effects = sender.receive(1, send.message)
            assert not any(isinstance(effect, HashChunks) for effect in effects)
            told += [effect for effect in effects if isinstance(effect, Send)]
        if not source.manifest.complete:
            files = len(source.manifest.sizes)
            source.take(*source.find())
            told += [each for each in sender.grow(cache.grow(), source.holes(files)) if isinstance(each, Send)]
        said = [effect for send in told for effect in receiver.receive(1, send.message) if isinstance(effect, Send)]
        assert not any(isinstance(send.message, Page) and send.message.data for send in told)
        told = []
    assert answers == source.manifest.pages
    assert sender.acked_bytes == sum(source.manifest.sizes[:HERE])
    assert sender.next_chunk() == (HERE, 0)
    staging.close()
    cache.close()
    source.close()
