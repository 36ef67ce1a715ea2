"""Completion as shells ask for it: a real bash, zsh and fish run the script and show what they would offer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pxfer.cli.completing import completed_codes
from p2pxfer.core.contact.wordlist import WORDS
from p2pxfer.core.ids import PeerId
from p2pxfer.net.private.home import Contact, Home
from scripts.product import BIN
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.deadline(240)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    for number, name in enumerate(("bob", "bobby", "carol")):
        Home(path).add_contact(Contact(name, PeerId(bytes([number]) * 32), "code", "2026-11-20"))
    return path


def script(shell: str) -> str:
    done = subprocess.run(
        [BIN / "p2pxfer", "completion", shell], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def offered(home: Path, typed: str, cwd: Path) -> list[str]:
    """What bash offers for the last word of a command line."""
    words = typed.split(" ")
    ask = (
        f"{script('bash')}\n"
        'compopt() { [ "$2" = nospace ] || COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")); }\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        "_p2pxfer_completion p2pxfer; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "P2PXFER_HOME": str(home)}
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], capture_output=True, text=True, env=env, cwd=cwd, check=True, timeout=60
    )
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_contacts_and_files(home: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "borders.txt").write_text("x")
    assert offered(home, "p2pxfer cha", work) == ["chat"]
    assert offered(home, "p2pxfer chat --no-hi", work) == ["--no-history"]
    assert offered(home, "p2pxfer chat b", work) == ["bob", "bobby"]
    assert offered(home, "p2pxfer contacts deny c", work) == ["carol"]
    assert offered(home, "p2pxfer contacts deny carol fi", work) == ["files"]
    assert offered(home, "p2pxfer connect ca", work) == ["carol"]
    assert offered(home, "p2pxfer expose 127.0.0.1:80 --to ca", work) == ["carol"]
    assert offered(home, "p2pxfer send bo", work) == ["borders.txt"]
    assert offered(home, "p2pxfer send borders.txt bo", work) == ["bob", "bobby"]
    assert offered(home, "p2pxfer send borders.txt bord", work) == ["borders.txt"]


def test_bash_completes_the_words_of_a_code(home: Path, tmp_path: Path) -> None:
    assert offered(home, "p2pxfer pair 471101-zeb", tmp_path) == ["471101-zebra-"]
    assert offered(home, "p2pxfer pair 471101-zebra-zo", tmp_path) == ["471101-zebra-zone-", "471101-zebra-zoom-"]
    assert offered(home, "p2pxfer pair 471101-zebra-zone-zi", tmp_path) == ["471101-zebra-zone-zippy"]


def test_a_home_that_is_not_there_or_damaged_offers_nothing_and_is_not_made(home: Path, tmp_path: Path) -> None:
    assert offered(tmp_path / "none", "p2pxfer chat b", tmp_path) == []
    assert not (tmp_path / "none").exists()
    (home / "contacts.json").write_text("{")
    assert offered(home, "p2pxfer chat b", tmp_path) == []


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    """What a shell needs to find the program and the contacts."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "P2PXFER_HOME": str(home)}


def need(shell: str) -> str:
    """Where the shell is; as root, where `scripts/test` installs it, it has to be there."""
    found = shutil.which(shell)
    if found is None:
        assert os.geteuid() != 0, f"{shell} is missing"
        pytest.skip(f"{shell} is not here")
    return found


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("chat b", ["bob", "bobby"]), ("cha", ["chat"]), ("pair 471101-zebra-zone-zi", ["471101-zebra-zone-zippy"])],
)
def test_fish_completes(typed: str, wanted: list[str], env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p2pxfer.fish"
    path.write_text(script("fish"))
    ask = f"source {path}; complete -C 'p2pxfer {typed}'"
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", ask], capture_output=True, text=True, env=env, check=True, timeout=60
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == wanted


def test_zsh_completes_at_a_terminal(env: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "p2pxfer.zsh"
    path.write_text(script("zsh"))
    person = Terminal.of([need("zsh"), "-f", "-i"], {**env, "HOME": str(tmp_path)})
    try:
        person.type(f"autoload -U compinit; compinit -u -D; source {path}; print -r READ''Y")
        person.wait_for(re.compile("READY"))
        person.type("p2pxfer chat car", "\t")
        person.wait_for(re.compile("p2pxfer chat carol "))
    finally:
        person.close()


def test_codes_go_on_word_by_word() -> None:
    assert completed_codes("") == completed_codes("47") == completed_codes("acorn") == completed_codes("x-aco") == []
    assert completed_codes("7-ACO") == ["7-acorn-"]
    assert len(completed_codes("7-")) == len(WORDS)
    assert completed_codes("7-acorn-tulip-zeb") == ["7-acorn-tulip-zebra"]
    assert completed_codes("7-acorn-tulip-zebra-a") == []
    assert completed_codes("7-acorn-nosuch") == []
