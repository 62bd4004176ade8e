"""How fast the learner learns while it has something to train on. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from services.wire.messages import Telemetry

LONGEST_PAUSE = 60.0  # seconds without an update after which the learner counts as having had nothing to train on


@dataclass
class Training:
    """`updates` made in `seconds`, over all starts of the learner, each from its first reported update to its last.

    `boot`, `time` and `reached`: the start that goes on, when its newest update was reported [s of the learner's clock;
    None before the first], and how many there were then.
    """

    updates: float = 0.0
    seconds: float = 0.0
    boot: str = ""
    time: float | None = None
    reached: float = 0.0

    def take(self, report: Telemetry) -> None:
        """Enter what a learner reports."""
        if (reached := report.values.get("learner_updates")) is None:
            return
        boot, time = report.boot.hex(), report.time / 1e9
        if boot != self.boot or reached < self.reached:  # it began anew, or went back to a checkpoint
            self.boot, self.time, self.reached = boot, None, reached
        if reached > self.reached:
            if self.time is not None and time - self.time <= LONGEST_PAUSE:
                self.updates += reached - self.reached
                self.seconds += time - self.time
            self.time, self.reached = time, reached

    @property
    def rate(self) -> float | None:
        """Updates per second; None before there were two reports of updates."""
        return self.updates / self.seconds if self.seconds else None
