"""Replay one seed and print what happened: ``python -m tests.sim transfer 17``."""

from __future__ import annotations

import sys

from tests.sim.run import KINDS, played

if __name__ == "__main__":
    kind, seed = sys.argv[1:]
    sim, error = played(KINDS[kind], int(seed))
    print("\n".join(sim.world.trace))
    print("well" if error is None else f"{type(error).__name__}: {error}")
    sys.exit(error is not None)
