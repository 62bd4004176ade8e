"""The wire to one A1, as its low-level controller sees it: a command out, a state in, every millisecond.

Everything above the link (filter, interpolation, limits, estimator, signals) is the same code on hardware and double.
The double is the only link that comes with the project. One to hardware is given to `A1Driver` as `link`, by a subclass
that a config names as `module:Class`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class LowState(NamedTuple):
    """What the robot measures. `time` is when it was received [ns]; foot forces in newton; IMU in the body frame."""

    time: int
    q: np.ndarray  # [12] rad
    dq: np.ndarray  # [12] rad/s
    tau: np.ndarray  # [12] N m
    quaternion: np.ndarray  # [4] wxyz
    gyro: np.ndarray  # [3] rad/s
    acceleration: np.ndarray  # [3] m/s², what an accelerometer feels: +9.81 upwards at rest
    foot_force: np.ndarray  # [4] N


class LowCommand(NamedTuple):
    """Per motor: wanted angle and the two gains of its position loop, tau = kp (q - angle) - kd velocity."""

    q: np.ndarray
    kp: np.ndarray
    kd: np.ndarray


class Link(ABC):
    """Opened and used by the thread that ticks the driver."""

    @abstractmethod
    def open(self, timeout: float) -> LowState:
        """The first state, or LinkLost after `timeout` seconds."""

    @abstractmethod
    def exchange(self, command: LowCommand) -> LowState:
        """Send a command, return the newest state; a double advances by one millisecond."""

    @abstractmethod
    def now(self) -> int:
        """The clock of `LowState.time` [ns]."""

    @abstractmethod
    def close(self) -> None:
        """The motors are left without a command."""

    def extras(self) -> dict[str, np.ndarray]:
        """Signals that only this link has: `image` and `depth` of a camera, `disturbances` of a double."""
        return {}

    def true_velocity(self) -> np.ndarray | None:
        """Of the trunk in its own frame [m/s], where it is known: to judge the estimate by, on a double only."""
        return None

    def keep_pace(self) -> None:
        """As Driver.keep_pace: slow work belongs on threads from the next `open` on."""

    def reseed(self, seed: int) -> None:
        """As Driver.reseed."""
