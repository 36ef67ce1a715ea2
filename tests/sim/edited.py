"""Transfers whose files change in place, in the same size and time, while their sender is killed and started again."""

from __future__ import annotations

from tests.sim.transfer import TransferSim


class EditedSim(TransferSim):
    """What a dead sender has under way is of other bytes than what the next one sends."""

    edited = 1.0

    def draw_faults(self) -> None:
        """In the middle of what is sent, and perhaps what befalls any transfer."""
        rng = self.world.rng
        if rng.random() < 0.5:
            super().draw_faults()
        for _ in range(rng.randint(1, 3)):
            self.world.after(rng.uniform(0.1, 1.5), rng.choice([self.edit, self._edit_for_good]))

    def _edit_for_good(self) -> None:
        self.turn(self.largest)

    def turn(self, file: int) -> None:
        """Mostly the next sender is there before what the dead one has under way."""
        dead = self.sender
        super().turn(file)
        if self.sender is not dead and self.world.rng.random() < 0.7:
            self.network.connect(self.sender, self.receiver, delay=0.001)
