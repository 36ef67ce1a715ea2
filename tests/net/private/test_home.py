from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pxfer.cli.newcontact import store_contact
from p2pxfer.core.contact.rights import Right
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import ConfigError, IdentityMismatch, NameInvalid, NoSpace, UsageError
from p2pxfer.net.private.home import Contact, Home, Settings, default_home
from p2pxfer.net.session.knownpeers import look_up

ANN = Contact("ann", PeerId(bytes([1]) * 32), "code", "2026-11-20")
BOB = Contact("bob", PeerId(bytes([2]) * 32), "id", "2026-11-21")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_environment_names_the_directory() -> None:
    assert default_home({"P2PXFER_HOME": "/somewhere/else"}) == Path("/somewhere/else")
    assert default_home({}).name == "p2pxfer"
    assert default_home({"P2PXFER_HOME": ""}) == default_home({})


def test_everything_in_it_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home(tmp_path / "a" / "home")
        home.identity()
        home.save_settings(Settings("rendezvous.example.org:4000", "ann"))
        home.add_contact(ANN)
        home.add_contact(BOB)
    finally:
        os.umask(before)
    assert mode(home.path) == mode(home.path.parent) == 0o700
    names = sorted(path.name for path in home.path.iterdir())
    assert names == ["contacts.json", "contacts.json.bak", "identity.pem", "lock", "settings.json"]
    assert {mode(path) for path in home.path.iterdir()} == {0o600}


def test_a_directory_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "home"
    for bits in (0o770, 0o702):
        path.mkdir(exist_ok=True)
        path.chmod(bits)
        with pytest.raises(ConfigError, match=f"chmod 700 {path}"):
            Home(path)
    path.chmod(0o755)
    Home(path)


def test_the_home_of_another_user_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser could use it, and its owner's agent could not open what was made in it then."""
    path = tmp_path / "home"
    path.mkdir(0o700)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(ConfigError, match=rf"{path} belongs to another user \(number {mine}\); run this as that user"):
        Home(path)
    assert list(path.iterdir()) == []


def test_a_home_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        Home(tmp_path / "file" / "home")
    with pytest.raises(ConfigError):
        Home(tmp_path / "file").settings()


def test_the_identity_stays(home: Home) -> None:
    assert home.identity() == Home(home.path).identity()


def test_settings_are_empty_until_they_are_stored(home: Home) -> None:
    assert home.settings() == Settings()
    for settings in (Settings("a:1#pin", "ann"), Settings("b:2", None), Settings()):
        home.save_settings(settings)
        assert Home(home.path).settings() == settings


def test_contacts_are_found_by_name_and_by_id(home: Home) -> None:
    assert home.contacts() == []
    assert home.add_contact(BOB) == BOB
    assert home.add_contact(ANN) == ANN
    again = Home(home.path)
    assert again.contacts() == [ANN, BOB]
    assert again.contact("ann") == ANN and again.contact("carol") is None
    assert again.contact_by_id(BOB.id) == BOB and again.contact_by_id(PeerId(bytes(32))) is None


def test_a_key_is_never_replaced(home: Home) -> None:
    home.add_contact(ANN)
    with pytest.raises(IdentityMismatch) as caught:
        home.add_contact(Contact("ann", BOB.id, "code", "2026-11-22"))
    assert str(ANN.id) in caught.value.message and str(BOB.id) in caught.value.message
    assert home.contacts() == [ANN]
    assert home.remove_contact("ann") == ANN
    assert home.add_contact(Contact("ann", BOB.id, "code", "2026-11-22")).id == BOB.id


def test_the_own_key_is_no_contact(home: Home) -> None:
    with pytest.raises(UsageError, match="this machine's own id"):
        home.add_contact(Contact("myself", home.identity().id, "id", "2026-12-01"))
    assert home.contacts() == []


def test_a_known_key_keeps_its_name(home: Home) -> None:
    home.add_contact(BOB)
    assert home.add_contact(Contact("robert", BOB.id, "id", "2026-12-01")) == BOB
    stronger = home.add_contact(Contact("robert", BOB.id, "code", "2026-12-01"))
    assert stronger == Contact("bob", BOB.id, "code", "2026-12-01")
    assert home.add_contact(BOB) == stronger
    assert home.contacts() == [stronger]


def test_what_proves_more_stays(home: Home) -> None:
    home.add_contact(BOB)
    for how in ("code", "words", "code", "id"):
        home.add_contact(Contact("bob", BOB.id, how, "2026-12-01"))
    assert [contact.verified for contact in home.contacts()] == ["words"]


