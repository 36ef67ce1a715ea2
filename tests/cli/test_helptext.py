"""What ``--help`` says: nothing is cut off, and the exit codes are there."""

from __future__ import annotations

import re

from click.testing import CliRunner

from p2pxfer.cli.main import cli
from p2pxfer.errors import P2pxferError
from scripts.docslib.directives import error_classes


def help_of(*words: str) -> str:
    return CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output


def test_the_exit_codes_are_named() -> None:
    _, _, said = help_of().partition("Exit codes: ")
    named = {int(number) for number in re.findall(r"\b(\d+)\s+[a-z]", said)}
    assert named == {0} | {each.exit_code for each in error_classes()} | {P2pxferError.exit_code}
