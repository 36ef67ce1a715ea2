"""What a command gets besides its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pxfer.cli.inputs import read_code
from p2pxfer.errors import CodeInvalid, UsageError


@pytest.mark.parametrize(
    "written", ["7-acorn-tulip-zebra\n", "7\u2013Acorn\u2013Tulip\u2013Zebra", "\u00a07\u00a0acorn tulip, zebra.\r\n"]
)
def test_a_code_in_a_file_or_the_environment_is_read_as_one_that_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    path = tmp_path / "code"
    path.write_bytes(written.encode())
    assert str(read_code(str(path))) == "7-acorn-tulip-zebra"
    monkeypatch.setenv("P2PXFER_CODE", written)
    assert str(read_code(None)) == "7-acorn-tulip-zebra"


def test_a_code_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code"
    with pytest.raises(UsageError, match=r"code' does not exist$"):
        read_code(str(path))
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory$"):
        read_code(str(tmp_path))
    path.write_bytes(b"7-acorn-tulip-zebra\xff")
    with pytest.raises(UsageError, match="cannot be read as text"):
        read_code(str(path))
    path.write_text("7-\u00e4corn-tulip-zebra", encoding="utf-8")
    with pytest.raises(CodeInvalid):
        read_code(str(path))
