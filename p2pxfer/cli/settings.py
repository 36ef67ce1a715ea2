"""What every command needs before it starts: the private directory, the server, the name.

Nothing here imports Twisted.
"""

from __future__ import annotations

import functools
import getpass
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from msgspec import Struct

from p2pxfer.core.approach import Approach
from p2pxfer.core.names import check_name, normalise_name, suggest_name
from p2pxfer.core.rates import parse_rate
from p2pxfer.core.serveraddress import ServerLine, parse_server_line
from p2pxfer.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pxfer.core.messages import PathPolicy
    from p2pxfer.net.private.home import Home
    from p2pxfer.net.session.machine import Machine
    from p2pxfer.net.types import Reactor


path_option = click.option(
    "--path", "policy", type=click.Choice(["auto", "direct", "relay"]), default="auto", show_default=True,
    help="auto: relay at once, direct as soon as it stands; direct: never the relay; relay: never a direct path.",
)  # fmt: skip
gentle_option = click.option(
    "--gentle", is_flag=True,
    help="Never send many SYNs at a NAT that chooses a new port for every connection: it may look like a scan.",
)  # fmt: skip
"""Options that both ends of a transfer have."""
mapping_option = click.option(
    "--port-mapping/--no-port-mapping", "port_mapping", default=True, show_default=True,
    help="Ask the router (PCP, NAT-PMP, UPnP) to let peers in at one port, and give it back at the end.",
)  # fmt: skip


def approach_options(command: Callable[..., None]) -> Callable[..., None]:
    """All three of them, which the command gets as one ``approach``."""

    @functools.wraps(command)
    def with_approach(*words: object, policy: PathPolicy, gentle: bool, port_mapping: bool, **options: object) -> None:
        """Hand them on."""
        command(*words, approach=Approach(policy, gentle, port_mapping), **options)

    return path_option(gentle_option(mapping_option(with_approach)))


class Rate(click.ParamType["int"]):
    """Bytes a second on the command line: a number and K, M or G, the powers of 1024."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        if isinstance(value, int):
            return value
        try:
            return parse_rate(value)
        except UsageError as error:
            self.fail(error.message, param, ctx)


limit_option = click.option(
    "--limit", metavar="RATE", type=Rate(), default=0,
    help="Send, or ask the sender for, at most RATE bytes a second of each transfer: 800K, 5M, 1.5G.",
)  # fmt: skip


class Seconds(click.FloatRange):
    """A time on the command line; `nan`, which passes every comparison, is none."""

    def __init__(self) -> None:
        super().__init__(min=0.1, max=1e7)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        number = float(super().convert(number, param, ctx))
        if math.isnan(number):
            self.fail("nan is not a time", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number on the command line, from the one to the other; what is none is said as what is out of range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number from {self.min} to {self.max}", param, ctx)


def was_closed(stream: TextIO) -> bool:
    """Whether a standard stream was closed when the program started: what stands in its place has a number for name."""
    return stream.name == stream.fileno()


class Global(Struct, frozen=True):
    """The global options as given."""

    server: str | None
    home: str | None
    json: bool
    verbose: int
    quiet: bool = False

    def open_home(self) -> Home:
        """The private directory, made on first use.

        Raises:
            ConfigError: it cannot be used.
        """
        from p2pxfer.net.private.home import Home, default_home

        return Home(Path(self.home) if self.home else default_home(os.environ))

    def server_line(self, home: Home) -> ServerLine:
        """The server: option, environment, stored setting, in this order.

        Raises:
            ConfigError: none is set.
            UsageError: not an address.
        """
        text = self.server or os.environ.get("P2PXFER_SERVER") or home.settings().server
        if not text:
            raise ConfigError(
                "no rendezvous server is set: give --server HOST:PORT#PIN, set P2PXFER_SERVER, or run p2pxfer init"
            )
        return parse_server_line(text)

    def own_name(self, home: Home, given: str | None) -> str:
        """The name of this machine: option, stored setting, user name.

        Raises:
            NameInvalid: not a legal name.
        """
        text = given or home.settings().name
        return check_name(normalise_name(text)) if text else suggest_name(getpass.getuser())


class ListGroup(click.Group):
    """A group that does what its subcommand ``list`` does where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click; what a person types so far is only completed."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["list"]))


def machine_of(
    options: Global,
    home: Home,
    line: ServerLine,
    approach: Approach,
    patience: float | None = None,
    name: str | None = None,
) -> Callable[[Reactor], Machine]:
    """This machine as the options say, on the reactor that there will be.

    Raises:
        ConfigError: its key cannot be used.
        NameInvalid: its name is not legal.
    """
    from p2pxfer.net.session.machine import PATIENCE_S, Machine

    identity, known_as = home.identity(), options.own_name(home, name)
    patience = PATIENCE_S if patience is None else patience
    return lambda reactor: Machine(reactor, home, identity, line, known_as, approach, patience)
