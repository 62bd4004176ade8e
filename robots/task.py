"""A task turns signals into reward and episode ends.

A task reads measured and estimated signals only, never a simulator's truth, so that the same code scores the double and
the robot. It has no clock and moves nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """What arriving at a step earned: `is_last` ends the episode, `is_terminal` says that nothing can follow."""

    reward: float
    is_last: bool = False
    is_terminal: bool = False


class Task(ABC):
    """One robot's goal. `score` is called once per control period with the signals just read."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the running episode."""

    @abstractmethod
    def score(self, signals: Mapping[str, np.ndarray]) -> Outcome:
        """Reward and flags on arriving at these signals."""
