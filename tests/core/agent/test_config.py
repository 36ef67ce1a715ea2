"""The agent's configuration: what is left out has a default, and what is wrong is one line that names its key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pxfer.core.agent.config import MAX_BYTES, AgentConfig, ServiceConfig, parse_config
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError

ID = str(PeerId(bytes(range(32))))
FULL = f"""
schema = 1
name = "Nas"
receive = true
inbox = "~/arrived"
limit = "5M"
path = "direct"
gentle = true
port_mapping = false
patience = 90

[folders]
alice = "/srv/photos"
"{ID}" = "others"

[[services]]
target = "127.0.0.1:80"
to = ["bob", "{ID}"]
as = "web"

[[services]]
target = "[::1]:22"
to = ["bob"]
"""


def parse(text: str) -> AgentConfig:
    return parse_config(text.encode(), "agent.toml")


def test_nothing_is_a_good_configuration() -> None:
    assert parse("") == AgentConfig()
    assert parse("# nothing yet\n").rate == 0


def test_everything_that_may_be_said() -> None:
    config = parse(FULL)
    assert config == AgentConfig(
        name="nas", inbox="~/arrived", limit="5M", path="direct", gentle=True, port_mapping=False, patience=90.0,
        folders={"alice": "/srv/photos", ID: "others"},
        services=(
            ServiceConfig(target="127.0.0.1:80", to=("bob", ID), service="web"),
            ServiceConfig(target="[::1]:22", to=("bob",), service="default"),
        ),
    )  # fmt: skip
    assert config.rate == 5 * 1024 * 1024
    assert parse("limit = 2048").rate == 2048


@pytest.mark.parametrize("spelled", [ID, ID.upper(), ID[:6] + ID[6:].replace("-", "").upper()])
def test_an_id_is_found_however_it_is_spelled(spelled: str) -> None:
    assert parse(f'[folders]\n"{spelled}" = "x"\n').folders == {ID: "x"}
    assert parse(SERVICE.replace("bob", spelled)).services[0].to == (ID,)
    if spelled != ID:
        with pytest.raises(ConfigError, match="two folders for this contact") as caught:
            parse(f'[folders]\n"{ID}" = "x"\n"{spelled}" = "y"\n')
        assert caught.value.message.startswith(f"agent.toml: folders.{spelled}: ")


SERVICE = '[[services]]\ntarget = "127.0.0.1:80"\nto = ["bob"]\n'


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("nmae = 'x'", "nmae", "there is no such key"),
        ("name = 5", "name", "str"),
        ("name = '-'", "name", "consists of 3 to 32 of"),
        ("receive = 'yes'", "receive", "bool"),
        ("inbox = ''", "inbox", "length >= 1"),
        ('inbox = "a\\u0000b"', "inbox", "regex"),
        ("limit = 'fast'", "limit", "800K"),
        ("limit = 5", "limit", "least rate"),
        ("limit = -1", "limit", "800K"),
        ("limit = 1.5", "limit", "float"),
        ("path = 'any'", "path", "any"),
        ("patience = 0", "patience", ">= 1"),
        ("patience = nan", "patience", ">= 1"),
        ("[folders]\nalice = 5", "folders", "str"),
        ("[folders]\n'../up' = '/x'", "folders.../up", "a name consists"),
        ("[folders]\np2px1-zzz = '/x'", "folders.p2px1-zzz", "not a peer id"),
        ("services = 'web'", "services", "array"),
        ("[[services]]\nto = ['bob']", "services[0].target", "missing"),
        ("[[services]]\ntarget = '127.0.0.1:80'", "services[0].to", "missing"),
        ("[[services]]\ntarget = '127.0.0.1:80'\nto = []", "services[0].to", "length >= 1"),
        (SERVICE + "port = 80", "services[0].port", "there is no such key"),
        (SERVICE.replace(":80", ""), "services[0].target", "HOST:PORT"),
        (SERVICE + "as = 'Web'", "services[0].as", "the name of a service"),
        (SERVICE.replace("bob", "b b"), "services[0].to", "a name consists"),
        (SERVICE + SERVICE, "services[1].as", "two services"),
        ("schema = 0", "schema", ">= 1"),
        ("schema = true", "schema", "int"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_key(text: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"agent.toml: {key}: "), caught.value.message
    assert says in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"schema = 2\nnews = 'x'", "agent.toml is for a newer version"),
        (b"name = ", "agent.toml is not TOML"),
        (b"\xff\xfe", "agent.toml is not TOML"),
        (b"x = " + b"[" * 100_000, "agent.toml is not TOML"),
        (b"#" * (MAX_BYTES + 1), "agent.toml is larger than"),
    ],
)
def test_a_damaged_or_newer_file(data: bytes, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(data, "agent.toml")
    assert caught.value.message.startswith(says)
    assert caught.value.message.isprintable()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        parse_config(data, "agent.toml")
    except ConfigError as error:
        assert error.message.isprintable()


def as_toml(value: object) -> str:
    """An inline value of TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


_values = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "bob", "127.0.0.1:80", "5M"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["target", "to", "as", "x"]), inner),
    max_leaves=8,
)
_keys = st.sampled_from([*AgentConfig.__struct_fields__, "other"])


@given(st.dictionaries(_keys, _values, max_size=4))
def test_values_of_every_kind_are_read_or_refused(table: dict[str, object]) -> None:
    try:
        config = parse("".join(f"{key} = {as_toml(value)}\n" for key, value in table.items()))
    except ConfigError as error:
        assert error.message.startswith("agent.toml: ") or "schema" in table
        assert error.message.isprintable()
    else:
        assert config.rate >= 0
