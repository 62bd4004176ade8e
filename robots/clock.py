"""A robot's own clock where its owner ticks it in real time: a double's may run faster or slower than the wall's."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Runs `speed` times as fast as the wall's clock. A new speed counts from now on: what the clock shows never jumps
    and never goes back. One thread calls `run_at`, any thread the others. `wall`: monotonic nanoseconds."""

    def __init__(self, speed: float = 1.0, wall: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        start = wall()
        self._since = start, round(start * speed), speed  # one value, so that no reader meets half of a change

    @property
    def speed(self) -> float:
        """Of the robot's seconds, how many go by in one of the wall's."""
        return self._since[2]

    def run_at(self, speed: float) -> None:
        """From now on, run this fast."""
        wall, then, before = self._since
        now = self._wall()
        self._since = now, then + round((now - wall) * before), speed

    def now(self) -> int:
        """The robot's time [ns]."""
        wall, then, speed = self._since
        return then + round((self._wall() - wall) * speed)

    def seconds(self) -> float:
        """The robot's time [s]."""
        return self.now() * 1e-9
