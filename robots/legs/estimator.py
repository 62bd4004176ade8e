"""Base velocity from what a legged robot measures: the accelerometer, and the standing feet against its drift.

A complementary filter. Between updates the accelerometer is integrated in the body frame; every foot that carries
weight is taken to stand still, so the body moves against it with minus the foot's velocity, and the estimate is pulled
there.
"""

from __future__ import annotations

import math

import numpy as np

from robots.legs.anatomy import Anatomy

GRAVITY = 9.81
CONTACT = 20.0  # DayDreamer's threshold on the A1's foot force
PULL = 0.05  # s: time constant towards the odometry of the standing feet
DECAY = 0.5  # s: without a foot on the ground the estimate goes back to rest


def up(quaternion: np.ndarray) -> np.ndarray:
    """The world's vertical [3] in the body frame, from a wxyz quaternion."""
    w, x, y, z = quaternion
    return np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])


class VelocityEstimator:
    """`update` every few milliseconds; `velocity` [3] m/s in the body frame. `contact`: what a standing foot feels."""

    def __init__(self, anatomy: Anatomy, contact: float = CONTACT) -> None:
        self.velocity, self._feet, self._contact = np.zeros(3), anatomy.feet, contact

    def reset(self) -> None:
        """Forget: at rest."""
        self.velocity = np.zeros(3)

    def update(self, seconds: float, q: np.ndarray, dq: np.ndarray, up: np.ndarray, gyro: np.ndarray,
               acceleration: np.ndarray, foot_force: np.ndarray) -> np.ndarray:
        """`seconds` since the last update, over which `acceleration` is the mean; the rest is newest."""
        v = self.velocity
        v = v + seconds * (acceleration - GRAVITY * up - _cross(gyro, v))
        standing = foot_force > self._contact
        if standing.any():
            positions, rates = self._feet(q, dq)
            odometry = -(rates + _cross(gyro, positions))[standing].mean(0)
            v = v + (1 - math.exp(-seconds / PULL)) * (odometry - v)
        else:
            v = v * math.exp(-seconds / DECAY)
        self.velocity = v
        return v


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [3] x b [..., 3]; numpy's own is ten times slower for arrays this small."""
    skew = np.array([[0.0, -a[2], a[1]], [a[2], 0.0, -a[0]], [-a[1], a[0], 0.0]])
    return b @ skew.T
