"""The examples for programs that use this one as a library, run as they are."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from scripts.product import BIN
from tests.e2e.conftest import Outcome, Stage

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def environment(stage: Stage, home: Path) -> dict[str, str]:
    return {**os.environ, "P2PXFER_HOME": str(home), "P2PXFER_SERVER": stage.address}


def example(stage: Stage, home: Path, name: str, *words: str) -> Outcome:
    argv = [str(BIN / "python"), str(EXAMPLES / name), *words]
    ended = subprocess.run(
        argv, env=environment(stage, home), capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.deadline(120)
def test_an_echo(pair: Stage) -> None:
    server = pair.start(
        BIN / "python", EXAMPLES / "echo_server.py", "bob", env=environment(pair, pair.alice), stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    assert server.stdout.readline().startswith(b"this is p2px1-")
    for _ in range(2):
        assert example(pair, pair.bob, "echo_client.py", "alice") == Outcome(0, "hello through two NATs\n", "")


class Page(http.server.SimpleHTTPRequestHandler):
    """Says nothing of its own."""

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


@pytest.mark.deadline(120)
def test_a_web_page(pair: Stage) -> None:
    (pair.folder / "site").mkdir()
    (pair.folder / "site" / "index.html").write_text("a page behind NAT")
    handler = partial(Page, directory=str(pair.folder / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            target = f"127.0.0.1:{web.server_port}"
            exposing = pair.program("alice", pair.alice, "expose", target, "--to", "bob", "--as", "web")
            exposing.wait_for("exposed")
            outcome = example(pair, pair.bob, "web_client.py", "alice", "web", "/index.html")
            # On standard error Twisted's readBody complains about Twisted's transport for it.
            assert (outcome.status, outcome.out) == (0, "a page behind NAT\n")
        finally:
            web.shutdown()


def test_a_contact_that_nobody_knows(pair: Stage) -> None:
    outcome = example(pair, pair.bob, "echo_client.py", "carol")
    assert outcome.status == 1
    assert "carol is not a contact" in outcome.err
