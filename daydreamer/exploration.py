"""How a robot moves before there are weights: at random, with large actions that are held for a while. NumPy only.

Both matter. A joint that gets a new target every period averages them out and hardly moves; and a sum of many small
motions seldom turns a robot over. On its back, in two minutes, the A1 double is upright 2 % of the time with uniform
actions held for 0.25 s, 24 % with these (arcsine distributed: densest at the ends of a joint's range) held for 0.6 s.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

HOLD = 0.6  # seconds for which a robot holds one action


class Explorer:
    """`action()` once per control period, each held for `hold` periods; the same seed explores the same way."""

    def __init__(self, space: spaces.Box | spaces.Discrete, hold: int, seed: int) -> None:
        self._space, self._random = space, np.random.default_rng(seed)
        self._hold = max(1, hold) if isinstance(space, spaces.Box) else 1
        self._left = 0
        self._action: np.ndarray | None = None

    def action(self) -> np.ndarray:
        """Float [A] inside the Box, or int64 [] of a Discrete space."""
        if self._left == 0:
            self._left, self._action = self._hold, self._draw()
        self._left -= 1
        return self._action

    def _draw(self) -> np.ndarray:
        space = self._space
        if isinstance(space, spaces.Discrete):
            return np.asarray(self._random.integers(space.start, space.start + space.n), space.dtype)
        swing = 0.5 + 0.5 * np.cos(np.pi * self._random.uniform(size=space.shape))
        return (space.low + swing * (space.high - space.low)).astype(space.dtype)
