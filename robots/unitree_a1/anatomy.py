"""The A1 in numbers: joints, gains, poses and leg kinematics. SI, radians; body frame x forward, y left, z up.

Joints are ordered FR, FL, RR, RL, each hip (abduction), thigh, calf. Sources: the robot's published description and the
settings DayDreamer ran it with (Wu et al. 2022, section 4.1 and its released code).
"""

from __future__ import annotations

import numpy as np

LEGS = ("FR", "FL", "RR", "RL")
JOINTS = tuple(f"{leg} {joint}" for leg in LEGS for joint in ("hip", "thigh", "calf"))
LOWER = np.tile([-0.802851, -1.0472, -2.69653], 4)
UPPER = np.tile([0.802851, 4.18879, -0.916298], 4)
TORQUE = 33.5  # N m, every motor
SPEED = 16.0  # rad/s, every motor

KP = np.full(12, 80.0)
KD = np.tile([1.0, 2.0, 2.0], 4)
DAMPING_KD = np.full(12, 4.0)  # all that a damped robot does
WINDOW = 0.2  # rad between setpoint and measured angle: at most 16 N m from the spring term

# The share of each joint's range that actions use, and where -1 and 1 lie.
USED_LOW = LOWER + np.tile([0.01, 0.01, 0.01], 4) * (UPPER - LOWER)
USED_HIGH = LOWER + np.tile([0.99, 0.90, 0.60], 4) * (UPPER - LOWER)

# A smaller share, around standing: what Walk in the Park learns to walk with (Smith et al. 2022, its released code).
NOMINAL = np.tile([0.05, 0.7, -1.4], 4)
SWING = np.tile([0.2, 0.4, 0.4], 4)

Reach = tuple[np.ndarray, np.ndarray]
REACHES: dict[str, Reach] = {"range": (USED_LOW, USED_HIGH), "nominal": (NOMINAL - SWING, NOMINAL + SWING)}
RANGE = REACHES["range"]

STAND_ACTION = np.tile([0.0, -0.2, 1.0], 4)
FOLDED = np.tile([0.0, 1.1776, -2.69], 4)

HIPS = np.array([[0.183, -0.047], [0.183, 0.047], [-0.183, -0.047], [-0.183, 0.047]])  # x, y of the hip joint per leg
SIDES = np.array([-1.0, 1.0, -1.0, 1.0])
OFFSET = 0.08505  # hip axis to leg plane
LINK = 0.2  # thigh, and calf to the centre of the foot


def to_angles(action: np.ndarray, reach: Reach = RANGE) -> np.ndarray:
    """Actions [..., 12] in [-1, 1] to joint angles [rad]; `reach`: the angles of -1 and 1."""
    low, high = reach
    return low + (np.asarray(action, float) + 1) / 2 * (high - low)


def to_action(angles: np.ndarray, reach: Reach = RANGE) -> np.ndarray:
    """The inverse of `to_angles`; beyond [-1, 1] outside the reach."""
    low, high = reach
    return (np.asarray(angles, float) - low) / (high - low) * 2 - 1


STAND = to_angles(STAND_ACTION)


def feet(angles: np.ndarray, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles and velocities [12] to positions and velocities of the feet in the body frame, [4, 3] each."""
    hip, thigh, calf = angles.reshape(4, 3).T
    hip_rate, thigh_rate, calf_rate = velocities.reshape(4, 3).T
    knee, shank_rate = thigh + calf, thigh_rate + calf_rate
    # In the leg's plane: x forward, d along the leg's plane away from the hip axis.
    x = -LINK * (np.sin(thigh) + np.sin(knee))
    d = -LINK * (np.cos(thigh) + np.cos(knee))
    x_rate = -LINK * (np.cos(thigh) * thigh_rate + np.cos(knee) * shank_rate)
    d_rate = LINK * (np.sin(thigh) * thigh_rate + np.sin(knee) * shank_rate)
    side, sin, cos = SIDES * OFFSET, np.sin(hip), np.cos(hip)
    y, z = side * cos - d * sin, side * sin + d * cos
    positions = np.stack([HIPS[:, 0] + x, HIPS[:, 1] + y, z], 1)
    rates = np.stack([x_rate, -z * hip_rate - d_rate * sin, y * hip_rate + d_rate * cos], 1)
    return positions, rates