def test_a_known_key_does_not_take_the_name_of_another(home: Home) -> None:
    home.add_contact(ANN)
    home.add_contact(BOB)
    with pytest.raises(IdentityMismatch):
        home.add_contact(Contact("ann", BOB.id, "code", "2026-12-01"))
    assert home.contacts() == [ANN, BOB]


def test_no_contact_is_called_what_is_taken_for_an_id(home: Home) -> None:
    """It could not be named on a command line."""
    with pytest.raises(NameInvalid):
        home.add_contact(Contact("p2px1-foo", BOB.id, "id", "2026-11-21"))
    home.add_contact(BOB)
    with pytest.raises(NameInvalid):
        home.rename_contact("bob", "p2px1-foo")
    assert home.contacts() == [BOB]


@pytest.mark.parametrize("name", ["p2px1-foo", "P2PX1-FOO", "p2px1-" + "a" * 58, "p2px1--", "..p2px1-foo"])
def test_a_peer_that_calls_itself_like_an_id_can_be_named(home: Home, name: str) -> None:
    contact = store_contact(home, BOB.id.digest, name, lambda text: None)
    assert look_up(home, contact.name)[2] == contact


def test_a_contact_can_be_renamed(home: Home) -> None:
    home.add_contact(ANN)
    home.add_contact(BOB)
    renamed = home.rename_contact("ann", "anna")
    assert renamed == Contact("anna", ANN.id, ANN.verified, ANN.added)
    assert home.contacts() == [renamed, BOB]
    assert home.rename_contact("anna", "anna") == renamed
    with pytest.raises(UsageError, match="already"):
        home.rename_contact("anna", "bob")
    with pytest.raises(UsageError, match="no contact"):
        home.rename_contact("ann", "annie")
    with pytest.raises(NameInvalid):
        home.rename_contact("anna", "../anna")
    with pytest.raises(UsageError, match="no contact"):
        home.remove_contact("ann\x1b")
    assert home.contacts() == [renamed, BOB]


@pytest.mark.parametrize("name", ["", "a", "Ann", "ann bob", "../x", "ann\n", "x" * 33])
def test_an_illegal_name_is_not_stored(home: Home, name: str) -> None:
    with pytest.raises(NameInvalid):
        home.add_contact(Contact(name, ANN.id, "code", "2026-11-20"))
    assert home.contacts() == []


