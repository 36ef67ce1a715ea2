"""The server learns from whole programs which way led to a direct path, shows it, and knows it after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.product import Program
from tests.e2e.conftest import Stage, unused_port, wait_until
from tests.scene import first_path, random_file


def path_of_a_transfer(stage: Stage, number: int) -> str:
    """Send a file without a relay; the kind of path that it took."""
    source = stage.folder / f"file-{number}"
    random_file(source, 1 << 16)
    argv = stage.command_line(stage.bob, "receive", "--as", "bob", "--to", stage.inbox, "--once", "--path", "direct")
    with Program(stage.place, "bob", argv, stage.folder / f"bob-{number}.log") as bob:
        bob.wait_for("registered")
        outcome = stage.run("send", source, "bob", "--path", "direct", as_json=True)
        assert outcome.status == 0, outcome
        bob.succeed(30)
    return str(first_path(outcome.events, "direct", "lan", "ipv6")["path"])


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this test alone."""
    with ExitStack() as stack:
        yield unused_port(stack)


def test_what_came_of_a_punch_is_counted_shown_and_kept(tmp_path: Path, port: int) -> None:

    def outcomes() -> dict[tuple[str, ...], float]:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            (labels["one"], labels["other"], labels["way"], labels["result"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "p2pxfer_punch_outcomes" and (labels := sample.labels)
        }

    with Stage(tmp_path) as stage:
        server = stage.start_server("--metrics", f"tcp:{port}")
        stage.make_contacts()
        assert outcomes() == {}
        # A path over another address of this machine is no NAT's doing and is not told: then once more.
        assert "direct" in (path_of_a_transfer(stage, number) for number in range(8))
        wait_until(lambda: sum(outcomes().values()) == pytest.approx(2, abs=0.01))
        # Both sides said so; how long it took depends on the machine.
        assert {key[:3] for key in outcomes()} == {("cone", "cone", "single")}
        assert not any(result == "lost" for *_, result in outcomes())
        server.stop()
        stage.start_server("--metrics", f"tcp:{port}")
        wait_until(lambda: sum(outcomes().values()) == pytest.approx(2, abs=0.01))
    stage.check_logs()
