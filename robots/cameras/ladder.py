"""What to do about a camera that gives no frames: restart it, then reset it, then give it up.

It has no clock and touches nothing: it is told what is seen and says what to do.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from robots.cameras.source import require


@dataclass(frozen=True)
class Patience:
    """Seconds until something is done: without a new frame (`frame`), without the first one after a start (`start`, and
    `reset` more where the camera was reset). After `calm` seconds of frames, troubles before are forgotten."""

    frame: float = 1.0
    start: float = 10.0
    reset: float = 15.0
    calm: float = 30.0

    def __post_init__(self) -> None:
        for name in ("frame", "start", "reset", "calm"):
            require(0 < getattr(self, name) <= 3600, name, getattr(self, name), "above 0, to 3600 s")


class Step(enum.IntEnum):
    """What is to be done now; RESTART and RESET count as done."""

    WAIT = 0
    RESTART = 1
    RESET = 2
    GIVE_UP = 3


class Ladder:
    """Each trouble within `calm` seconds of frames is answered with one step more than the one before."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience, self._number = patience, 0
        self._climbed = Step.WAIT
        self._begin(now, patience.start)

    def look(self, now: float, number: int, alive: bool) -> Step:
        """At `now` [s] the newest frame is `number`, and the camera's process is alive, or has ended."""
        if number != self._number:
            self._number, self._due = number, now + self._patience.frame
            self._first = now if self._first is None else self._first
            if now - self._first >= self._patience.calm:
                self._climbed = Step.WAIT
        if alive and now < self._due:
            return Step.WAIT
        self._climbed = Step(min(self._climbed + 1, Step.GIVE_UP))
        self._begin(now, self._patience.start + self._patience.reset * (self._climbed == Step.RESET))
        return self._climbed

    def _begin(self, now: float, patience: float) -> None:
        self._due, self._first = now + patience, None
