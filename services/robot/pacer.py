"""Keeps a loop at its rate on a clock, the robot's: it never drifts, and after an overrun goes on without a burst."""

from __future__ import annotations

import time
from collections.abc import Callable

LATE = 0.005  # seconds after its due time from which a period counts as a missed deadline


class Pacer:
    """`wait` returns once per period. `period` of the last wait: seconds between the last two returns; `missed`:
    whether the last return was more than `LATE` after it was due. One thread."""

    def __init__(self, period: float, now: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        self._period, self._now, self._sleep = period, now, sleep
        self.restart()

    def restart(self) -> None:
        """The first period begins with the next wait, at once: nothing before it counts."""
        self._due = self._last = None
        self.period: float | None = None
        self.missed = False

    def left(self) -> float:
        """Seconds until the next period is due."""
        return 0.0 if self._due is None else self._due + self._period - self._now()

    def wait(self) -> None:
        """Sleep until the next period is due."""
        if self._due is None:
            self._due = self._last = self._now()
            return
        self._due += self._period
        while (left := self._due - self._now()) > 0:
            self._sleep(left)
        now = self._now()
        self.period, self._last = now - self._last, now
        self.missed = now - self._due > LATE
        if now - self._due > self._period / 2:
            self._due = now
