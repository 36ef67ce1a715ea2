"""``p2pxfer jobs``: transfers of this machine that are not whole yet, and those that wait in the queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal

import click
from msgspec import Struct
from msgspec.structs import replace

from p2pxfer.cli.completing import job_numbers
from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.settings import Global, ListGroup, Whole
from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import few_of, safe_text
from p2pxfer.errors import UsageError
from p2pxfer.inventory import JobListed
from p2pxfer.status import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pxfer.net.private.home import Home
    from p2pxfer.net.queue.queuestore import Queued, Unreadable
    from p2pxfer.net.queue.sendjobs import SendJob
    from p2pxfer.net.staging.partials import Partial

    Job = SendJob | Partial | Queued

QUIET_S: Final = 10.0
"""After what time in which a receiver that runs wrote nothing this is said, seconds.  A slow one writes seldom, too."""
AWAY: Final = "its sender is not connected"
"""What is said of a receiver that waits."""
MOST_PRIORITY: Final = 1000
"""The most that a person may give; the queue knows higher ones, so that ``jobs first`` still has room above it."""
one_job = click.argument("job", shell_complete=job_numbers)
some_jobs = click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=job_numbers)


@click.group("jobs", cls=ListGroup)
def command() -> None:
    """List the transfers that were cut, in both directions, and those in the queue; subcommands change them."""


@command.command("list")
@click.pass_obj
def show(options: Global) -> None:
    """List what was cut or is queued, as `jobs` alone does.

    First those under way, then those in the queue in the order in which they go, then the others, the latest first.
    """
    from p2pxfer.cli.queueing import unattended

    home = options.open_home()
    seen = survey(home)
    found = [job for _, job in seen.jobs]
    notes = [f"{each.why}; p2pxfer jobs cancel {each.number} drops it" for each in seen.unreadable]
    if any(job.state == "queued" for job in found) and not seen.attended:
        notes.append(unattended(home))
    if options.json:
        for job in found:
            print_event(job)
        for note in notes:
            print_event(Note(note))
        return
    if found:
        click.echo(f"{'JOB':<9} {'':<8} {'PEER':<24} {'DONE':>5}  {'LAST CHANGE':<17} WHAT")
    elif not notes:
        click.echo("nothing is unfinished", err=True)
    for job in found:
        done = f"{100 * job.bytes // job.total if job.total else 0} %"
        names = few_of(job.names)
        what = f"{names} in {safe_text(job.where, 200)}{remark(job)}"
        when = job.changed[:16].replace("T", " ")
        click.echo(f"{job.job:<9} {job.direction:<8} {safe_text(job.peer, 24):<24} {done:>5}  {when:<17} {what}")
    for note in notes:
        click.echo(note, err=True)


def remark(job: JobListed) -> str:
    """What is going on with a job, behind what it is."""
    if job.state == "asking":
        return " (waits for the peer's consent)"
    if job.state == "waiting":
        return f" (waiting; {job.why})"
    if job.state == "running":
        return f" (waiting or slow; {job.why})" if job.why else " (running)"
    if job.state == "cut" and job.why:
        return f" ({job.why}: jobs cancel drops it)"
    if job.state not in ("queued", "paused", "failed"):
        return ""
    place = f", place {job.place}" if job.place > 1 else ", goes next" if job.place else ""
    priority = f", priority {job.priority}" if job.priority else ""
    last = "; " if job.state == "failed" else "; the last try: "
    return f" ({job.state}{place}{priority}{last if job.why else ''}{safe_text(job.why, 500)})"


@command.command("resume")
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=job_numbers)
@click.option("--all", "everything", is_flag=True, help="Go on with all that was cut, paused or has failed.")
@click.pass_obj
def resume(options: Global, jobs: tuple[str, ...], everything: bool) -> None:
    """Go on with every JOB, with the options of before.

    Without JOB it is the one that waits for this, if there is one alone.  The same is sent again, or received once
    where it was being received; what is at the other end already is not sent again.  A queued JOB that was paused or
    has failed is tried again by the agent.  The others go on one after the other, first what is sent; one that fails
    does not keep the next, and the exit code is that of the first such.
    """
    from p2pxfer.cli.resuming import picked, resume_them

    home = options.open_home()
    resume_them(options, home, picked(home, jobs, everything=everything))


@command.command("pause")
@some_jobs
@click.pass_obj
def pause(options: Global, jobs: tuple[str, ...]) -> None:
    """Let every queued JOB wait until it is resumed.

    One that runs is stopped.
    """
    from p2pxfer.cli import queueing

    for number in jobs:
        change(options, number, queueing.pause, "paused")


@command.command("first")
@one_job
@click.pass_obj
def first(options: Global, job: str) -> None:
    """Let a queued JOB go before all others.

    What is being sent already is not stopped.
    """
    from p2pxfer.cli import queueing

    home = options.open_home()
    change(options, job, queueing.first(home, queued_one(home, job)[0]), "first")


@command.command("priority", context_settings={"ignore_unknown_options": True})
@one_job
@click.argument("number", type=Whole(-MOST_PRIORITY, MOST_PRIORITY))
@click.pass_obj
def priority(options: Global, job: str, number: int) -> None:
    """Give a queued JOB the priority NUMBER, which is 0 at first.

    Higher ones go first, then older ones.
    """
    from p2pxfer.cli import queueing

    change(options, job, queueing.with_priority(number), f"priority {number}")


@command.command("cancel")
@some_jobs
@click.pass_obj
def cancel(options: Global, jobs: tuple[str, ...]) -> None:
    """Drop every JOB, and what arrived of it here.

    A job of sending is only forgotten.  A queued JOB that runs is stopped.
    """
    from p2pxfer.cli import queueing
    from p2pxfer.net.queue.joblist import UNDER_WAY
    from p2pxfer.net.queue.queuestore import Queued
    from p2pxfer.net.queue.sendjobs import SendJobs
    from p2pxfer.net.staging.partials import Partial, drop

    home = options.open_home()
    for number in jobs:
        if queueing.drop_unreadable(home, number):
            say(options, Note(f"dropped {number}"), f"dropped {number}")
            continue
        found, job = chosen(home, number)
        if isinstance(found, Queued):
            queueing.drop(home, found)
        elif job.state in UNDER_WAY:
            again = ", and start it again" if isinstance(found, Partial) else ""
            raise UsageError(f"{under_way(found, job)}; end that with Ctrl-C, then cancel{again}")
        elif isinstance(found, Partial):
            drop(found)
        else:
            SendJobs(home.path).remove(found)
        stays = f"; what arrived stays with {safe_text(job.peer, 60)} until it is cancelled there"
        left = stays if job.direction == "send" and job.bytes else ""
        say(options, replace(job, state="dropped", place=0), f"dropped {job.job}{left}")


def under_way(job: Job, listed: JobListed) -> str:
    """That another process has a job in hand, and which one, where that can be seen."""
    from p2pxfer.net.staging.partials import Partial

    if isinstance(job, Partial) and job.process:
        return f"{listed.job} is under way in another process, which receives it or waits for its sender: {job.process}"
    return f"{listed.job} is under way in another process"


def change(options: Global, number: str, how: Callable[[Queued], Queued], said: str) -> None:
    """Change what a person wishes of a queued job, and say so.

    Raises:
        P2pxferError: there is none, or it could not be changed.
    """
    from p2pxfer.cli.queueing import change as carry_out
    from p2pxfer.cli.queueing import unattended
    from p2pxfer.net.queue.joblist import queued
    from p2pxfer.net.queue.queuestore import QueueStore

    home = options.open_home()
    entry, job = queued_one(home, number)
    attended = QueueStore(home.path).attended
    listed = queued(carry_out(home, entry, how), job.peer, attended=attended)
    say(options, listed, f"{job.job}: {said}")
    if listed.state == "queued" and not attended and not options.json:
        click.echo(unattended(home), err=True)


def say(options: Global, event: JobListed | Note, text: str) -> None:
    """Print what was done: an event, or a line for people."""
    if options.json:
        print_event(event)
    else:
        click.echo(text, err=True)


def queued_one(home: Home, number: str) -> tuple[Queued, JobListed]:
    """The job in the queue that ``number``, or the beginning of its number, names.

    Raises:
        UsageError: there is none, or several, or it is not queued.
    """
    from p2pxfer.net.queue.queuestore import Queued

    found, job = chosen(home, number)
    if not isinstance(found, Queued):
        raise UsageError(
            f"{job.job} is not in the queue: its program is ended with Ctrl-C, and goes on with jobs resume"
        )
    return found, job


def chosen(home: Home, number: str) -> tuple[Job, JobListed]:
    """The job that ``number``, or the beginning of its number, names.

    Raises:
        UsageError: there is none, or several.
    """
    found = [(job, listed) for job, listed in everything(home) if number and listed.job.startswith(number.lower())]
    if len(found) != 1:
        why = "there is no unfinished job" if not found else "several jobs have numbers that begin with"
        raise UsageError(f"{why} {safe_text(number, 40)}; p2pxfer jobs lists them")
    return found[0]


class Survey(Struct, frozen=True):
    """What one look at a home shows: its jobs, what cannot be used of the queue, whether an agent carries that out."""

    jobs: list[tuple[Job, JobListed]]
    unreadable: list[Unreadable]
    attended: bool


def everything(home: Home) -> list[tuple[Job, JobListed]]:
    """All jobs of this machine: what runs, what is queued in the order in which it goes, the others, latest first."""
    return survey(home).jobs


def survey(home: Home) -> Survey:
    """Look at a home; the jobs are as of :func:`everything`."""
    from p2pxfer.net.private.privatedir import HeldLocks
    from p2pxfer.net.queue.joblist import queued
    from p2pxfer.net.queue.queuestore import QueueStore
    from p2pxfer.net.queue.sendjobs import SendJobs
    from p2pxfer.net.staging.partials import find

    contacts = {contact.id.digest: contact.name for contact in home.contacts()}
    store, jobs, locks = QueueStore(home.path), SendJobs(home.path), HeldLocks()
    attended = store.is_attended(locks)
    entries, unreadable = store.read()
    found: list[tuple[Job, JobListed]] = [(job, sent(job, jobs.is_running(job, locks))) for job in jobs.all()]
    found += [(entry, queued(entry, contacts.get(entry.key, entry.peer), attended=attended)) for entry in entries]
    found += [(partial, received(partial, contacts)) for partial in find(home.path, locks)]
    return Survey(in_order(found), unreadable, attended)


def in_order(found: list[tuple[Job, JobListed]]) -> list[tuple[Job, JobListed]]:
    """These as :func:`everything` has them; those that are queued are told their place."""
    from p2pxfer.core.transfer.queue import rank
    from p2pxfer.net.queue.joblist import UNDER_WAY
    from p2pxfer.net.queue.queuestore import Queued

    latest = sorted(found, key=lambda pair: pair[1].changed, reverse=True)
    waiting = {
        rank(job.priority, job.added, job.number): (job, listed)
        for job, listed in latest
        if isinstance(job, Queued) and listed.state == "queued"
    }
    queue = [(job, replace(listed, place=n)) for n, (_, (job, listed)) in enumerate(sorted(waiting.items()), 1)]
    under_way = [pair for pair in latest if pair[1].state in UNDER_WAY]
    return [*under_way, *queue, *(pair for pair in latest if pair[1].state not in {*UNDER_WAY, "queued"})]


def sent(job: SendJob, running: bool) -> JobListed:
    """A job of sending as it is shown."""
    from p2pxfer.net.queue.joblist import moment, where_and_what

    where, names = where_and_what(job.paths)
    state: Literal["running", "cut"] = "running" if running else "cut"
    return JobListed(job.number, "send", job.peer, names, job.acked, job.size, where, moment(job.changed), state)


def received(partial: Partial, contacts: dict[bytes, str]) -> JobListed:
    """A job of receiving as it is shown."""
    from p2pxfer.net.queue.joblist import moment

    quiet = time.time() - partial.changed
    why = f"nothing was written for {quiet:.0f} s" if partial.busy and quiet >= QUIET_S else ""
    waits = partial.busy and partial.waits
    why = AWAY if waits else why
    why = "superseded, a later one of the same name has arrived" if partial.superseded and not partial.busy else why
    peer = contacts.get(partial.sender, "") or str(PeerId(partial.sender))
    return JobListed(
        partial.number, "receive", peer, tuple(partial.names), partial.have, partial.total, partial.into.path,
        moment(partial.changed), "waiting" if waits else "running" if partial.busy else "cut", why=why,
    )  # fmt: skip
