"""What a quadruped's low-level controller is told and tells, every inner period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robots.link import Link

INNER_HZ = {"direct": 1000.0, "protocol": 500.0, "hardware": 500.0}  # by kind of link
ROOM = 25.0  # °C


class LowState(NamedTuple):
    """What the robot measures. `time` is when it was received [ns]; IMU in the body frame. `foot_force` is in newton
    from a double, in counts of about a newton from the robot. `temperature` [°C] is that of the hottest motor; `held`:
    whoever holds the deadman's button allows motion; `fault`: why the robot must not go on, or empty."""

    time: int
    q: np.ndarray  # [12] rad
    dq: np.ndarray  # [12] rad/s
    tau: np.ndarray  # [12] N m
    quaternion: np.ndarray  # [4] wxyz
    gyro: np.ndarray  # [3] rad/s
    acceleration: np.ndarray  # [3] m/s², what an accelerometer feels: +9.81 upwards at rest
    foot_force: np.ndarray  # [4]
    temperature: float = ROOM
    held: bool = True
    fault: str = ""


class LowCommand(NamedTuple):
    """Per motor: wanted angle and the two gains of its position loop, tau = kp (q - angle) - kd velocity."""

    q: np.ndarray
    kp: np.ndarray
    kd: np.ndarray


class LegsLink(Link[LowCommand, LowState]):
    """See Link. A command without position gains damps."""

    def halt(self) -> None:
        """Damp at once, also where nobody exchanges any more; from any thread, never raises. A double in this process
        moves only when it is exchanged with, so it has nothing to do."""
