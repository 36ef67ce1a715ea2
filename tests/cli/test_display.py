"""What the progress display prints above its lines is the text that it was given."""

from __future__ import annotations

import pytest

from p2pxfer.cli.display import ProgressDisplay


@pytest.mark.parametrize(
    "text",
    [":bomb:.txt", "saved a\\", "[red]one[/red] [/] \\[two]", "1.5 MiB of 'words' at http://127.0.0.1:4000", "x" * 300],
)
def test_a_line_above_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    display = ProgressDisplay()
    display.say(text)
    display.close()
    assert text in capsys.readouterr().err.splitlines()
