"""``p2pxfer jobs``: transfers of this machine that are not whole yet."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import click
from msgspec.structs import replace

from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.settings import Global, ListGroup
from p2pxfer.core.ids import PeerId
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError
from p2pxfer.status import JobListed

if TYPE_CHECKING:
    from p2pxfer.net.private.home import Home
    from p2pxfer.net.transfer.partials import Partial
    from p2pxfer.net.transfer.sendjobs import SendJob


_IN_HAND: Final = {"send": " (running)", "receive": " (a running receive has it, or waits for its sender)"}
"""What is said of a job that a process has in hand; how near the sender is only that process knows."""


@click.group("jobs", cls=ListGroup)
def command() -> None:
    """List the transfers that were cut, in both directions; subcommands go on with one or drop it."""


@command.command("list")
@click.pass_obj
def show(options: Global) -> None:
    """List the transfers that were cut, which `jobs` alone does too."""
    found = [job for _, job in everything(options.open_home())]
    if options.json:
        for job in found:
            print_event(job)
        return
    if not found:
        click.echo("nothing is unfinished", err=True)
        return
    click.echo(f"{'JOB':<9} {'':<8} {'PEER':<24} {'DONE':>5}  {'LAST CHANGE':<17} WHAT")
    for job in found:
        done = f"{100 * job.bytes // job.total if job.total else 0} %"
        names = ", ".join(safe_text(name, 60) for name in job.names[:3]) + (" ..." if len(job.names) > 3 else "")
        what = f"{names} in {safe_text(job.where, 200)}" + (_IN_HAND[job.direction] if job.state == "running" else "")
        when = job.changed[:16].replace("T", " ")
        click.echo(f"{job.job:<9} {job.direction:<8} {safe_text(job.peer, 24):<24} {done:>5}  {when:<17} {what}")


@command.command("resume")
@click.argument("job")
@click.pass_context
def resume(ctx: click.Context, job: str) -> None:
    """Go on with JOB: send the same again, or receive once where it was being received, with the options of before.

    What is at the other end already is not sent again.
    """
    from p2pxfer.net.transfer.partials import Partial

    found, listed = chosen(ctx.obj.open_home(), job)
    if listed.state == "running":
        raise UsageError(f"{listed.job} is under way in another process")
    if isinstance(found, Partial):
        from p2pxfer.cli.receive import command as receive

        into = found.into
        ctx.invoke(
            receive, name=into.name, destination=into.path, to_stdout=False, once=True, acceptance=into.acceptance,
            no_code=into.no_code, limit=into.limit, policy=into.policy, gentle=into.gentle,
            port_mapping=into.port_mapping, timeout=into.timeout,
        )  # fmt: skip
    else:
        from p2pxfer.cli.send import command as send

        ctx.invoke(
            send, paths=tuple(found.paths), peer=found.peer, code_file=None, name=None, links=found.links,
            delta=found.delta, limit=found.limit, policy=found.policy, gentle=found.gentle,
            port_mapping=found.port_mapping, wait=found.wait, timeout=found.timeout,
        )  # fmt: skip


@command.command("cancel")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
@click.pass_obj
def cancel(options: Global, jobs: tuple[str, ...]) -> None:
    """Drop every JOB: what arrived of it here is removed; a job of sending is only forgotten."""
    from p2pxfer.net.transfer.partials import Partial, drop
    from p2pxfer.net.transfer.sendjobs import SendJobs

    home = options.open_home()
    for number in jobs:
        found, job = chosen(home, number)
        if job.state == "running":
            raise UsageError(f"{job.job} is under way in another process; end that first")
        if isinstance(found, Partial):
            drop(found)
        else:
            SendJobs(home.path).remove(found)
        if options.json:
            print_event(replace(job, state="dropped"))
        else:
            click.echo(f"dropped {job.job}", err=True)


def chosen(home: Home, number: str) -> tuple[SendJob | Partial, JobListed]:
    """The job that ``number``, or the beginning of its number, names.

    Raises:
        UsageError: there is none, or several.
    """
    found = [(job, listed) for job, listed in everything(home) if number and listed.job.startswith(number.lower())]
    if len(found) != 1:
        why = "there is no unfinished job" if not found else "several jobs have numbers that begin with"
        raise UsageError(f"{why} {safe_text(number, 40)}; p2pxfer jobs lists them")
    return found[0]


def everything(home: Home) -> list[tuple[SendJob | Partial, JobListed]]:
    """All jobs of this machine, the latest first."""
    from p2pxfer.net.transfer.partials import find
    from p2pxfer.net.transfer.sendjobs import SendJobs

    found: list[tuple[SendJob | Partial, JobListed]] = [
        (job, sent(job, SendJobs(home.path).is_running(job))) for job in SendJobs(home.path).all()
    ]
    contacts = {contact.id.digest: contact.name for contact in home.contacts()}
    found += [(partial, received(partial, contacts)) for partial in find(home.path)]
    return sorted(found, key=lambda pair: pair[1].changed, reverse=True)


def sent(job: SendJob, running: bool) -> JobListed:
    """A job of sending as it is shown."""
    where = os.path.commonpath([os.path.dirname(path.rstrip("/")) or "/" for path in job.paths])  # noqa: PTH120  # text
    names = tuple(os.path.relpath(path, where) for path in job.paths)
    state: Literal["running", "cut"] = "running" if running else "cut"
    return JobListed(job.number, "send", job.peer, names, job.acked, job.size, where, moment(job.changed), state)


def received(partial: Partial, contacts: dict[bytes, str]) -> JobListed:
    """A job of receiving as it is shown."""
    peer = contacts.get(partial.sender, "") or str(PeerId(partial.sender))
    return JobListed(
        partial.number, "receive", peer, tuple(partial.names), partial.have, partial.total, partial.into.path,
        moment(partial.changed), "running" if partial.busy else "cut",
    )  # fmt: skip


def moment(seconds: float) -> str:
    """A time since 1970 as text, UTC."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), 2**35), UTC).isoformat(timespec="seconds")
