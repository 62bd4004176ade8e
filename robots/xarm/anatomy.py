"""The xArm 6 and the xArm 7 with UFACTORY's gripper: joints from the vendor's URDF, bins and heights from DayDreamer's.

The two bend their elbows to opposite sides: joint 3 of the xArm 6 is negative where joint 4 of the xArm 7 is positive.
DayDreamer's heights were those of the flange; ours are those of the tool, 0.172 m further. The used ranges keep the
elbow up and the tool in front of the arm, and the xArm 7, which has a joint to spare, from wandering off.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.kinematics import Chain, transform

QUARTER = np.pi / 2
TOOL = transform((0, 0, 0.172), (0, 0, QUARTER))  # between the fingertips, which open along the flange's y
WORKSPACE = (np.array([0.23, -0.20, 0.010]), np.array([0.54, 0.20, 0.28]))
LEFT = (np.array([0.252, 0.085]), np.array([0.523, 0.175]))
RIGHT = (np.array([0.252, -0.170]), np.array([0.523, -0.075]))


def _anatomy(name: str, origins: list[np.ndarray], lower: list[float], upper: list[float], effort: list[float],
             home: list[float]) -> Anatomy:
    return Anatomy(name, Chain(np.stack(origins), TOOL), np.array(lower), np.array(upper), velocity=1.8,
                   acceleration=12.0, effort=np.array(effort), home=np.array(home), workspace=WORKSPACE,
                   bins=(LEFT, RIGHT), table=-0.010, hover=0.118, model=Path(__file__).with_name(f"{name}.xml"),
                   inner_hz=100.0)


XARM6 = _anatomy(
    "xarm6",
    [transform((0, 0, 0.267)), transform((0, 0, 0), (-QUARTER, 0, 0)), transform((0.0535, -0.2845, 0)),
     transform((0.0775, 0.3425, 0), (-QUARTER, 0, 0)), transform((0, 0, 0), (QUARTER, 0, 0)),
     transform((0.076, 0.097, 0), (-QUARTER, 0, 0))],
    lower=[-1.3, -1.3, -2.2, -1.0, 0.0, -1.3], upper=[1.3, 1.0, 0.1, 1.0, 2.0, 1.3],
    effort=[50, 50, 32, 32, 32, 20], home=[0, -0.27718, -0.82284, 0, 1.10002, 0])
XARM7 = _anatomy(
    "xarm7",
    [transform((0, 0, 0.267)), transform((0, 0, 0), (-QUARTER, 0, 0)), transform((0, -0.293, 0), (QUARTER, 0, 0)),
     transform((0.0525, 0, 0), (QUARTER, 0, 0)), transform((0.0775, -0.3425, 0), (QUARTER, 0, 0)),
     transform((0, 0, 0), (QUARTER, 0, 0)), transform((0.076, 0.097, 0), (-QUARTER, 0, 0))],
    lower=[-1.3, -1.3, -0.4, -0.1, -1.0, 0.0, -1.3], upper=[1.3, 1.0, 0.4, 2.2, 1.0, 2.0, 1.3],
    effort=[50, 50, 30, 30, 30, 20, 20], home=[0, -0.25853, 0, 0.81672, 0, 1.07525, 0])
MODELS = {"xarm6": XARM6, "xarm7": XARM7}
