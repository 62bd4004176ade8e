"""Watches over a robot's gauges: what an operator is warned of, and what stops the robot.

Tilt, temperatures, battery, residual torques, age of the link, overruns: every gauge of `Health` can be watched.
Drivers come with thresholds of their own, `robot.monitors` of a config changes them or adds others. The body process
looks, so that no other process is needed for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A gauge is watched upwards where `stop` is above `warn`, as a temperature is, and downwards where it is below, as
    a battery is. A `stop` of infinity only warns."""

    warn: float
    stop: float

    def __post_init__(self) -> None:
        if math.isnan(self.warn) or math.isnan(self.stop) or self.warn == self.stop:
            raise ValueError(f"warn: {self.warn!r}: want two different numbers, stop is {self.stop!r}")

    def warns(self, value: float) -> bool:
        """Whether an operator should know; a value that is no number is worth knowing."""
        return not (value < self.warn if self.stop > self.warn else value > self.warn)

    def stops(self, value: float) -> bool:
        """Whether the robot must not go on."""
        return value >= self.stop if self.stop > self.warn else value <= self.stop


DEFAULTS: Mapping[str, Threshold] = {  # what the body process measures of every robot
    "link_age_seconds": Threshold(0.1, math.inf),  # drivers hold and damp by themselves when it grows
    "overrun_ratio": Threshold(0.05, math.inf),
}


def watched(driver: Mapping[str, Threshold], config: Mapping[str, Threshold]) -> dict[str, Threshold]:
    """What is watched of a robot: of every one, what its driver adds, and what its config changes or adds."""
    return {**DEFAULTS, **driver, **config}


class Monitors:
    """Thresholds by gauge; what a robot does not measure is not watched."""

    def __init__(self, thresholds: Mapping[str, Threshold]) -> None:
        self._thresholds = dict(thresholds)

    def look(self, gauges: Mapping[str, float]) -> tuple[tuple[str, ...], str]:
        """What to warn of, and why to stop: empty where there is no reason."""
        watched = [(name, gauges[name], limits) for name, limits in self._thresholds.items() if name in gauges]
        warnings = tuple(f"{name} {value:.4g} (warns at {limits.warn:g})" for name, value, limits in watched
                         if limits.warns(value))
        reasons = [f"{name} {value:.4g}: the limit is {limits.stop:g}; look at the robot, then clear the fault"
                   for name, value, limits in watched if limits.stops(value)]
        return warnings, "; ".join(reasons)
