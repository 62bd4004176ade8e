"""What makes one quadruped different from another: joints, gains, poses and the kinematics of its legs.

SI, radians; body frame x forward, y left, z up. Joints are ordered FR, FL, RR, RL, each hip (abduction), thigh, calf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LEGS = ("FR", "FL", "RR", "RL")
JOINTS = tuple(f"{leg} {joint}" for leg in LEGS for joint in ("hip", "thigh", "calf"))
SIDES = np.array([-1.0, 1.0, -1.0, 1.0])  # of the body, per leg: right, left

Reach = tuple[np.ndarray, np.ndarray]  # the angles of the actions -1 and 1


@dataclass(frozen=True)
class Anatomy:
    """One model of quadruped. Arrays are float64 [12] unless said otherwise."""

    name: str
    lower: np.ndarray  # rad
    upper: np.ndarray
    torque: np.ndarray  # N m, the motors' limits
    trip: np.ndarray  # N m, measured: a fault
    speed: float  # rad/s, every motor
    kp: np.ndarray  # N m/rad and N m s/rad: the gains of the motors' position loops
    kd: np.ndarray
    damping: np.ndarray  # N m s/rad, all that a damped robot does
    window: float  # rad between setpoint and measured angle, at most
    reaches: Mapping[str, Reach]  # what actions may reach: `range`, and `nominal`, a smaller one around standing
    stand_action: np.ndarray  # in `range`
    folded: np.ndarray  # rad, lying on its belly
    hips: np.ndarray  # [4, 2] m, x and y of the hip joint per leg
    offset: float  # m, hip axis to leg plane
    thigh: float  # m
    calf: float  # m, to the centre of the foot
    model: Path  # MJCF

    @property
    def stand(self) -> np.ndarray:
        """Joint angles of standing [rad]."""
        return self.to_angles(self.stand_action)

    def to_angles(self, action: np.ndarray, reach: str = "range") -> np.ndarray:
        """Actions [..., 12] in [-1, 1] to joint angles [rad]."""
        low, high = self.reaches[reach]
        return low + (np.asarray(action, float) + 1) / 2 * (high - low)

    def to_action(self, angles: np.ndarray, reach: str = "range") -> np.ndarray:
        """The inverse of `to_angles`; beyond [-1, 1] outside the reach."""
        low, high = self.reaches[reach]
        return (np.asarray(angles, float) - low) / (high - low) * 2 - 1

    def feet(self, angles: np.ndarray, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joint angles and velocities [12] to positions and velocities of the feet in the body frame, [4, 3] each."""
        hip, thigh, calf = angles.reshape(4, 3).T
        hip_rate, thigh_rate, calf_rate = velocities.reshape(4, 3).T
        knee, shank_rate = thigh + calf, thigh_rate + calf_rate
        upper, shank = self.thigh, self.calf
        # In the leg's plane: x forward, d along the leg's plane away from the hip axis.
        x = -(upper * np.sin(thigh) + shank * np.sin(knee))
        d = -(upper * np.cos(thigh) + shank * np.cos(knee))
        x_rate = -(upper * np.cos(thigh) * thigh_rate + shank * np.cos(knee) * shank_rate)
        d_rate = upper * np.sin(thigh) * thigh_rate + shank * np.sin(knee) * shank_rate
        side, sin, cos = SIDES * self.offset, np.sin(hip), np.cos(hip)
        y, z = side * cos - d * sin, side * sin + d * cos
        positions = np.stack([self.hips[:, 0] + x, self.hips[:, 1] + y, z], 1)
        rates = np.stack([x_rate, -z * hip_rate - d_rate * sin, y * hip_rate + d_rate * cos], 1)
        return positions, rates


def share_of(lower: np.ndarray, upper: np.ndarray, low: np.ndarray, high: np.ndarray) -> Reach:
    """The angles at these shares of the joints' range."""
    return lower + low * (upper - lower), lower + high * (upper - lower)
