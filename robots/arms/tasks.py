"""What an arm can be asked to do; both tasks read what the arm measures, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from robots.task import Outcome, Task

NEAR = 0.1  # m at which a reach earns 1/e
GRASPED, DROPPED, PLACED = 1.0, -1.0, 10.0


class Reach(Task):
    """The tool should be where `target` is: exp(-distance / 0.1 m), 1 at the target. It never ends."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `tool_position` and `target`."""
        return Outcome(math.exp(-float(np.linalg.norm(signals["tool_position"] - signals["target"])) / NEAR))


class PickPlace(Task):
    """Objects should go from one bin to the other, as DayDreamer's robots learned it (Wu et al. 2022): +1 for a grasp,
    +10 for letting go over the other bin, -1 for letting go anywhere else. It never ends."""

    def reset(self) -> None:
        """What is held now was not grasped in this episode."""
        self._held = self._from = None

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `holding` and `side`."""
        holding, side = bool(signals["holding"][0]), tuple(bool(over) for over in signals["side"])
        held, self._held = self._held, holding
        if held is None or holding == held:
            return Outcome(0.0)
        if holding:
            self._from = side
            return Outcome(GRASPED)
        grasped_in, self._from = self._from, None
        if grasped_in is None:
            return Outcome(0.0)
        return Outcome(PLACED if any(side) and any(grasped_in) and side != grasped_in else DROPPED)
