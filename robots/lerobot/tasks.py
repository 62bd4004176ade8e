"""A task that every LeRobot robot can do: the quick check that signs, ranges and units are right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robots.task import Outcome, Task


class Centre(Task):
    """Everything that is commanded in the middle of its range: 1 per step there, 0 at the ends."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reads `position`."""
        return Outcome(1 - float(np.abs(signals["position"]).mean()))
