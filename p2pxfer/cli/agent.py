"""``p2pxfer agent``: what the agent of this home does, and its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from p2pxfer.cli.eventline import print_event
from p2pxfer.cli.settings import Global
from p2pxfer.core.text import safe_text
from p2pxfer.errors import UsageError

if TYPE_CHECKING:
    from p2pxfer.core.agent.control import Status
    from p2pxfer.inventory import Agent
    from p2pxfer.status import Event


@click.group("agent")
def command() -> None:
    """Ask or end the agent of this home; `twistd p2pxfer-agent` starts it."""


@command.command("status")
@click.pass_obj
def status(options: Global) -> None:
    """Say whether an agent runs, and what it does.

    The exit code is 3 if none runs.
    """
    from p2pxfer.net.agent.asking import status as ask

    found = ask(options.open_home().path)
    if options.json:
        events: tuple[Event, ...] = (found.agent, *found.services, *found.transfers)
        for event in events:
            print_event(event)
        return
    for line in lines(found):
        click.echo(line)


@command.command("start", hidden=True)
@click.pass_obj
def start(options: Global) -> None:
    """Say what starts an agent, which is no command of this program."""
    from p2pxfer.net.agent.room import how_to_start

    raise UsageError(f"p2pxfer agent asks or ends an agent; {how_to_start(options.open_home().path)}")


@command.command("stop")
@click.pass_obj
def stop(options: Global) -> None:
    """End the agent in good order and wait until it has ended.

    The exit code is 3 if none runs.  What is under way is kept, and goes on when an agent is started again.
    """
    from p2pxfer.net.agent.asking import stop as end
    from p2pxfer.status import Note

    process = end(options.open_home().path)
    ended = f"the agent (process {process}) has ended; what was under way is kept and goes on with the next one"
    if options.json:
        print_event(Note(ended))
    else:
        click.echo(ended)


def lines(found: Status) -> list[str]:
    """What people see of it."""
    from p2pxfer.core.words.eventtext import describe, human_size

    agent = found.agent
    only = "" if agent.receives else ", receives nothing"
    shown = [
        f"the agent runs as {safe_text(agent.name)}{only} (process {agent.pid}, for {_time(agent.up_s)})",
        *map(safe_text, _place(agent)),
        f"{agent.queued} to be sent, {agent.transfers} under way{_stuck(agent)}",
        f"{agent.sent} sent and {agent.received} received since it started",
    ]
    for job in found.transfers:
        names = ", ".join(safe_text(name, 60) for name in job.names)
        way = "from" if job.direction == "receive" else "to"
        part = f"{human_size(job.bytes)} of {human_size(job.total)}" if job.total else human_size(job.bytes)
        part = "waits for the peer's consent" if job.state == "asking" else part
        shown.append(f"  {names} {way} {safe_text(job.peer)}: {part}")
    if agent.services:
        shown.append(f"{len(found.services)} of {agent.services} services can be reached")
    closed = (f"  {safe_text(one, 500)}" for one in (*agent.left_out, *agent.closed))
    return [*shown, *(f"  {describe(service)}" for service in found.services), *closed]


def _stuck(agent: Agent) -> str:
    """What waits for a person."""
    counts = [f", {number} {what}" for number, what in ((agent.paused, "paused"), (agent.failed, "failed")) if number]
    return "".join([*counts, "; p2pxfer jobs names them"]) if counts else ""


def _place(agent: Agent) -> Iterator[str]:
    """Where it is to be found, or why it is not, and where it puts what comes."""
    again = f"; tried again in {agent.again_s:g} s" if agent.again_s is not None else ""
    why = f": {agent.trouble}{again}" if agent.trouble else ""
    if agent.observed:
        yield f"registered at {agent.server}, seen as {agent.observed}"
        if why:
            yield f"not under all its names{why}"
    else:
        yield f"not registered at {agent.server}{why}"
    if agent.inbox:
        has = "has another one" if agent.folders == 1 else "have others"
        others = f"; {agent.folders} {has}" if agent.folders else ""
        yield f"files go to {agent.inbox}, a folder for each contact{others}"


def _time(seconds: float) -> str:
    """A time for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2]) or "0 s"
