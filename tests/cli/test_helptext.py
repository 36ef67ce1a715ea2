"""What ``--help`` says: nothing is cut off, and the exit codes are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from p2pxfer.cli.main import cli
from p2pxfer.core.ids import PeerId
from p2pxfer.errors import P2pxferError, UsageError
from scripts.docslib.directives import error_classes


def help_of(*words: str) -> str:
    return CliRunner().invoke(cli, [*words, "--help"], terminal_width=78).output


def test_the_exit_codes_are_named() -> None:
    _, _, said = help_of().partition("Exit codes: ")
    named = {int(number) for number in re.findall(r"\b(\d+)\s+[a-z]", said)}
    assert named == {0} | {each.exit_code for each in error_classes()} | {P2pxferError.exit_code}


@pytest.mark.parametrize("group", ["agent", "contacts", "jobs"])
def test_no_line_about_a_subcommand_is_cut(group: str) -> None:
    assert "..." not in help_of(group).partition("Commands:")[2]


def test_a_contact_in_swapped_order_is_told_the_order(tmp_path: Path) -> None:
    peer = str(PeerId(bytes(32)))
    done = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "contacts", "add", peer, "bob"])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == "NAME comes first: p2pxfer contacts add NAME PEER_ID"
