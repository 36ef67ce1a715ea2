"""A transfer over a line on which every path is cut before a single chunk can have come."""

from __future__ import annotations

from tests.sim.transfer import KIB, TransferSim

LINE = 50.0 * KIB
"""Bytes a second: a chunk of 64 KiB takes 1.28 seconds."""
LIFE = 0.4, 1.1
"""Seconds from one cut to the next."""


class SlowSim(TransferSim):
    """Nothing can come whole, and still it ends; now and then a process dies too, and with the receiver its part."""

    line = LINE

    def draw_sizes(self) -> list[int]:
        rng = self.world.rng
        return [rng.choice([64, 65, 200]) * KIB for _ in range(rng.randint(1, 3))]

    def draw_faults(self) -> None:
        rng = self.world.rng
        for _ in range(rng.randint(0, 3)):
            self.world.after(rng.uniform(0.0, 8.0), rng.choice([self.kill_sender, self.kill_receiver]))
        self._cut_again()

    def _cut_again(self) -> None:
        self.cut_all()
        self.world.after(self.world.rng.uniform(*LIFE), self._cut_again)

    def run(self) -> None:
        super().run()
        assert self.rests, "no chunk went on where it was cut"
