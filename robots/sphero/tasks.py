"""What a Sphero can be asked to do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robots.task import Outcome, Task

REACHED = 0.1  # arena units from the goal that count as there
FARTHEST = float(np.sqrt(2.0))  # arena units between opposite corners
EPISODE = 100  # steps


class Navigate(Task):
    """DayDreamer's reward (Wu et al. 2022): minus the distance to the goal, in arena units, as the camera sees it.

    Episodes are cut after 100 steps without a reset: the ball goes on from where it is. A ball that is lost ends the
    episode, and earns what the farthest place would: nothing is known of it, and hiding must not pay.
    """

    def reset(self) -> None:
        """An episode begins."""
        self._steps = 0

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `ball_position`, `ball_lost` and `goal`."""
        self._steps += 1
        if signals["ball_lost"][0]:
            return Outcome(-FARTHEST, is_last=True)
        return Outcome(-distance(signals), is_last=self._steps > EPISODE)


def distance(signals: Mapping[str, np.ndarray]) -> float:
    """Arena units from the ball to its goal; success is at most `REACHED`."""
    return float(np.linalg.norm(signals["ball_position"] - signals["goal"]))
