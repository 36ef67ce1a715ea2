"""Files and directories of this user whose mode shuts this user out."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = """
import os, sys
from p2pxfer.net.disk import open_own_directory, open_own_file
here = int(sys.argv[1])
if os.geteuid() == 0:
    os.chown(here, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=here))
os.mkdir("directory", dir_fd=here)
for name in ("file", "directory"):
    os.chmod(name, 0, dir_fd=here)
    try:
        os.open(name, os.O_RDONLY, dir_fd=here)
    except PermissionError:
        pass
    else:
        sys.exit("nobody is shut out")
"""


def as_a_user(parent: Path, task: str) -> dict[str, int]:
    """The modes in ``parent`` after ``task``, in a process whose user is not root, whom no mode shuts out."""
    here = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        argv = [sys.executable, "-c", BEFORE + task, str(here)]
        done = subprocess.run(argv, pass_fds=[here], capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(here)
    assert done.returncode == 0, done.stderr
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in parent.iterdir()}


def test_a_file_that_shuts_its_owner_out_does_so_no_more(tmp_path: Path) -> None:
    modes = as_a_user(tmp_path, 'os.write(open_own_file(b"file", os.O_RDWR, here), b"x")')
    assert modes == {"file": 0o600, "directory": 0}
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_directory_that_shuts_its_owner_out_does_so_no_more(tmp_path: Path) -> None:
    assert as_a_user(tmp_path, 'os.listdir(open_own_directory(b"directory", here))') == {"file": 0, "directory": 0o700}


@pytest.mark.parametrize(
    "call",
    ['open_own_file(b"directory", os.O_RDONLY, here)', 'open_own_directory(b"file", here)'],
    ids=["file", "directory"],
)
def test_what_is_of_another_kind_keeps_its_mode(tmp_path: Path, call: str) -> None:
    task = f"try:\n    {call}\nexcept OSError:\n    pass\nelse:\n    sys.exit('opened')"
    assert as_a_user(tmp_path, task) == {"file": 0, "directory": 0}


def test_a_new_file_is_private(tmp_path: Path) -> None:
    modes = as_a_user(tmp_path, 'open_own_file(b"new", os.O_WRONLY | os.O_CREAT, here)')
    assert modes == {"file": 0, "directory": 0, "new": 0o600}