CONTACT = {"name": "ann", "id": str(ANN.id), "verified": "code", "added": "2026-11-20"}
BAD = {
    "empty": b"",
    "cut": b'{"schema": 1, "contacts": [',
    "not-utf8": b'{"schema": 1, "contacts": [{"name": "\xff"}]}',
    "list": b"[]",
    "no-schema": b"{}",
    "schema-0": b'{"schema": 0}',
    "schema-text": b'{"schema": "1"}',
    "deep": b"[" * 100_000,
    "unknown-key": b'{"schema": 1, "friends": []}',
    "bad-id": json.dumps({"schema": 1, "contacts": [CONTACT | {"id": "p2px1-aaaa"}]}).encode(),
    "bad-name": json.dumps({"schema": 1, "contacts": [CONTACT | {"name": "../ann"}]}).encode(),
    "bad-how": json.dumps({"schema": 1, "contacts": [CONTACT | {"verified": "hearsay"}]}).encode(),
    "bad-date": json.dumps({"schema": 1, "contacts": [CONTACT | {"added": "yesterday"}]}).encode(),
    "denied-before-its-time": json.dumps({"schema": 1, "contacts": [CONTACT | {"denied": []}]}).encode(),
    "denied-what": json.dumps({"schema": 2, "contacts": [CONTACT | {"denied": ["money"]}]}).encode(),
    "name-twice": json.dumps({"schema": 1, "contacts": [CONTACT, CONTACT | {"id": str(BOB.id)}]}).encode(),
    "id-twice": json.dumps({"schema": 1, "contacts": [CONTACT, CONTACT | {"name": "bob"}]}).encode(),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_store_is_reported_and_left_alone(home: Home, case: str) -> None:
    home.add_contact(ANN)
    home.add_contact(BOB)
    path = home.path / "contacts.json"
    path.write_bytes(BAD[case])
    calls: list[Callable[[], object]] = [
        home.contacts,
        lambda: home.add_contact(ANN),
        lambda: home.remove_contact("ann"),
        lambda: home.rename_contact("ann", "anna"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"damaged.*contacts\.json\.bak"):
            call()
    assert path.read_bytes() == BAD[case]


def test_a_store_of_a_newer_version_is_left_alone(home: Home) -> None:
    newer = {"contacts.json": '{"schema": 3, "new": "things"}', "settings.json": '{"schema": 3, "new": "things"}'}
    for name, text in newer.items():
        (home.path / name).write_text(text)
    calls: list[Callable[[], object]] = [
        home.contacts,
        lambda: home.add_contact(ANN),
        home.settings,
        lambda: home.save_settings(Settings("a:1")),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="newer version"):
            call()
    assert {name: (home.path / name).read_text() for name in newer} == newer


def test_a_store_of_the_first_version_is_read_and_becomes_one_of_the_second(home: Home) -> None:
    path = home.path / "contacts.json"
    old = json.dumps({"schema": 1, "contacts": [CONTACT]})
    path.write_text(old)
    assert home.contacts() == [ANN]
    assert all(ANN.allows(right) for right in Right)
    assert path.read_text() == old
    home.add_contact(BOB)
    assert json.loads(path.read_text())["schema"] == 2
    assert (home.path / "contacts.json.bak").read_text() == old
    assert home.contacts() == [ANN, BOB]


def test_settings_of_the_first_version_are_read(home: Home) -> None:
    path = home.path / "settings.json"
    path.write_text('{"schema": 1, "server": "a:1", "name": "ann"}')
    assert home.settings() == Settings("a:1", "ann", history=True)
    home.save_settings(Settings("a:1", "ann", history=False))
    assert Home(home.path).settings() == Settings("a:1", "ann", history=False)
    assert json.loads(path.read_text())["schema"] == 2
    path.write_text('{"schema": 1, "history": false}')
    with pytest.raises(ConfigError, match="damaged"):
        home.settings()


def test_rights_are_denied_and_allowed_one_by_one(home: Home) -> None:
    home.add_contact(ANN)
    home.add_contact(BOB)
    denied = home.set_rights("bob", [Right.FILES, Right.CHAT], allowed=False)
    assert denied.denied == {Right.FILES, Right.CHAT}
    assert home.contacts() == [ANN, denied]
    assert not denied.allows(Right.FILES) and denied.allows(Right.PIPE)
    # Nothing else gives a right back: neither another name nor another code.
    home.rename_contact("bob", "robert")
    assert home.add_contact(Contact("bob", BOB.id, "code", "2026-12-01")).denied == {Right.FILES, Right.CHAT}
    assert home.set_rights("robert", [Right.FILES, Right.SERVICES], allowed=True).denied == {Right.CHAT}
    assert home.set_rights("robert", Right, allowed=True).denied == frozenset()
    with pytest.raises(UsageError, match="no contact bob"):
        home.set_rights("bob", Right, allowed=False)


def test_the_backup_is_the_version_before(home: Home) -> None:
    home.add_contact(ANN)
    first = (home.path / "contacts.json").read_bytes()
    home.add_contact(BOB)
    backup = home.path / "contacts.json.bak"
    assert backup.read_bytes() == first
    backup.replace(home.path / "contacts.json")
    assert home.contacts() == [ANN]


def test_a_failed_write_changes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.add_contact(ANN)
    before = {path.name: path.read_bytes() for path in home.path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="No space left"):
        home.add_contact(BOB)
    monkeypatch.undo()
    assert home.contacts() == [ANN]
    assert before.items() <= {path.name: path.read_bytes() for path in home.path.iterdir()}.items()
    home.add_contact(BOB)
    assert home.contacts() == [ANN, BOB]


def test_data_is_durable_before_its_name(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.add_contact(ANN)
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append(f"-> {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    home.add_contact(BOB)
    assert steps.index("file") < steps.index("-> contacts.json") < steps.index("directory")
    assert steps.index("-> contacts.json.bak") < steps.index("-> contacts.json")


def test_processes_that_write_at_once_lose_nothing(home: Home) -> None:
    code = (
        "import sys, pathlib\n"
        "from p2pxfer.core.ids import PeerId\n"
        "from p2pxfer.net.private.home import Contact, Home\n"
        f"home, number = Home(pathlib.Path({str(home.path)!r})), int(sys.argv[1])\n"
        "sys.stdin.read(1)\n"
        "for step in range(10):\n"
        "    key = PeerId(bytes([number, step]) * 16)\n"
        "    home.add_contact(Contact(f'peer-{number}-{step}', key, 'id', '2026-11-20'))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=50)
        assert process.returncode == 0
    assert len(home.contacts()) == 30
