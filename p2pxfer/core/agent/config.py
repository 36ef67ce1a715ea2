"""The configuration of an agent: what ``agent.toml`` may say, and what holds where it says nothing.

Laws of this file:

1. Everything has a default: an empty file, and none, are good ones.
2. What is not understood is an error that names its key, on one line; nothing is guessed and nothing ignored.
3. Who a contact is, is not asked here: names may be those of contacts that come later.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from p2pxfer.core.approach import Approach
from p2pxfer.core.ids import PREFIX, parse_id
from p2pxfer.core.messages import PathPolicy
from p2pxfer.core.names import check_contact_name, check_name, normalise_name
from p2pxfer.core.rates import parse_rate
from p2pxfer.core.session.services import DEFAULT_SERVICE, MAX_OFFERED, check_service, parse_target
from p2pxfer.core.text import safe_text
from p2pxfer.errors import ConfigError, P2pxferError

SCHEMA: Final = 1
"""Version of the file; a newer one is refused."""
MAX_BYTES: Final = 256 * 1024
MAX_SERVICES: Final = MAX_OFFERED
MAX_FOLDERS: Final = 1024
_LONG: Final = 4096
"""Most characters of a path."""
_WHERE: Final = re.compile(r"(?P<what>.*?)(?: - at (?P<where>`.*))?", re.DOTALL)
_FIELD: Final = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>[^`]*)`")
_Value = TypeVar("_Value")
_Path = Annotated[str, Meta(min_length=1, max_length=_LONG, pattern=r"^[^\x00]*$")]


class ServiceConfig(Struct, frozen=True, forbid_unknown_fields=True, rename={"service": "as"}):
    """A TCP service that contacts may use, as with ``p2pxfer expose``."""

    target: Annotated[str, Meta(description="``HOST:PORT``, or ``[IPV6]:PORT``, as this machine reaches it.")]
    to: Annotated[
        tuple[str, ...], Meta(min_length=1, max_length=256, description="Who may use it: names or ids of contacts.")
    ]
    service: Annotated[str, Meta(description="What they call it: ``p2pxfer connect THIS-MACHINE:NAME``.")] = (
        DEFAULT_SERVICE
    )


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent does; ``rate`` is ``limit`` in bytes a second, 0 for none."""

    schema: Annotated[int, Meta(ge=1, description="Version of the file's format.")] = SCHEMA
    name: Annotated[
        str | None,
        Meta(description="Register under this name.  Default: the one that ``init`` stored, else the user's name."),
    ] = None
    receive: Annotated[bool, Meta(description="Whether files are received at all.")] = True
    inbox: Annotated[
        _Path,
        Meta(
            description="Directory for what arrives; each contact gets a folder of its own in it.  A path that does not"
            " begin with ``/`` or ``~`` begins in the private directory."
        ),
    ] = "inbox"
    limit: Annotated[
        str | int,
        Meta(description='Most bytes a second of each incoming transfer, a number or such as ``"5M"``; 0: no limit.'),
    ] = 0
    path: Annotated[
        PathPolicy, Meta(description="``auto``, ``direct`` (never the relay) or ``relay`` (never a direct path).")
    ] = "auto"
    gentle: Annotated[bool, Meta(description="Never send many SYNs at a NAT.")] = False
    port_mapping: Annotated[bool, Meta(description="Ask the router to let peers in at one port.")] = True
    patience: Annotated[
        float,
        Meta(ge=1, le=1e6, description="How long connections of a contact are kept without any path to it, seconds."),
    ] = 60.0
    folders: Annotated[
        dict[str, _Path],
        Meta(
            max_length=MAX_FOLDERS,
            description="Other directories for some contacts: their name or id, and a path as in ``inbox``.",
        ),
    ] = field(default_factory=dict)
    services: Annotated[
        tuple[ServiceConfig, ...], Meta(max_length=MAX_SERVICES, description="Services, each a table of its own.")
    ] = ()

    @property
    def approach(self) -> Approach:
        """How peers are reached."""
        return Approach(self.path, self.gentle, self.port_mapping)

    @property
    def rate(self) -> int:
        """``limit`` in bytes a second; it was checked."""
        return self.limit if isinstance(self.limit, int) else parse_rate(self.limit)


def parse_config(data: bytes, where: str) -> AgentConfig:
    """The checked content of a configuration file; ``where`` is what it is called in sentences.

    Raises:
        ConfigError: one line with the key that is wrong.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where} is larger than {MAX_BYTES} bytes")
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{where} is not TOML: {safe_text(str(error), 200)}") from error
    schema = table.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise ConfigError(
            f"{where} is for a newer version of this program (schema {schema}, this program knows {SCHEMA})"
        )
    try:
        config = msgspec.convert(table, AgentConfig)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(f"{where}: {_key_and_fault(str(error))}") from error
    return _checked(config, where)


def _key_and_fault(text: str) -> str:
    """What msgspec says, with the key in front, as people write it in TOML."""
    found = _WHERE.fullmatch(text)
    assert found is not None
    key = re.sub(r"`(?:\$\.?)?|`", "", found["where"] or "").replace("[...]", "")
    missing = _FIELD.match(found["what"])
    if missing is not None:
        key = f"{key}.{missing['name']}" if key else missing["name"]
        what = "it is missing" if "missing" in missing[0] else "there is no such key"
    else:
        what = found["what"].replace("`", "")
    return safe_text(f"{key}: {what}" if key else what, 300)


def _checked(config: AgentConfig, where: str) -> AgentConfig:
    def check(key: str, look: Callable[[], _Value]) -> _Value:
        """What ``look`` says of the value of ``key``; its error names the file and the key."""
        try:
            return look()
        except P2pxferError as error:
            raise ConfigError(f"{where}: {safe_text(key, 100)}: {error.message}") from error

    if config.name is not None:
        name = config.name
        config = replace(config, name=check("name", lambda: check_name(normalise_name(name))))
    check("limit", lambda: _rate(config.limit))
    folders: dict[str, str] = {}
    for key, folder in config.folders.items():
        who = check(f"folders.{key}", lambda key=key: check_who(key))  # type: ignore[misc]  # bound in each turn
        if who in folders:
            raise ConfigError(f"{where}: {safe_text(f'folders.{key}', 100)}: there are two folders for this contact")
        folders[who] = folder
    services = []
    for number, service in enumerate(config.services):
        at = f"services[{number}]"
        check(f"{at}.as", lambda one=service: check_service(one.service))  # type: ignore[misc]  # as above
        check(f"{at}.target", lambda one=service: parse_target(one.target))  # type: ignore[misc]  # as above
        guests = check(f"{at}.to", lambda one=service: tuple(map(check_who, one.to)))  # type: ignore[misc]  # as above
        services.append(replace(service, to=guests))
    names = [service.service for service in config.services]
    for number, each in enumerate(names):
        if each in names[:number]:
            raise ConfigError(f"{where}: services[{number}].as: there are two services called {each}")
    return replace(config, folders=folders, services=tuple(services))


def check_who(text: str) -> str:
    """What may name a contact: a name as it is, an id as ids are written here, however it was spelled.

    Raises:
        UsageError: it cannot.
    """
    if text.lower().startswith(f"{PREFIX}-"):
        return str(parse_id(text))
    return check_contact_name(text)


def _rate(limit: Any) -> None:
    """Raises :class:`~p2pxfer.errors.UsageError` where it is none."""
    if isinstance(limit, str):
        parse_rate(limit)
    elif limit != 0:
        parse_rate(str(limit) if limit > 0 else "none")
