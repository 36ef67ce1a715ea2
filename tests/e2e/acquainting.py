"""How people of a stage get to know each other, and whom they know."""

from __future__ import annotations

from pathlib import Path

from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact, Home
from tests.e2e.conftest import Outcome, Stage
from tests.scene import WORDS

CODE = f"1-{WORDS}"


def send_with_code(stage: Stage, source: Path, how: str, as_json: bool = False) -> Outcome:
    """Alice sends to bob with a code from the environment or a file."""
    if how == "environment":
        return stage.run("send", source, "bob", env={"P2PXFER_CODE": CODE}, as_json=as_json)
    file = stage.folder / "code.txt"
    file.write_text(f"{CODE}\n")
    return stage.run("send", source, "bob", "--code-file", file, as_json=as_json)


def contacts_of(home: Path) -> dict[str, tuple[str, str]]:
    """Name -> id, and how it was verified."""
    return {contact.name: (str(contact.id), contact.verified) for contact in Home(home).contacts()}


def pair_up(stage: Stage, name: str = "alice") -> None:
    """Alice, who calls herself ``name``, and bob get to know each other by a code and a small file."""
    assert stage.run("init", "--as", name).status == 0
    bob = stage.receive("--once", "--code", WORDS)
    source = stage.folder / "first.txt"
    source.write_text("first\n")
    assert send_with_code(stage, source, "environment").status == 0
    bob.succeed(40)


def befriend(stage: Stage, name: str) -> Path:
    """One more contact of alice, who knows her as well; returns its home."""
    home = stage.folder / f"{name}-home"
    for mine, theirs, called in ((home, stage.alice, "alice"), (stage.alice, home, name)):
        peer = PeerId(Home(theirs).identity().id.digest)
        Home(mine).add_contact(Contact(called, peer, "code", "2026-11-21"))
    return home
