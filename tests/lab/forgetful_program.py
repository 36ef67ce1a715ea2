"""The ``p2pxfer`` command that soon believes no measurement of a path any more: ``python forgetful_program.py SECONDS
WORDS...``, the product's own entry point with WORDS; a test need not wait for a minute then."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from p2pxfer.cli import main
from p2pxfer.core.session.pathchoice import PathChoice


def forget_after(seconds: float) -> None:
    """Of every path that comes up."""
    real = PathChoice.add

    def add(self: PathChoice, path: int, rank: int, *, group: int = 0, spare: bool = False) -> None:
        real(self, path, rank, group=group, spare=spare)
        self._paths[path].fresh = seconds

    PathChoice.add = add  # type: ignore[method-assign]  # the program's own


if __name__ == "__main__":
    forget_after(float(sys.argv.pop(1)))
    main.main()
