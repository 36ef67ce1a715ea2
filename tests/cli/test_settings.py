"""What commands are told of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from twisted.internet.task import Clock

from p2pxfer.cli.settings import Global, approach_options, machine_of
from p2pxfer.core.approach import Approach
from p2pxfer.core.serveraddress import ServerLine
from p2pxfer.errors import ConfigError
from p2pxfer.net.private.home import Home, Settings
from p2pxfer.net.session.machine import Machine

WAYS = [
    ([], Approach("auto", gentle=False, port_mapping=True)),
    (["--path", "relay", "--gentle"], Approach("relay", gentle=True, port_mapping=True)),
    (["--no-port-mapping"], Approach("auto", gentle=False, port_mapping=False)),
]


@pytest.mark.parametrize(("words", "wanted"), WAYS)
def test_a_command_gets_the_three_options_as_one_value(words: list[str], wanted: Approach) -> None:
    given: list[Any] = []

    @click.command("meet")
    @click.option("--before")
    @approach_options
    @click.option("--after")
    @click.pass_context
    def meet(ctx: click.Context, before: str, approach: Approach, after: str) -> None:
        """Meet somebody."""
        given.extend([approach, before, after, ctx.get_parameter_source("gentle")])

    meet.main(["--before", "b", *words, "--after", "a"], standalone_mode=False)
    source = click.core.ParameterSource
    assert given == [wanted, "b", "a", source.COMMANDLINE if "--gentle" in words else source.DEFAULT]
    assert [param.name for param in meet.params] == ["before", "policy", "gentle", "port_mapping", "after"]
    assert meet.help == "Meet somebody."


def test_a_machine_is_what_the_home_and_the_options_say(tmp_path: Path) -> None:
    home, reactor, line = Home(tmp_path), Clock(), ServerLine("h", 1, None)
    options, approach = Global(None, None, False, 0), Approach("direct")
    home.save_settings(Settings(name="alice"))
    machine: Any = machine_of(options, home, line, approach, 7.0)(reactor)  # type: ignore[arg-type]  # any will do
    assert (machine.reactor, machine.home, machine.server) == (reactor, home, line)
    assert (machine.name, machine.approach, machine.patience) == ("alice", approach, 7.0)
    assert machine.identity.id == home.identity().id
    other: Any = machine_of(options, home, line, approach, name="Bob")(reactor)  # type: ignore[arg-type]  # as above
    assert (other.name, other.patience) == ("bob", 60.0)


def test_without_a_server_it_is_said_how_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an agent, which has this from its options, and to programs."""
    monkeypatch.delenv("P2PXFER_SERVER", raising=False)
    how = "give --server HOST:PORT#PIN (server= in a program), set P2PXFER_SERVER, or run p2pxfer init"
    with pytest.raises(ConfigError) as caught:
        Machine.here(Clock(), tmp_path)  # type: ignore[arg-type]  # any will do
    assert caught.value.message == f"no rendezvous server is set: {how}"
