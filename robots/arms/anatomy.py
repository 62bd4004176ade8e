"""What makes one arm different from another: joints, limits, poses and the table in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robots.arms.kinematics import Chain

Box = tuple[np.ndarray, np.ndarray]
TIP = 0.01  # m from the tool's point to the ends of the fingers
# Corners of the open fingers, of the hand behind them and of the wrist behind that [16, 3] m in the tool's frame, about
# those of Robotiq's 2F-85 and of UFACTORY's gripper. The fingers move along x.
HAND = np.array([(x, y, z) for far, near, z in ((0.0525, 0.011, TIP), (0.06, 0.025, -0.05), (0.06, 0.025, -0.13),
                                                (0.04, 0.04, -0.29))
                 for x in (-far, far) for y in (-near, near)])


@dataclass(frozen=True)
class Anatomy:
    """One model of arm. Arrays are float64 [J]; positions [3] m in the frame of the arm's base, z up."""

    name: str
    chain: Chain  # base to the point between the fingertips
    lower: np.ndarray  # rad, the range that we use: inside the vendor's
    upper: np.ndarray
    velocity: float  # rad/s of every joint, at most
    acceleration: float  # rad/s²
    effort: np.ndarray  # N m, the motors' limits
    home: np.ndarray  # rad: the tool points down above the middle of the workspace
    workspace: Box  # low and high corner of where the tool may be
    bins: tuple[Box, Box]  # left and right: low and high corner, x and y, of where the tool may be in them
    table: float  # m, height of the table, a little below the lowest tool
    hover: float  # m, height at which the tool moves over the bins without touching anything
    model: Path  # MJCF of the arm alone, see `robots.arms.world`
    inner_hz: float  # how often the controller takes a setpoint
