"""The last minute of a robot, as the live view shows it: reward per step, its course, the rate of the control loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from services.coordinator.status import BINS

WINDOW = 60.0  # seconds
SAMPLE = 1.0  # seconds between samples
RATE_WINDOW = 5.0  # seconds


@dataclass(frozen=True)
class Sample:
    """Totals at one moment; `periods`: control periods, as of `clock` [s] of the robot's own clock."""

    time: float
    steps: float
    reward: float
    periods: float
    clock: float = 0.0


class Recent:
    """Samples of the totals of one robot, or of all together. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Enter the totals as they are now; more often than `SAMPLE` is ignored."""
        if self._samples and sample.time - self._samples[-1].time < SAMPLE * 0.9:
            return
        self._samples.append(sample)
        while sample.time - self._samples[0].time > WINDOW:
            self._samples.popleft()

    def reward_per_step(self) -> float | None:
        """Over the last minute; None without steps."""
        return reward_per_step(self._samples[0], self._samples[-1]) if self._samples else None

    def history(self) -> list[float | None]:
        """The last minute in `BINS` parts, oldest first."""
        if not self._samples:
            return [None] * BINS
        edges = [self._at(self._samples[-1].time - WINDOW + i * WINDOW / BINS) for i in range(BINS + 1)]
        return [reward_per_step(a, b) for a, b in zip(edges, edges[1:])]

    def rate(self) -> float | None:
        """Control periods per second over the last seconds, by the robot's clock; 0 where it reported nothing new."""
        if len(self._samples) < 2:
            return None
        last = self._samples[-1]
        first = self._at(last.time - RATE_WINDOW)
        return (last.periods - first.periods) / (last.clock - first.clock) if last.clock > first.clock else 0.0

    def _at(self, time: float) -> Sample:
        """The last sample not after `time`, or the oldest."""
        before = [sample for sample in self._samples if sample.time <= time]
        return before[-1] if before else self._samples[0]


def reward_per_step(before: Sample, after: Sample) -> float | None:
    """Between two samples; None without steps."""
    steps = after.steps - before.steps
    return (after.reward - before.reward) / steps if steps > 0 else None
