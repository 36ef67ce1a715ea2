"""``send --queue``, and what ``jobs`` does with what is queued: changes of files, which the agent follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click
from msgspec.structs import asdict, replace

from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.settings import Global
from p2pxfer.core.text import safe_text
from p2pxfer.core.words.eventtext import describe
from p2pxfer.errors import UsageError
from p2pxfer.inventory import QueuedOne
from p2pxfer.net.agent.room import how_to_start
from p2pxfer.net.queue.joblist import where_and_what
from p2pxfer.net.queue.queuestore import MAX_PRIORITY, Queued, QueueStore
from p2pxfer.net.queue.sendjobs import kept_paths
from p2pxfer.net.session.knownpeers import check_other, contacts_only, look_up

if TYPE_CHECKING:
    from p2pxfer.core.approach import Approach
    from p2pxfer.net.private.home import Home
    from p2pxfer.net.transfer.scan import Links


def unattended(home: Home) -> str:
    """What to say where no agent runs."""
    return f"no agent runs on this home, so what is queued waits; {how_to_start(home.path)}"


def check_queueable(paths: Sequence[str], name: str | None, code_file: str | None, *, timed: bool) -> None:
    """Whether what was given can wait; ``timed``: a time was given.

    Raises:
        UsageError: it cannot.
    """
    if "-" in paths:
        raise UsageError("standard input (-) cannot be queued, it ends with this command; queue a file")
    if name is not None:
        raise UsageError("--name is for standard input; a file is sent under its own name")
    if code_file is not None:
        raise UsageError("--queue sends to contacts, without a code: pair first, or send without --queue")
    if timed:
        raise UsageError("--timeout is for a send that runs now; what is queued waits for as long as it takes")


def put(
    options: Global, home: Home, paths: list[str], peer: str, links: Links, delta: bool, limit: int, approach: Approach
) -> None:
    """Check it, keep it, and say what happens now.

    Raises:
        UsageError: there is nothing to send, or the peer is no contact.
        DiskError: something cannot be read, or the queue cannot be written.
        LimitReached: too much is queued.
    """
    from p2pxfer.net.transfer.source import Source

    check_other(home, peer)
    _, called, contact = look_up(home, peer)
    if contact is None:
        raise UsageError(contacts_only(home, called or safe_text(peer, 100), "what is queued goes to contacts"))
    source = Source.open(paths, links)
    size = source.manifest.total_bytes
    source.close()
    entry = Queued(
        kept_paths(paths), str(contact.id), time.time_ns(), links, delta, limit, size=size,
        changed=time.time(), **asdict(approach),
    )  # fmt: skip
    store = QueueStore(home.path)
    entry = store.put(entry)
    attended = store.attended
    ring(home)
    queued = QueuedOne(entry.number, contact.name, where_and_what(entry.paths)[1], attended)
    if options.json:
        print_event(queued)
    elif not attended:
        click.echo(f"{describe(queued)}; {how_to_start(home.path)}", err=True)
    elif not options.quiet:
        click.echo(describe(queued), err=True)


def ring(home: Home) -> None:
    """Tell the agent that the files were changed; without that it sees it within half a minute."""
    from p2pxfer.net.agent.asking import ring as ring_agent

    ring_agent(home.path)


def change(home: Home, entry: Queued, how: Callable[[Queued], Queued]) -> Queued:
    """Change an entry, and tell the agent.

    Raises:
        UsageError: it is gone.
        DiskError: the disk refused.
        ConfigError: it cannot be read.
    """
    changed = QueueStore(home.path).change(entry.number, lambda there: how(there) if _same(there, entry) else there)
    if changed is None or not _same(changed, entry):
        raise UsageError(f"{entry.number} is gone: it is through, or somebody cancelled it")
    ring(home)
    return changed


def _same(one: Queued, other: Queued) -> bool:
    return one.added == other.added


def pause(entry: Queued) -> Queued:
    """It is to wait until a person resumes it.  Raises :class:`UsageError`."""
    if entry.failed:
        raise UsageError(f"{entry.number} has failed and does not run; p2pxfer jobs resume or cancel it")
    return replace(entry, paused=True)


def resume(entry: Queued) -> Queued:
    """It is to go on, or to be tried again now."""
    return replace(entry, paused=False, failed=False, why="", resumed=entry.resumed + 1)


def with_priority(number: int) -> Callable[[Queued], Queued]:
    """It is to have this priority."""
    return lambda entry: replace(entry, priority=max(-MAX_PRIORITY, min(MAX_PRIORITY, number)))


def first(home: Home, entry: Queued) -> Callable[[Queued], Queued]:
    """It is to come before all others."""
    others = [other.priority for other in QueueStore(home.path).read()[0] if other.number != entry.number]
    return with_priority(max([entry.priority, *(each + 1 for each in others)]))


def drop(home: Home, entry: Queued) -> None:
    """Forget an entry; a run of it ends.

    Raises:
        UsageError: it is gone.
        DiskError: the disk refused.
    """
    from p2pxfer.net.queue.sendjobs import forget_hashes

    if not QueueStore(home.path).remove(entry.number, entry.added):
        raise UsageError(f"{entry.number} is gone: it is through, or somebody cancelled it")
    forget_hashes(home.path, entry.transfer)
    ring(home)


def drop_unreadable(home: Home, number: str) -> bool:
    """Remove the entry with this whole number if it cannot be used; False if there is no such one.

    Raises:
        DiskError: the disk refused.
    """
    store = QueueStore(home.path)
    return any(each.number == number for each in store.read()[1]) and store.remove(number)
