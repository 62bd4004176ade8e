"""The UR5e, and the UR5 of the CB3 series, with a Robotiq 2F-85: joints from UR's published figures, bins and heights
from DayDreamer's.

Positions are in the frame that the controller calls base. The used ranges keep the elbow above the table and the tool
in front of the arm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robots.arms.anatomy import Anatomy
from robots.arms.kinematics import denavit_hartenberg, transform

QUARTER = np.pi / 2
TOOL = transform((0, 0, 0.15))  # between the 2F-85's fingertips, a centimetre before their ends
LOWER = np.array([0.0, -2.3, 0.4, -3.0, -2.2, -0.7])
UPPER = np.array([2.0, -0.4, 2.7, -0.9, -0.9, 2.5])
EFFORT = np.array([150.0, 150.0, 150.0, 28.0, 28.0, 28.0])
WORKSPACE = (np.array([-0.475, -0.66, -0.010]), np.array([0.068, -0.34, 0.25]))
LEFT = (np.array([-0.125, -0.64]), np.array([0.048, -0.36]))
RIGHT = (np.array([-0.455, -0.64]), np.array([-0.285, -0.36]))


def _anatomy(name: str, rows: list[tuple[float, float, float]], home: list[float]) -> Anatomy:
    return Anatomy(name, denavit_hartenberg(rows, TOOL), LOWER, UPPER, velocity=1.5, acceleration=8.0, effort=EFFORT,
                   home=np.array(home), workspace=WORKSPACE, bins=(LEFT, RIGHT), table=-0.030, hover=0.12,
                   model=Path(__file__).with_name(f"{name}.xml"), inner_hz=125.0)


UR5E = _anatomy("ur5e", [(0, 0.1625, QUARTER), (-0.425, 0, 0), (-0.3922, 0, 0), (0, 0.1333, QUARTER),
                         (0, 0.0997, -QUARTER), (0, 0.0996, 0)], [0.9348, -1.3551, 1.9143, -2.1300, -QUARTER, 0.9348])
UR5 = _anatomy("ur5", [(0, 0.089159, QUARTER), (-0.425, 0, 0), (-0.39225, 0, 0), (0, 0.10915, QUARTER),
                       (0, 0.09465, -QUARTER), (0, 0.0823, 0)], [0.9807, -1.3961, 1.8034, -1.9781, -QUARTER, 0.9807])
MODELS = {"ur5e": UR5E, "ur5": UR5}
