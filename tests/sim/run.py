"""Plays many seeds and says which one failed, and how to see it again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tests.sim.edited import EditedSim
from tests.sim.slow import SlowSim
from tests.sim.stream import StreamSim
from tests.sim.transfer import TransferSim
from tests.sim.world import World


class Simulation(Protocol):
    """A world that a seed makes."""

    world: World

    def run(self) -> None: ...


class Kind(Protocol):
    """Makes one from a seed."""

    def __call__(self, seed: int, /) -> Simulation: ...


KINDS: dict[str, Kind] = {"transfer": TransferSim, "edited": EditedSim, "slow": SlowSim, "stream": StreamSim}


def played(kind: Kind, seed: int) -> tuple[Simulation, Exception | None]:
    """Run one seed to its end; whatever it raises is what was found."""
    sim = kind(seed)
    try:
        sim.run()
    except Exception as error:
        return sim, error
    return sim, None


def first_failure(name: str, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first seed that fails, with what happened and how to replay it."""
    for seed in seeds:
        sim, error = played(KINDS[name], seed)
        if error is not None:
            last = "\n".join(sim.world.trace[-12:])
            how = f"python -m tests.sim {name} {seed}"
            return seed, f"{name}, seed {seed}: {type(error).__name__}: {error}\n{last}\nplay it again: {how}"
    return None
