"""What an A1's low-level controller is told and tells, every millisecond."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robots.link import Link


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


A1Link = Link[LowCommand, LowState]
